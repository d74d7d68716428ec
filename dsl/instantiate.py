"""Generic kernel -> concrete kernel: tunables, compile-time constants, dtypes and fixed dims are put in.

Extents are constants afterwards; conditions that became constant are decided, casts that became identities vanish, and
live intervals are derived again, since more can be shown about concrete sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from . import dtypes as types
from . import ir
from .diagnostics import Diagnostic, KernelError, Span
from .elaborate import live
from .elaborate.facts import Facts
from .elaborate.habits import nearest
from .elaborate.header import family
from .index import Condition, Index, Symbol, decide, index, substitute_condition

Value = int | bool


def instantiate(
    kernel: ir.Kernel,
    dtypes: Mapping[str, str] | None = None,
    tunables: Mapping[str, Value] | None = None,
    consts: Mapping[str, Value] | None = None,
    target: str = "cpu",
    dims: Mapping[str, int] | None = None,
) -> ir.Kernel:
    """The kernel for these choices. Raises KernelError when a choice is missing, unknown or illegal.

    `dims` fixes dims at compile time; those of `fixed_dims(kernel)` must be among them.
    """
    chosen = resolve_tunables(kernel, tunables or {}, target)
    constants = _resolve_consts(kernel, consts or {})
    concrete = _resolve_dtypes(kernel, dtypes or {})
    fixed = _resolve_dims(kernel, dims or {})
    values: dict[str, Index] = {n: index(int(v)) for n, v in {**chosen, **constants, **fixed}.items()}
    assumes = _assumes(kernel, values)
    work = _Instance(values, concrete, _facts(assumes))
    body = _without_dead(work.block(kernel.body))
    return replace(
        kernel,
        arrays=tuple(work.array(a) for a in kernel.arrays),
        scalars=tuple(s for s in kernel.scalars if s.dtype != "const"),
        tunables=(),
        dims=tuple(d for d in kernel.dims if d not in fixed),
        dtype_variables=(),
        dtype_needs=(),
        assumes=assumes,
        body=body,
    )


def fixed_dims(kernel: ir.Kernel) -> tuple[str, ...]:
    """Dims that are extents or steps, so that each value of their `assume(D in (...))` is a class of its own."""
    found = {s.name for i in _constants_needed(kernel.body) for s in i.symbols() if s.kind == "dim"}
    return tuple(d for d in kernel.dims if d in found)


def _constants_needed(body: Iterable[ir.Statement]) -> Iterable[Index]:
    for statement in body:
        match statement:
            case ir.Let(value):
                yield from value.type.shape
            case ir.For(step=step, body=inner):
                yield from step
                yield from _constants_needed(inner)
            case ir.If(then=then, otherwise=otherwise):
                yield from _constants_needed(then)
                yield from _constants_needed(otherwise)


# Choices -----------------------------------------------------------------------------------------


def _refuse(code: str, message: str, span: Span | None, hint: str, **facts: object) -> KernelError:
    return KernelError([Diagnostic(code, message, span, hint=hint, facts=facts)])


def _check_known(given: Iterable[str], known: Sequence[str], what: str, span: Span) -> None:
    for name in given:
        if name not in known:
            close = nearest(name, list(known))
            listing = ", ".join(known) or "none"
            hint = f"did you mean `{close}`?" if close else f"the kernel's {what}s are: {listing}"
            raise _refuse("unknown-choice", f"the kernel has no {what} `{name}`", span, hint, nearest=close)


def resolve_tunables(
    entry: ir.Kernel | ir.Program, given: Mapping[str, Value], target: str = "cpu"
) -> dict[str, Value]:
    """Every tunable's value: the caller's, else the most specific `on(target, ...)`, else the default."""
    known = {t.name: t for t in entry.tunables}
    _check_known(given, list(known), "tunable", entry.span)
    for name, value in given.items():
        if isinstance(value, bool) != isinstance(known[name].default, bool) or value < 0:
            hint = f"pass a value like the default {known[name].default!r}"
            raise _refuse("tunable-range", f"`{name}` cannot be {value!r}", known[name].span, hint)
    result: dict[str, Value] = {}
    for name, tunable in known.items():
        scoped = _most_specific(entry.policies, name, target)
        value = scoped if scoped is not None else tunable.default
        result[name] = given.get(name, value)  # type: ignore[arg-type]  # tunables in policies are ints or bools
    return result


def specificity(scope: str | None, target: str) -> int | None:
    """2 for the exact target, 1 for its family, 0 for unscoped policy, None where it does not apply."""
    if scope is None:
        return 0
    if scope == target:
        return 2
    return 1 if family(target) == scope else None


def _most_specific(policies: Sequence[ir.Policy], word: str, target: str) -> object | None:
    best: tuple[int, object] | None = None
    for policy in policies:
        rank = specificity(policy.target, target)
        for name, value in policy.words:
            if name == word and rank is not None and (best is None or rank > best[0]):
                best = (rank, value)
    return best[1] if best else None


def _resolve_consts(kernel: ir.Kernel, given: Mapping[str, Value]) -> dict[str, Value]:
    known = {s.name: s for s in kernel.scalars if s.dtype == "const"}
    _check_known(given, list(known), "const", kernel.span)
    result: dict[str, Value] = {}
    for name, scalar in known.items():
        value = given.get(name, scalar.default)
        if value is None or isinstance(value, float):
            hint = f"pass consts={{'{name}': ...}}, an integer or a bool"
            raise _refuse("missing-choice", f"the constant `{name}` has no value", scalar.span, hint)
        result[name] = value
    return result


def _resolve_dtypes(kernel: ir.Kernel, given: Mapping[str, str]) -> dict[str, str]:
    _check_known(given, kernel.dtype_variables, "dtype variable", kernel.span)
    for name in kernel.dtype_variables:
        if name not in given:
            hint = f"pass dtypes={{'{name}': 'f32'}}"
            raise _refuse("missing-choice", f"the dtype variable `{name}` has no value", kernel.span, hint)
        check_dtype(kernel, name, given[name])
    return dict(given)


def check_dtype(kernel: ir.Kernel | ir.Program, variable: str, dtype: str) -> None:
    """Whether the dtype exists and the kernel's operations are defined on it. Raises KernelError."""
    if not types.is_concrete(dtype):
        hint = f"dtypes are {', '.join(types.DTYPES)}"
        raise _refuse("unknown-dtype", f"`{dtype}` is not a dtype", kernel.span, hint)
    need = dict(kernel.dtype_needs).get(variable) if isinstance(kernel, ir.Kernel) else None
    if need is not None and not types.fits_need(dtype, need):
        message = (
            f"`{variable}` = {dtype}: the kernel does arithmetic on it in f32, so it must be a float of <= 32 bits"
        )
        span = next((a.span for a in kernel.arrays if a.dtype == variable), kernel.span)
        raise _refuse("dtype-need", message, span, "pass f32, bf16 or f16; or name the dtype in the signature")


