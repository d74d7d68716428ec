"""The kernels of an entry as device schedules and source texts: one of each shape class, and which one a call takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.instantiation import policies_for
from kernelagent.dsl.level2.module import ScheduledModule, check_target
from kernelagent.dsl.level2.normal import normal_form
from kernelagent.dsl.lower.device import Machine, lower_device
from kernelagent.dsl.lower.device.policy import Policy, dropped, refuse_unordered
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.schedule import Choice, Guard
from kernelagent.dsl.targets.calls import Choices, ConcreteCall, concrete_calls
from kernelagent.dsl.targets.cuda.archs import arch as arch_named
from kernelagent.dsl.targets.cuda.artifact import guard_text
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.emit_hopper import maps
from kernelagent.dsl.targets.cuda.held import refuse_unheld
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch
from kernelagent.dsl.targets.cuda.widths import limits
from kernelagent.dsl.widths import Limits


@dataclass(frozen=True)
class DeviceCode:
    """A schedule and the body emitted from it."""

    schedule: dev.DeviceKernel
    body: str


@dataclass(frozen=True)
class DeviceUnit:
    """One kernel call. `classes`: the most demanding shape class first, the one without guards last."""

    item: ConcreteCall
    classes: tuple[DeviceCode, ...]

    @cached_property
    def limits(self) -> tuple[Limits, ...]:
        """Of each class: which sizes its indices do not suffice for."""
        return tuple(limits(code.schedule, self.item.kernel.assumes) for code in self.classes)


@dataclass(frozen=True)
class Placed:
    """Where an array lies: what guards ask about. Strides in elements, `address` in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def device_units(module: ir.Module, choices: Choices, arch: str) -> tuple[DeviceUnit, ...]:
    """Lower and emit every kernel of the entry for an architecture; a level-two text is emitted as it stands.

    Raises KernelError.
    """
    if isinstance(module, ScheduledModule):
        check_target(module, arch)
        return (_written(module),)
    return tuple(_unit(item, arch) for item in concrete_calls(module, choices, arch))


def _written(module: ScheduledModule) -> DeviceUnit:
    kernel = module.kernels[0]
    refuse_unheld([module.schedule])
    try:
        return DeviceUnit(ConcreteCall(kernel, None), (DeviceCode(module.schedule, emit(module.schedule)),))
    except (Unsupported, LayoutMismatch) as lack:
        message = f"the {module.schedule.target} target cannot compile this: {lack}"
        raise KernelError([Diagnostic("cuda-unsupported", message, kernel.span)]) from None


def _unit(item: ConcreteCall, arch: str) -> DeviceUnit:
    limits = arch_named(arch)
    effective = policies_for(item.kernel, arch)
    asked = {aligned: Policy.of(effective, arch) for aligned in (True, False)}
    refuse_unordered(item.kernel, asked[True])
    machine = Machine(arch, limits.shared_per_block)
    try:
        made = [(policy, lower_device(item.kernel, machine, policy, aligned)) for aligned, policy in asked.items()]
        used = asked[True].used | asked[False].used
        lines = tuple(Choice("policy", line, arch) for line in effective.report)
        reported = [replace(m, choices=(*m.choices, *lines, *dropped(policy, used))) for policy, m in made]
        schedules = [normal_form(m) for m in reported]  # what the printed text says, so that it compiles to the same
        refuse_unheld(schedules)
        return DeviceUnit(item, tuple(DeviceCode(s, emit(s)) for s in schedules))
    except Unsupported as lack:
        message = f"the {arch} target cannot compile this: {lack}"
        raise KernelError([Diagnostic("cuda-unsupported", message, item.kernel.span)]) from None


def chosen(classes: Sequence[DeviceCode], arrays: Mapping[str, Placed], dims: Mapping[str, int]) -> DeviceCode:
    """The first class whose guards all hold for a call. The last has none, unless it was written by hand: then
    KernelError names what does not hold."""
    texts: list[str] = []
    for code in classes:
        guards = code.schedule.shape_class.guards
        broken = [g for g in guards if not holds(g, code.schedule.arrays, arrays, dims)]
        texts = [guard_text(g.kind, g.subject, g.value) for g in broken] or list(unmapped(code.schedule, arrays))
        if not texts:
            return code
    schedule = classes[-1].schedule
    message = f"`{schedule.name}` ({schedule.shape_class.name}) relies on {', '.join(texts)}, which this call breaks"
    hint = "pass arrays for which the guards hold, or delete them and the wide accesses that need them"
    facts = {"guards": texts, "dims": dict(dims)}
    raise KernelError([Diagnostic("shape-class", message, schedule.grid.origin.span, hint=hint, facts=facts)])


def unmapped(kernel: dev.DeviceKernel, arrays: Mapping[str, Placed]) -> Iterator[str]:
    """What a class relies on where its tensor maps cannot be made of the arrays: that they have elements, and no axis
    of stride 0 (an expanded array) or of a stride beyond the maps' limit."""
    for name, specs in groupby(maps(kernel), key=lambda spec: spec.array):
        place = arrays[name]
        if 0 in place.shape:
            yield f"elements in {name}"
            continue
        try:
            next(specs).bind(place.address, place.shape, place.strides)
        except KernelError as refusal:
            yield refusal.diagnostics[0].message


def holds(guard: Guard, signature: Iterable[ir.Array], arrays: Mapping[str, Placed], dims: Mapping[str, int]) -> bool:
    """Whether a fact that the class relies on is true of a call."""
    if guard.kind == "divides":
        return dims[guard.subject] % guard.value == 0
    if guard.kind == "range":
        return dims[guard.subject] <= guard.value
    place = arrays[guard.subject]
    if 0 in place.shape:
        return True  # nothing is accessed, and numpy gives such arrays strides of 0
    if guard.kind == "unit_stride":
        return place.shape[-1] <= 1 or place.strides[-1] == 1
    width = next(bits(a.dtype) for a in signature if a.name == guard.subject)
    rows = [s for s, n in zip(place.strides[:-1], place.shape[:-1], strict=True) if n > 1]
    return place.address % guard.value == 0 and all(s * width % (8 * guard.value) == 0 for s in rows)
