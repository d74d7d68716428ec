"""Reductions and scans along one axis: in a thread's registers, then by shuffles within a warp."""

from __future__ import annotations

from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.lanes import WARP, Distribution, drop, normal
from kernelagent.dsl.targets.cuda.body import Body, Place, require_same
from kernelagent.dsl.targets.cuda.emit_words import (
    COMBINE,
    CTYPES,
    NARROW_FLOATS,
    element_bits,
    identity_literal,
    widened,
    word_text,
)
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    Terms,
    coordinate_terms,
    follow,
    identity,
    plus,
)


@dataclass(frozen=True)
class _Digit:
    """A thread digit along the axis: lanes `step` apart, `extent` of them."""

    step: int
    extent: int
    stride: int

    @property
    def masks(self) -> list[int]:
        """Lane distances that meet all values of the digit."""
        return [self.step << k for k in range(self.extent.bit_length() - 1)]


def lane_digits(layout: Distribution, axis: int) -> list[_Digit]:
    """Thread digits along `axis`. Raises LayoutMismatch where shuffles do not reach."""
    found: list[_Digit] = []
    step = 1
    for mode in normal(layout.lanes):
        if mode.axis == axis:
            if step * mode.extent > WARP or step & (step - 1) or mode.extent & (mode.extent - 1):
                raise LayoutMismatch(f"shuffles along axis {axis} do not reach all threads: {layout}")
            found.append(_Digit(step, mode.extent, mode.stride))
        step *= mode.extent
    return found


def shuffled(call: str, x: str, by: str, dtype: str) -> str:
    """A shuffle of an element; those below 32 bits travel in wider registers, which hold them exactly."""
    if element_bits(dtype) >= 32:
        return f"{call}({x}, {by})"
    carrier = "ka_f32" if dtype in NARROW_FLOATS else "ka_i32"
    return f"ka_cast<{CTYPES[dtype]}>({call}(ka_cast<{carrier}>({x}), {by}))"


@dataclass(frozen=True)
class _Reduction:
    """What reductions share: the operand's layout, the result's register for each of its registers."""

    source: Place
    layout: Distribution
    to: Terms
    count: int  # registers of the result

    def loops(self, *others: Terms) -> Loops:
        """Over the operand's registers; `others` are more functions of them that the body asks for."""
        functions = [self.source.terms or (), self.to, identity(self.layout.registers), *others]
        return Loops(self.layout.registers, functions)


def _reduction(body: Body, fragment: dev.Fragment, x: dev.Fragment, axis: int) -> _Reduction:
    if x.layout is None:
        raise LayoutMismatch(f"{fragment.name}: a reduction of a scalar")
    result = drop(x.layout, axis)
    if fragment.layout is not None or result.shape:
        require_same(result, fragment.layout, f"{fragment.name}: result of a reduction along axis {axis}")
    axes = {a: a - (a > axis) for a in range(len(x.shape)) if a != axis}
    return _Reduction(body.place(x), x.layout, follow(x.layout, result, axes), result.registers)


def _item(fragment: dev.Fragment, name: str, index: str) -> str:
    return name if fragment.layout is None else f"{name}[{index}]"


def _head(count: int) -> list[str]:
    return [f"KA_UNROLL for (int r = 0; r < {count}; ++r)"] if count > 1 else []