def _resolve_dims(kernel: ir.Kernel, given: Mapping[str, int]) -> dict[str, int]:
    _check_known(given, kernel.dims, "dim", kernel.span)
    missing = [d for d in fixed_dims(kernel) if d not in given]
    if missing:
        message = f"`{missing[0]}` is used as an extent, so it needs a value when the kernel is compiled"
        raise _refuse("missing-choice", message, kernel.span, f"pass dims={{'{missing[0]}': ...}}")
    return dict(given)


def _assumes(kernel: ir.Kernel, values: Mapping[str, Index]) -> tuple[ir.Assume, ...]:
    """The statements that are left to check at a call; one that is false now is an illegal choice."""
    kept = []
    for assume in kernel.assumes:
        if assume.data is not None:
            word, array, bounds = assume.data
            kept.append(replace(assume, data=(word, array, tuple(b.substitute(values) for b in bounds))))
            continue
        assert assume.condition is not None
        try:
            condition = substitute_condition(assume.condition, values)
        except ZeroDivisionError:
            raise _illegal(assume, values, "it divides by zero") from None
        known = decide(condition)
        if known is False:
            raise _illegal(assume, values, "it is false")
        if known is None:
            kept.append(replace(assume, condition=condition))
    return tuple(kept)


def _illegal(assume: ir.Assume, values: Mapping[str, Index], why: str) -> KernelError:
    assert assume.condition is not None
    from .index import condition_indices

    names = sorted({s.name for i in condition_indices(assume.condition) for s in i.symbols()} & set(values))
    chosen = ", ".join(f"{n}={values[n]}" for n in names)
    message = f"`assume({assume.text})`: {why} for {chosen}"
    return _refuse("illegal-choice", message, assume.span, "choose values that satisfy it", **dict.fromkeys(names))


