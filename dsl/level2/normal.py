"""The normal form of a device kernel: one record for all that print alike.

Fragments are numbered in text order and named as the text names them; distributions have their modes merged; carried
and joined values are sorted by name. `parse_schedule(print_schedule(k))` is `normal_form(k)` up to origins and choices,
and code emitted from normal forms is therefore equal but for line marks.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.index import AllOf, AnyOf, Negation
from kernelagent.dsl.lanes import Distribution, normal
from kernelagent.dsl.level2.scopes import Clash, Walk
from kernelagent.dsl.level2.traverse import (
    counters,
    defined,
    defined_in,
    grids,
    joins,
    parts,
    reads,
    walks,
    with_blocks,
    with_fragments,
)
from kernelagent.dsl.level2.words import WORDS2


def normal_form(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    """Idempotent; changes names, numbers and the order of carried values, never what is computed.

    Raises KernelError (`level-two-records`) for statements in front of a grid that has no roles.
    """
    check_writable(kernel)
    kernel = with_blocks(_without_equal_joins(_separated(kernel)), _mapped)
    kernel = with_fragments(kernel, lambda x: replace(x, layout=tidy(x.layout)))
    nested = nested_fragments(kernel)
    labels = _labels(kernel, nested)
    names = _names(kernel, labels, nested)
    kernel = with_fragments(
        kernel, lambda x: replace(x, name=names[labels[x.number]] if x.number not in nested else "")
    )
    kernel = with_blocks(kernel, lambda block: tuple(map(_sorted, block)))
    numbers = {x.number: n for n, x in enumerate(defined_in(kernel), 1)}
    return _clean_names(with_fragments(kernel, lambda x: replace(x, number=numbers[x.number])))


def check_writable(kernel: dev.DeviceKernel) -> None:
    """Level two has no place for statements in front of the grid of a kernel without roles."""
    if kernel.prologue and not kernel.roles:
        message = f"`{kernel.name}` has statements in front of its grid, but no roles"
        raise KernelError([Diagnostic("level-two-records", message, hint="put the grid into a role of all warps")])


def _separated(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    """Roles that share no fragments, and a grid of the kernel that says only which tiles there are."""
    if not kernel.roles:
        return kernel
    count = max((x.number for x in defined_in(kernel)), default=0)
    taken = {x.number for x in defined(kernel.prologue)}
    roles: list[dev.Role] = []
    for role in kernel.roles:
        alone = replace(kernel, roles=(role,), prologue=())
        own = {x.number for x in defined_in(alone)}
        moved = {n: count + k for k, n in enumerate(sorted(own & taken), 1)}
        count += len(moved)
        taken |= own
        roles += with_fragments(alone, lambda x, m=moved: replace(x, number=m.get(x.number, x.number))).roles  # type: ignore[misc]
    return replace(kernel, grid=only_tiles(kernel.roles[0].grid), roles=tuple(roles))


def only_tiles(grid: dev.Grid) -> dev.Grid:
    """The grid without its work and its counters."""
    inner = None if grid.inner is None else only_tiles(grid.inner)
    return replace(grid, body=(), counter=None, inner=inner)


def tidy(layout: Distribution | None) -> Distribution | None:
    """Modes merged; None for rank 0."""
    if layout is None or not layout.shape:
        return None
    return Distribution(layout.shape, normal(layout.lanes), normal(layout.values))


# Records ---------------------------------------------------------------------------------------------


def _mapped(record: Any) -> Any:
    """Copies' distributions merged, NaN one object, arguments without meaning dropped; everything else as it is."""
    match record:
        case float() if math.isnan(record):
            return math.nan
        case tuple():
            return tuple(map(_mapped, record))
        case AllOf(parts) | AnyOf(parts) if len(parts) == 1:
            return _mapped(parts[0])
        case AllOf() | AnyOf() | Negation():
            return replace(record, **{f.name: _mapped(getattr(record, f.name)) for f in fields(record)})
        case dev.Copy(layout=layout):
            return replace(record, layout=tidy(layout) or layout)
        case dev.Reindex(kind="reshape" | "stack"):
            return replace(record, arguments=())
        case dev.Reindex(kind="expand", arguments=axes):
            return replace(record, arguments=tuple(sorted(axes)))
        case dev.FromCondition() | dev.Constant() | dev.Load() | dev.Gather() | dev.Let() | dev.For() | dev.If():
            return replace(record, **{f.name: _mapped(getattr(record, f.name)) for f in fields(record)})
        case _:
            return record


def _without_equal_joins(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    """`if` joins whose arms give the same fragment are that fragment."""
    same: dict[int, dev.Fragment] = {}
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.If):
            same |= {m.result.number: m.then for m in statement.merged if m.then.number == m.otherwise.number}
    if not same:
        return kernel

    def drop(statement: Any) -> Any:
        if isinstance(statement, dev.If):
            kept = tuple(m for m in statement.merged if m.result.number not in same)
            return replace(
                statement, then=tuple(map(drop, statement.then)), otherwise=tuple(map(drop, statement.otherwise)),
                merged=kept,
            )  # fmt: skip
        if isinstance(statement, dev.For):
            return replace(statement, body=tuple(map(drop, statement.body)))
        return statement

    def follow(x: dev.Fragment) -> dev.Fragment:
        while x.number in same:
            x = same[x.number]
        return x

    kept = with_fragments(with_blocks(kernel, lambda block: tuple(map(drop, block))), follow)
    return _without_equal_joins(kept)  # other joins may have become equal