def emit_reduce(body: Body, let: dev.Let) -> None:
    fragment, operation, out = let.fragment, let.operation, body.out
    assert isinstance(operation, dev.Reduce)
    made = _reduction(body, fragment, operation.x, operation.axis)
    word, dtype = COMBINE[operation.word], fragment.dtype
    name = body.declare(fragment)
    each = _item(fragment, name, "r" if made.count > 1 else "0")
    with out.loops(_head(made.count)):
        out.put(f"{each} = {identity_literal(operation.word, dtype)};")
    loops = made.loops()
    with out.loops(loops.heads()):
        target = _item(fragment, name, loops.sum(made.to))
        out.put(f"{target} = {word_text(word, [target, made.source.at(loops)], [dtype, dtype], dtype)};")
    masks = [m for d in lane_digits(made.layout, operation.axis) for m in d.masks]
    if not masks:
        return
    with out.loops(_head(made.count)):
        for mask in masks:
            other = body.fresh("other")  # a word may name its operands twice, or leave one out
            out.put(f"const {CTYPES[dtype]} {other} = {shuffled('ka_shfl_xor', each, str(mask), dtype)};")
            out.put(f"{each} = {word_text(word, [each, other], [dtype, dtype], dtype)};")


def emit_arg_reduce(body: Body, let: dev.Let) -> None:
    """Pairs of value and position; the lower position wins among equals, so any order of visits gives the same."""
    fragment, operation, out = let.fragment, let.operation, body.out
    assert isinstance(operation, dev.ArgReduce)
    x = operation.x
    made = _reduction(body, fragment, x, operation.axis)
    start = body.lane_sum(made.layout.lanes, {operation.axis: 1})
    name, best = body.declare(fragment), body.fresh("best")
    out.put(f"{CTYPES[x.dtype]} {best}[{made.count}];")
    index = "r" if made.count > 1 else "0"
    with out.loops(_head(made.count)):
        worst = identity_literal("max" if operation.word == "argmax" else "min", x.dtype)
        out.put(f"{best}[{index}] = {worst}; {_item(fragment, name, index)} = 2147483647;")
    positions = coordinate_terms(made.layout, operation.axis)
    loops = made.loops(positions)
    with out.loops(loops.heads()):
        at = plus(start, loops.sum(positions))
        to = loops.sum(made.to)
        _keep_better(body, operation, (made.source.at(loops), at), (f"{best}[{to}]", _item(fragment, name, to)))
    masks = [m for d in lane_digits(made.layout, operation.axis) for m in d.masks]
    with out.loops(_head(made.count) if masks else []):
        for mask in masks:
            held = (f"{best}[{index}]", _item(fragment, name, index))
            other = shuffled("ka_shfl_xor", held[0], str(mask), x.dtype)
            _keep_better(body, operation, (other, f"ka_shfl_xor({held[1]}, {mask})"), held)


def _keep_better(body: Body, operation: dev.ArgReduce, offered: tuple[str, str], held: tuple[str, str]) -> None:
    """Replace the held pair if the offered one wins: a NaN beats numbers, then the extremum, then the position."""
    dtype = operation.x.dtype
    value, at = body.fresh("x"), body.fresh("at")
    body.out.put(f"const {CTYPES[dtype]} {value} = {offered[0]}; const int {at} = {offered[1]};")
    x, v = widened(value, dtype), widened(held[0], dtype)
    sign = ">" if operation.word == "argmax" else "<"
    wins = f"{x} {sign} {v} || ({x} == {v} && {at} < {held[1]})"
    if is_float(dtype):
        wins = f"{x} != {x} ? {v} == {v} || {at} < {held[1]} : {wins}"
    body.out.put(f"if ({wins}) {{ {held[0]} = {value}; {held[1]} = {at}; }}")


# Scans -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """How an axis is scanned: `inner` neighbours in registers, `lanes` neighbours of them, `outer` repetitions."""

    inner: int
    inner_step: int  # in registers
    lanes: _Digit
    outer: int
    outer_step: int
    others: tuple[tuple[int, int], ...]  # (extent, step in registers) of registers along other axes