def _facts(assumes: Iterable[ir.Assume]) -> Facts:
    facts = Facts()
    for assume in assumes:
        facts.add(assume)
    return facts


# Policies ----------------------------------------------------------------------------------------

_MEANINGFUL = {
    "cpu": frozenset({"raster", "layout", "unroll"}),
    "cuda": frozenset({"stages", "cluster", "raster", "persistent", "roles", "via", "layout", "unroll"}),
    "hip": frozenset({"stages", "raster", "persistent", "layout", "unroll"}),
}
"""Which policy words mean something on which family of targets."""


@dataclass(frozen=True)
class EffectivePolicy:
    """Policy words that hold on a target, those of them that are binding, and a line for each dropped one."""

    words: Mapping[str, int | bool | str | tuple[int, ...]]
    binding: frozenset[str]
    report: tuple[str, ...]


def policies_for(kernel: ir.Kernel | ir.Program, target: str) -> EffectivePolicy:
    """The most specific value of each policy word. Raises KernelError if binding policy has no meaning here."""
    tunables = {t.name for t in kernel.tunables}
    known = _MEANINGFUL.get(family(target) or "", frozenset())
    best: dict[str, tuple[int, int | bool | str | tuple[int, ...]]] = {}
    binding: set[str] = set()
    report: list[str] = []
    for policy in kernel.policies:
        rank = specificity(policy.target, target)
        if rank is None:
            continue
        for word, value in policy.words:
            if word in tunables or word not in _POLICY_WORDS:
                continue
            if word not in known and word != "deterministic":
                report += _drop(policy, word, value, target)
                continue
            rank_here = rank + 3 * policy.required
            if word not in best or rank_here > best[word][0]:
                best[word] = (rank_here, value)
            if policy.required or policy.target is not None:
                binding.add(word)
    return EffectivePolicy({w: v for w, (_, v) in best.items()}, frozenset(binding), tuple(report))


_POLICY_WORDS = frozenset().union(*_MEANINGFUL.values()) | {"deterministic"}


def _drop(policy: ir.Policy, word: str, value: object, target: str) -> list[str]:
    if policy.required or policy.target is not None:
        message = f"`{word}={value}` has no meaning on {target} and cannot be honoured"
        raise _refuse("policy-refused", message, policy.span, f"remove `{word}`, or scope it to another target")
    return [f"line {policy.span.line}: {word}={value} dropped: no meaning on {target}"]


# Substitution ------------------------------------------------------------------------------------