def _sorted(statement: dev.Statement) -> dev.Statement:
    match statement:
        case dev.For(carried=carried, body=body):
            ordered = tuple(sorted(carried, key=lambda c: c.inside.name))
            return replace(statement, carried=ordered, body=tuple(map(_sorted, body)))
        case dev.If(then=then, otherwise=otherwise, merged=merged):
            joined = tuple(sorted(merged, key=lambda m: m.result.name))
            return replace(
                statement, then=tuple(map(_sorted, then)), otherwise=tuple(map(_sorted, otherwise)), merged=joined
            )
        case _:
            return statement


# Nesting ---------------------------------------------------------------------------------------------

_MAX_NESTING = 4
_UNNAMED = frozenset(("", "value", "inside", "position", "bound", "void", "zero", "nothing", "none", "warp", "count"))
"""Names that the compiler gives to what has none; `value` prints as `t` where it is not nested."""


def nested_fragments(kernel: dev.DeviceKernel) -> frozenset[int]:
    """Fragments without an author's name, and rank-0 constants, that are read once, by the statement behind them:
    they are written inside its expression. Operands are computed left to right, so nesting keeps the order of
    statements."""
    uses: dict[int, int] = {}
    held: set[int] = set()
    for statement in dev.statements(kernel):
        for x in reads(statement):
            uses[x.number] = uses.get(x.number, 0) + 1
        held |= {x.number for x in joins(statement)}
    once = frozenset(n for n, count in uses.items() if count == 1 and n not in held)
    found: set[int] = set()
    for part in parts(kernel):
        for block in part.blocks:
            _nest_block(block, once, found)
    return frozenset(found)


def _nest_block(body: Iterable[dev.Statement], once: frozenset[int], found: set[int]) -> None:
    pending: list[tuple[int, int]] = []  # (number, depth of its expression) of computed, unread candidates
    for statement in body:
        depth = _consume(statement, pending, found)
        match statement:
            case dev.Let(fragment, operation) if fragment.number in once and _may_nest(fragment, operation):
                if depth < _MAX_NESTING:
                    pending.append((fragment.number, depth + 1))
                    continue
            case dev.For(body=inner):
                _nest_block(inner, once, found)
            case dev.If(then=then, otherwise=otherwise):
                _nest_block(then, once, found)
                _nest_block(otherwise, once, found)
            case _:
                pass
        pending.clear()


def _consume(statement: dev.Statement, pending: list[tuple[int, int]], found: set[int]) -> int:
    """Nest the longest run of newest candidates that the statement reads in the order of their computation."""
    read = [x.number for x in reads(statement)]
    for length in range(min(len(read), len(pending)), 0, -1):
        run = [n for n, _ in pending[-length:]]
        if [n for n in read if n in run] == run:
            depth = max(d for _, d in pending[-length:])
            found.update(run)
            del pending[-length:]
            return depth
    return 0


def _may_nest(fragment: dev.Fragment, operation: dev.Operation) -> bool:
    match operation:
        case dev.Constant() | dev.FromIndex() | dev.FromCondition() | dev.Parameter():
            return fragment.layout is None
        case dev.Mma() | dev.Scan() | dev.ArgReduce():
            return False
        case _:
            return fragment.name in _UNNAMED


# Names -----------------------------------------------------------------------------------------------


Pairs = list[tuple[dev.Fragment, dev.Fragment]]


def _labels(kernel: dev.DeviceKernel, nested: frozenset[int]) -> dict[int, int]:
    """Fragments that share a name have one label: what loops hand on always, the rest where the text stays right.

    A set to which nothing can be added; equal names come first, so that a normal form keeps its names.
    """
    labels = {x.number: x.number for x in defined_in(kernel)}
    optional: Pairs = []
    for statement in dev.statements(kernel):
        match statement:
            case dev.For(carried=carried):
                for c in carried:
                    _unite(labels, c.inside.number, c.result.number)
                    optional += [(c.end, c.inside), (c.initial, c.inside)]
            case dev.If(merged=merged):
                optional += [(x, m.result) for m in merged for x in (m.then, m.otherwise)]
            case _:
                pass
    alike = [pair for pair in optional if pair[0].name == pair[1].name]
    labels = _united(kernel, nested, labels, alike) or labels
    return _all_united(kernel, nested, labels, [*alike, *optional])


def _all_united(
    kernel: dev.DeviceKernel, nested: frozenset[int], labels: dict[int, int], pairs: Pairs
) -> dict[int, int]:
    """Unite pair after pair while one can be."""
    again = True
    while again:
        again = False
        for a, b in pairs:
            trial = _united(kernel, nested, labels, [(a, b)]) if labels[a.number] != labels[b.number] else None
            if trial is not None:
                labels, again = trial, True
    return labels


