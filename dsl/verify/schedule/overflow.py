"""Every index that the emitted body computes fits the bits it is computed in, or dispatch refuses the call.

`targets.cuda.widths` lists what a body computes, in how many bits; intervals say how large it may become at the sizes
of the shape class. Sizes up to `SURE` a dim have to be taken, as long as the tiles of a launch and the iterations of a
block can be counted: an index that does not even suffice for those is refuted, at sizes and loop values at which it is
computed, exactly and as the machine does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.targets.cuda.widths import computed, signature_of
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.budget import Exhausted, check_kernel
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.sizes import Sizes
from kernelagent.dsl.verify.shapes import completed
from kernelagent.dsl.widths import BLOCKS, Computed, Signature, unfit, wider

SURE = 1 << 24
"""Elements along a dim, and values of integer scalars, that no schedule may be too narrow for."""


def prove_overflow(case: Case, subject: str) -> Findings:
    """One obligation. PROVED names what dispatch refuses."""
    kernel, assumes = case.kernel, case.shapes.entry.assumes
    try:
        check_kernel(kernel)
    except Exhausted as lack:
        return Findings((Obligation("overflow", "UNKNOWN", None, str(lack), subject),))
    found, signature = tuple(dict.fromkeys(computed(kernel))), signature_of(kernel, assumes)
    symbols = signature.sizes()
    wide, unknown = unfit(found, symbols, signature.data(symbols))
    narrow = wider([w for w in wide if w.kind == "place"], signature, SURE)
    for each in narrow:
        shown = witness(case, each)
        if shown is not None:
            return _overflows(kernel, each, shown, subject)
    if unknown:
        each = unknown[0]
        detail = f"{each.what} depends on data of which nothing is assumed"
        return Findings((Obligation("overflow", "UNKNOWN", each.line, detail, subject),))
    return Findings((Obligation("overflow", "PROVED", None, _detail(signature, len(found), wide, narrow), subject),))


def _detail(signature: Signature, count: int, wide: Sequence[Computed], narrow: Sequence[Computed]) -> str:
    said = f"all {count} indices fit their bits"
    if not wide:
        return f"{said}, whatever the sizes"
    places = [w for w in wide if w.kind == "place" and w not in narrow]
    parts = [f"by {w.what} (line {w.line})" for w in (*narrow[:1], *(w for w in wide if w.kind == "value"))][:2]
    if places:
        parts.append(f"by sizes beyond 2^{_cap(signature, places)} a dim ({places[0].what}, line {places[0].line})")
    counted = list(dict.fromkeys(f"{w.what} (line {w.line})" for w in wide if w.kind == "count"))
    parts += [f"by 2^31 or more as {', '.join(counted)}"] if counted else []
    return f"{said}; a call where one would not is refused at dispatch: {'; '.join(parts)}"


def _cap(signature: Signature, places: Sequence[Computed]) -> int:
    """The largest power of two up to which dims need no look."""
    last = SURE.bit_length() - 1
    return next((k for k in range(30, last, -1) if not wider(places, signature, 1 << k)), last)


# Refutations ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Witness:
    """Sizes and loop values at which an index is `exact`, and what the machine makes of it."""

    sizes: Sizes
    variables: Mapping[str, int]
    exact: int
    wrapped: int


def witness(case: Case, each: Computed) -> Witness | None:
    """The smallest sizes by halving at which an index leaves its bits, None if none are found up to `SURE`."""
    names = [d for d in case.kernel.dims]
    sizes = completed(case.shapes, dict.fromkeys(names, SURE))
    shown = None if sizes is None else _leaves(case.kernel, each, sizes)
    while shown is not None:
        smaller = (completed(case.shapes, {**shown.sizes, d: shown.sizes[d] // 2}) for d in names if shown.sizes[d] > 1)
        again = (w for s in smaller if s is not None and s != shown.sizes and (w := _leaves(case.kernel, each, s)))
        less = next(again, None)
        if less is None:
            return shown
        shown = less
    return None


def _leaves(kernel: dev.DeviceKernel, each: Computed, sizes: Sizes) -> Witness | None:
    """Evaluate an index with every loop variable at one of its ends."""
    scalars = {s.name: 1 for s in kernel.scalars}
    for picked in product((False, True), repeat=len(each.loops)):
        known = {**scalars, BLOCKS.name: 1, **sizes}
        try:
            for (variable, lo, hi), last in zip(each.loops, picked, strict=True):
                first, end = lo.evaluate(known), hi.evaluate(known)
                if end <= first:
                    raise KeyError
                known[variable.name] = end - 1 if last else first
            exact = each.value.evaluate(known)
        except (KeyError, ZeroDivisionError):
            continue
        for value in (exact - each.below, exact + each.above):
            wrapped = _wrapped(value, each.bits)
            if wrapped != value:
                loops = {variable.name: known[variable.name] for variable, _, _ in each.loops}
                return Witness(sizes, loops, value, wrapped)
    return None


def _wrapped(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def _overflows(kernel: dev.DeviceKernel, each: Computed, shown: Witness, subject: str) -> Findings:
    detail = f"{each.what}, {_text(each.value)}, comes to {shown.exact} and has {each.bits} bits"
    counterexample = ScheduleCounterexample(
        family="overflow", message=detail, lines=(each.line,), sizes=dict(shown.sizes), tunables={},
        iterations=(dict(shown.variables),), expected=shown.exact, found=shown.wrapped, kind="overflow",
        kernel=kernel.name, shape_class=kernel.shape_class.name, line=each.line,
        why=f"in {each.bits} bits {shown.exact} is {shown.wrapped}", replay={"sizes": dict(shown.sizes)},
    )  # fmt: skip
    return Findings((Obligation("overflow", "REFUTED", each.line, detail, subject),), (counterexample,))


def _text(value: Index) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["SURE", "prove_overflow", "witness"]