class _Instance:
    """One walk over the body: substitutes, folds, and types every value again."""

    def __init__(self, values: Mapping[str, Index], concrete: Mapping[str, str], facts: Facts) -> None:
        self.values, self.concrete, self.facts = values, concrete, facts
        self.known: dict[int, ir.Value] = {}  # generic value number -> concrete value

    def index(self, i: Index, span: Span) -> Index:
        try:
            return i.substitute(self.values)
        except ZeroDivisionError:
            raise _refuse("division-by-zero", f"`{i}` divides by zero here", span, "choose other values") from None

    def indices(self, items: Iterable[Index], span: Span) -> tuple[Index, ...]:
        return tuple(self.index(i, span) for i in items)

    def dtype(self, name: str) -> str:
        return self.concrete.get(name, name)

    def array(self, array: ir.Array) -> ir.Array:
        return replace(array, dtype=self.dtype(array.dtype), dims=self.indices(array.dims, array.span))

    def extents(self, shape: Iterable[Index], span: Span) -> tuple[Index, ...]:
        result = self.indices(shape, span)
        for extent in result:
            if extent.constant is None or extent.constant < 1:
                hint = "choose values that make it a positive constant"
                raise _refuse("extent-range", f"the extent is {extent}", span, hint, value=str(extent))
        return result

    # Statements --------------------------------------------------------------------------------

    def block(self, body: Iterable[ir.Statement]) -> tuple[ir.Statement, ...]:
        result: list[ir.Statement] = []
        for statement in body:
            result += self.statement(statement)
        return tuple(result)

    def statement(self, statement: ir.Statement) -> Sequence[ir.Statement]:
        match statement:
            case ir.Let():
                return self.let(statement)
            case ir.Store(view, start, value, origin):
                span = origin.span
                return [ir.Store(self.view(view, span), self.indices(start, span), self.value(value), origin)]
            case ir.Scatter():
                return [self.scatter(statement)]
            case ir.For():
                return [self.loop(statement)]
            case ir.If():
                return self.branch(statement)

    def let(self, statement: ir.Let) -> Sequence[ir.Statement]:
        value, span = statement.value, statement.value.origin.span
        dtype, shape = self.dtype(value.type.dtype), self.extents(value.type.shape, span)
        operation = self.operation(statement.operation, dtype, span)
        if isinstance(operation, ir.Cast | ir.Broadcast | ir.Reshape):
            source = operation.x
            if (source.type.dtype, source.type.shape) == (dtype, shape):
                self.known[value.number] = source
                return []
        try:
            lives = live.live_of(operation, shape, self.facts)
        except live.PartlyLive as problem:
            message = f"axis {problem.axis} is rearranged but not wholly live for these choices"
            raise _refuse("reshape-partly-live", message, span, "load with `fill=0` first") from None
        concrete = replace(value, type=ir.TileType(dtype, shape, lives))
        self.known[value.number] = concrete
        return [ir.Let(concrete, operation)]

    def scatter(self, s: ir.Scatter) -> ir.Scatter:
        span = s.origin.span
        indices = self.value(s.indices) if s.indices is not None else None
        view, start = self.view(s.view, span), self.indices(s.start, span)
        return ir.Scatter(view, start, s.axis, indices, self.value(s.value), s.atomic, s.origin)

    def loop(self, loop: ir.For) -> ir.For:
        span = loop.origin.span
        lo, hi = self.indices(loop.lo, span), self.indices(loop.hi, span)
        step = self.extents(loop.step, span)
        starts = [self.value(c.initial) for c in loop.carried]
        inside = [self.retyped(c.inside) for c in loop.carried]
        self.facts.enter(loop.variables, lo, hi)
        body = self.block(loop.body)
        ends = [self.value(c.end) for c in loop.carried]
        self.facts.leave(len(loop.variables))
        results = [self.retyped(c.result) for c in loop.carried]
        carried = tuple(ir.Carried(*parts) for parts in zip(starts, inside, ends, results, strict=True))
        return ir.For(loop.kind, loop.variables, lo, hi, step, carried, body, loop.origin)

    def retyped(self, value: ir.Value) -> ir.Value:
        """A carried value: its live part is what the generic kernel found, in concrete terms."""
        span = value.origin.span
        shape = self.extents(value.type.shape, span)
        lives = tuple(
            ir.Live(self.facts.maximum(self.index(v.lo, span)), self.facts.minimum(self.index(v.hi, span)))
            for v in value.type.live
        )
        concrete = replace(value, type=ir.TileType(self.dtype(value.type.dtype), shape, lives))
        self.known[value.number] = concrete
        return concrete

    def branch(self, branch: ir.If) -> Sequence[ir.Statement]:
        condition = branch.condition
        if isinstance(condition, ir.Value):
            decider: Condition | ir.Value = self.value(condition)
            known = None
        else:
            decider = self.condition(condition, branch.origin.span)
            known = decide(decider)
        if known is not None:
            body = self.block(branch.then if known else branch.otherwise)
            for merged in branch.merged:
                self.known[merged.result.number] = self.value(merged.then if known else merged.otherwise)
            return body
        then, otherwise = self.block(branch.then), self.block(branch.otherwise)
        merged_values = tuple(self.merged(m) for m in branch.merged)
        return [ir.If(decider, then, otherwise, merged_values, branch.origin)]

    def merged(self, merged: ir.Merged) -> ir.Merged:
        then, otherwise = self.value(merged.then), self.value(merged.otherwise)
        lives = live.intersect_all([then.type.live, otherwise.type.live], self.facts)
        result = replace(merged.result, type=ir.TileType(then.type.dtype, then.type.shape, lives))
        self.known[merged.result.number] = result
        return ir.Merged(then, otherwise, result)

    # Operations --------------------------------------------------------------------------------

    def value(self, value: ir.Value) -> ir.Value:
        return self.known[value.number]

    def condition(self, condition: Condition, span: Span) -> Condition:
        try:
            return substitute_condition(condition, self.values)
        except ZeroDivisionError:
            raise _refuse("division-by-zero", f"`{condition}` divides by zero here", span, "choose others") from None

    def view(self, view: ir.View, span: Span) -> ir.View:
        axes = tuple(ir.ViewAxis(*self.indices((a.length, a.lo, a.hi), span)) for a in view.axes)
        return ir.View(view.array, self.dtype(view.dtype), axes, self.indices(view.coordinates, span))

    def operation(self, operation: ir.Operation, dtype: str, span: Span) -> ir.Operation:
        match operation:
            case ir.Load(view, start, fill):
                return ir.Load(self.view(view, span), self.indices(start, span), self.literal(fill, dtype, span))
            case ir.Gather(view, start, axis, indices, fill):
                found, at = self.view(view, span), self.indices(start, span)
                return ir.Gather(found, at, axis, self.value(indices), self.literal(fill, dtype, span))
            case ir.Full(value):
                literal = self.literal(value, dtype, span)
                assert literal is not None
                return ir.Full(literal)
            case ir.Fill(x, value):
                literal = self.literal(value, dtype, span)
                assert literal is not None
                return ir.Fill(self.value(x), literal)
            case ir.FromIndex(i):
                return self.from_index(self.index(i, span), dtype, span)
            case ir.FromCondition(condition):
                found_condition = self.condition(condition, span)
                known = decide(found_condition)
                return ir.Full(known) if known is not None else ir.FromCondition(found_condition)
            case ir.Iota(start):
                return ir.Iota(self.index(start, span))
            case ir.ScalarParam():
                return operation
            case ir.Stack(parts):
                return ir.Stack(tuple(self.value(p) for p in parts))
        operands = {n: self.value(v) for n, v in vars(operation).items() if isinstance(v, ir.Value)}
        return replace(operation, **operands)

    def from_index(self, i: Index, dtype: str, span: Span) -> ir.Operation:
        if i.constant is None:
            return ir.FromIndex(i)
        literal = self.literal(i.constant, dtype, span)
        assert literal is not None
        return ir.Full(literal)

    def literal(self, value: float | int | bool | None, dtype: str, span: Span) -> float | int | bool | None:
        if value is None:
            return None
        if not types.represents(value, dtype) or (isinstance(value, float) and not types.is_float(dtype)):
            hint = f"choose a value that {dtype} holds"
            raise _refuse("literal-range", f"{value!r} does not fit in {dtype}", span, hint, dtype=dtype)
        return float(value) if types.is_float(dtype) else value