def _run(layout: Distribution, axis: int) -> _Run:
    digits = lane_digits(layout, axis)
    inner, outer, others = (1, 0), (1, 0), list[tuple[int, int]]()
    lanes = digits[0] if digits else _Digit(1, 1, 0)
    radix, reach = 1, 1
    for mode in normal(layout.values):
        if mode.axis != axis:
            others.append((mode.extent, radix))
        elif mode.stride == 1 and inner[0] == 1:
            inner, reach = (mode.extent, radix), mode.extent
        elif mode.stride == lanes.stride * lanes.extent and outer[0] == 1 and digits:
            outer = (mode.extent, radix)
        else:
            raise LayoutMismatch(f"a scan along axis {axis} needs neighbours in registers, then in lanes: {layout}")
        radix *= mode.extent
    if len(digits) > 1 or (digits and lanes.stride != reach):
        raise LayoutMismatch(f"a scan along axis {axis} needs neighbours in registers, then in lanes: {layout}")
    return _Run(*inner, lanes, *outer, tuple(others))


def emit_scan(body: Body, let: dev.Let) -> None:
    fragment, operation, out = let.fragment, let.operation, body.out
    assert isinstance(operation, dev.Scan)
    x = operation.x
    require_same(fragment.layout, x.layout, f"{fragment.name}: result of a scan")
    assert x.layout is not None
    run = _run(x.layout, operation.axis)
    held, name = body.held(x), body.declare(fragment)
    ctype, zero = CTYPES[x.dtype], identity_literal(operation.word, x.dtype)
    others = [f"KA_UNROLL for (int o{k} = 0; o{k} < {e}; ++o{k})" for k, (e, _) in enumerate(run.others)]
    first = " + ".join(f"o{k} * {step}" for k, (_, step) in enumerate(run.others)) or "0"
    with out.block(""), out.loops(others):
        out.put(f"{ctype} carry = {zero};")
        with out.block(f"KA_UNROLL for (int c = 0; c < {run.outer}; ++c)"):
            at = f"{first} + c * {run.outer_step} + r * {run.inner_step}"
            _scan_registers(body, operation, run, f"{name}[{at}]", f"{held}[{at}]")
            _scan_lanes(body, operation, run, f"{name}[{at}]")


def _scan_registers(body: Body, operation: dev.Scan, run: _Run, target: str, source: str) -> None:
    dtype = operation.x.dtype
    word = COMBINE[operation.word]
    body.out.put(f"{CTYPES[dtype]} sum = {identity_literal(operation.word, dtype)};")
    with body.out.block(f"KA_UNROLL for (int r = 0; r < {run.inner}; ++r)"):
        body.out.put(f"sum = {word_text(word, ['sum', source], [dtype, dtype], dtype)};")
        body.out.put(f"{target} = sum;")


def _scan_lanes(body: Body, operation: dev.Scan, run: _Run, target: str) -> None:
    """Add what lies in front: lower lanes of this repetition, and all repetitions before it."""
    out, dtype, lanes = body.out, operation.x.dtype, run.lanes
    ctype, word = CTYPES[dtype], COMBINE[operation.word]

    def combined(a: str, b: str) -> str:
        return word_text(word, [a, b], [dtype, dtype], dtype)

    digit = body.hoisted(f"tid / {lanes.step} % {lanes.extent}")
    for mask in lanes.masks:
        up = body.fresh("up")
        out.put(f"const {ctype} {up} = {shuffled('ka_shfl_up', 'sum', str(mask), dtype)};")
        out.put(f"if ({digit} >= {mask // lanes.step}) sum = {combined(up, 'sum')};")
    out.put(f"{ctype} before = carry;")
    if lanes.extent > 1:
        out.put(f"const {ctype} left = {shuffled('ka_shfl_up', 'sum', str(lanes.step), dtype)};")
        out.put(f"if ({digit} > 0) before = {combined('carry', 'left')};")
    with out.block(f"KA_UNROLL for (int r = 0; r < {run.inner}; ++r)"):
        out.put(f"{target} = {combined('before', target)};")
    last = f"(tid & {WARP - 1}) | {(lanes.extent - 1) * lanes.step}"
    total = shuffled("ka_shfl", "sum", body.hoisted(last), dtype) if lanes.extent > 1 else "sum"
    out.put(f"carry = {combined('carry', total)};")