def _united(
    kernel: dev.DeviceKernel, nested: frozenset[int], labels: dict[int, int], pairs: Pairs
) -> dict[int, int] | None:
    """The labels with all these pairs united; None where the text would say something else."""
    trial = dict(labels)
    for a, b in pairs:
        _unite(trial, a.number, b.number)
    try:
        Walk(trial, nested).kernel(kernel)
    except Clash:
        return None
    return trial


def _unite(labels: dict[int, int], a: int, b: int) -> None:
    keep, lose = labels[b], labels[a]
    for number, label in labels.items():
        if label == lose:
            labels[number] = keep


def _names(kernel: dev.DeviceKernel, labels: dict[int, int], nested: frozenset[int]) -> dict[int, str]:
    """A name for each label: the author's, made unique."""
    wanted: dict[int, str] = {}
    carried = [c.inside for s in dev.statements(kernel) if isinstance(s, dev.For) for c in s.carried]
    for x in [*carried, *defined_in(kernel)]:
        if x.number not in nested and not wanted.get(labels[x.number]):
            wanted[labels[x.number]] = x.name if x.name != "value" else "t"
    taken = set(reserved_names(kernel)) | set(_shared_names(kernel).values())
    order = [labels[x.number] for x in defined_in(kernel) if x.number not in nested]
    return {label: unique(wanted[label], taken) for label in dict.fromkeys(order)}


def reserved_names(kernel: dev.DeviceKernel) -> Iterator[str]:
    """Names that belong to the signature and the loops."""
    yield kernel.name
    yield from kernel.dims
    yield from (a.name for a in kernel.arrays)
    yield from (s.name for s in kernel.scalars)
    for walk in walks(kernel):
        yield from (v.name for grid in grids(walk) for v in grid.variables)
        yield from (c.name for c in counters(walk))
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.For):
            yield from (v.name for v in statement.variables)


def unique(name: str, taken: set[str]) -> str:
    """The name, or the name with the first free number; added to `taken`."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII) or "t"
    base = f"v{name}" if name[0].isdigit() else name
    found, count = base, 1
    while found in taken or is_reserved(found) or found in WORDS2 or keyword.iskeyword(found):
        count += 1
        found = f"{base}_{count}"
    taken.add(found)
    return found


def shared_names(kernel: dev.DeviceKernel) -> list[str]:
    """Names of buffers and barriers as they are."""
    return [*(b.name for b in kernel.buffers), *(b.name for b in kernel.barriers)]


def _shared_names(kernel: dev.DeviceKernel) -> dict[str, str]:
    """Names of buffers and barriers."""
    taken = set(reserved_names(kernel))
    return {name: unique(name, taken) for name in shared_names(kernel)}


def _clean_names(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    names = _shared_names(kernel)
    if all(old == new for old, new in names.items()):
        return kernel

    def change(record: Any) -> Any:
        match record:
            case dev.Shared(buffer=name):
                return replace(record, buffer=names[name])
            case tuple():
                return tuple(map(change, record))
            case (
                dev.Let() | dev.Mma() | dev.LoadShared() | dev.StoreShared() | dev.Copy() | dev.For() | dev.If()
                | dev.Expectation()
            ):  # fmt: skip
                return replace(record, **{f.name: change(getattr(record, f.name)) for f in fields(record)})
            case dev.CopyBulk(target=target, barrier=name):
                return replace(record, target=change(target), barrier=names[name])
            case dev.StoreBulk(source=source):
                return replace(record, source=change(source))
            case dev.BarrierInit(name) | dev.Expect(name) | dev.Arrive(name) | dev.WaitPhase(name):
                return replace(record, barrier=names[name])
            case _:
                return record

    return replace(
        with_blocks(kernel, change),
        buffers=tuple(replace(b, name=names[b.name]) for b in kernel.buffers),
        barriers=tuple(replace(b, name=names[b.name]) for b in kernel.barriers),
    )


# Comparison ------------------------------------------------------------------------------------------

_NOWHERE = Span(0, 0, 0, 0)


def without_origins(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    """Origins, spans and choices blanked: what two texts of one schedule have in common."""
    bare: dev.DeviceKernel = _blank(replace(kernel, choices=()))
    return bare


def _blank(record: Any) -> Any:
    match record:
        case ir.Origin():
            return ir.Origin(_NOWHERE)
        case Span():
            return _NOWHERE
        case tuple():
            return tuple(map(_blank, record))
        case _ if is_dataclass(record) and not isinstance(record, type):
            return replace(record, **{f.name: _blank(getattr(record, f.name)) for f in fields(record)})
        case _:
            return record


def same_schedule(a: dev.DeviceKernel, b: dev.DeviceKernel) -> bool:
    """Whether two kernels are one schedule: equal normal forms up to origins and choices."""
    return repr(without_origins(normal_form(a))) == repr(without_origins(normal_form(b)))


__all__ = ["nested_fragments", "normal_form", "same_schedule", "tidy", "unique", "without_origins"]