# Dead values -------------------------------------------------------------------------------------


def operands_of(operation: ir.Operation) -> tuple[ir.Value, ...]:
    """The values that an operation reads, in order."""
    if isinstance(operation, ir.Stack):
        return operation.parts
    return tuple(v for v in vars(operation).values() if isinstance(v, ir.Value))


def _without_dead(body: tuple[ir.Statement, ...]) -> tuple[ir.Statement, ...]:
    """Drop values that nothing reads; operations have no effects."""
    used: set[int] = set()
    return _live_statements(body, used)


def _live_statements(body: tuple[ir.Statement, ...], used: set[int]) -> tuple[ir.Statement, ...]:
    kept: list[ir.Statement] = []
    for statement in reversed(body):
        match statement:
            case ir.Let(value, operation):
                if value.number not in used:
                    continue
                used.update(v.number for v in operands_of(operation))
            case ir.Store(value=value):
                used.add(value.number)
            case ir.Scatter(value=value, indices=indices):
                used.update(v.number for v in (value, indices) if v is not None)
            case ir.For(carried=carried):
                used.update(v.number for c in carried for v in (c.initial, c.end))
                statement = replace(statement, body=_live_statements(statement.body, used))
            case ir.If(condition=condition, merged=merged):
                used.update(v.number for m in merged for v in (m.then, m.otherwise))
                if isinstance(condition, ir.Value):
                    used.add(condition.number)
                then = _live_statements(statement.then, used)
                statement = replace(statement, then=then, otherwise=_live_statements(statement.otherwise, used))
        kept.append(statement)
    return tuple(reversed(kept))


def free_symbols(kernel: ir.Kernel) -> frozenset[Symbol]:
    """Dims and integer parameters that a concrete kernel still needs at run time."""
    return frozenset(s for a in kernel.arrays for d in a.dims for s in d.symbols())
