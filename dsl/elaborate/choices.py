"""What a caller may choose, and what is chosen when the caller says nothing: tunables, consts, dtypes, dims, policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.elaborate.header import family
from kernelagent.dsl.index import Index, condition_indices, decide, substitute_condition

Value = int | bool


# Choices -----------------------------------------------------------------------------------------


def refuse(code: str, message: str, span: Span | None, hint: str, **facts: object) -> KernelError:
    return KernelError([Diagnostic(code, message, span, hint=hint, facts=facts)])


def _check_known(given: Iterable[str], known: Sequence[str], what: str, span: Span) -> None:
    for name in given:
        if name not in known:
            close = nearest(name, list(known))
            listing = ", ".join(known) or "none"
            hint = f"did you mean `{close}`?" if close else f"the kernel's {what}s are: {listing}"
            raise refuse("unknown-choice", f"the kernel has no {what} `{name}`", span, hint, nearest=close)


def resolve_tunables(
    entry: ir.Kernel | ir.Program, given: Mapping[str, Value], target: str = "cpu"
) -> dict[str, Value]:
    """Every tunable's value: the caller's, else the most specific `on(target, ...)`, else the default."""
    known = {t.name: t for t in entry.tunables}
    _check_known(given, list(known), "tunable", entry.span)
    for name, value in given.items():
        if isinstance(value, bool) != isinstance(known[name].default, bool) or value < 0:
            hint = f"pass a value like the default {known[name].default!r}"
            raise refuse("tunable-range", f"`{name}` cannot be {value!r}", known[name].span, hint)
    result: dict[str, Value] = {}
    for name, tunable in known.items():
        scoped = _most_specific(entry.policies, name, target)
        result[name] = given.get(name, scoped if isinstance(scoped, int) else tunable.default)
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


def resolve_consts(kernel: ir.Kernel, given: Mapping[str, Value]) -> dict[str, Value]:
    known = {s.name: s for s in kernel.scalars if s.dtype == "const"}
    _check_known(given, list(known), "const", kernel.span)
    result: dict[str, Value] = {}
    for name, scalar in known.items():
        value = given.get(name, scalar.default)
        if value is None or isinstance(value, float):
            hint = f"pass consts={{'{name}': ...}}, an integer or a bool"
            raise refuse("missing-choice", f"the constant `{name}` has no value", scalar.span, hint)
        result[name] = value
    return result


def resolve_dtypes(kernel: ir.Kernel, given: Mapping[str, str]) -> dict[str, str]:
    _check_known(given, kernel.dtype_variables, "dtype variable", kernel.span)
    for name in kernel.dtype_variables:
        if name not in given:
            hint = f"pass dtypes={{'{name}': 'f32'}}"
            raise refuse("missing-choice", f"the dtype variable `{name}` has no value", kernel.span, hint)
        check_dtype(kernel, name, given[name])
    return dict(given)


def check_dtype(kernel: ir.Kernel | ir.Program, variable: str, dtype: str) -> None:
    """Whether the dtype exists and the kernel's operations are defined on it. Raises KernelError."""
    if not types.is_concrete(dtype):
        hint = f"dtypes are {', '.join(types.DTYPES)}"
        raise refuse("unknown-dtype", f"`{dtype}` is not a dtype", kernel.span, hint)
    need = dict(kernel.dtype_needs).get(variable) if isinstance(kernel, ir.Kernel) else None
    if need is not None and not types.fits_need(dtype, need):
        message = (
            f"`{variable}` = {dtype}: the kernel does arithmetic on it in f32, so it must be a float of <= 32 bits"
        )
        span = next((a.span for a in kernel.arrays if a.dtype == variable), kernel.span)
        raise refuse("dtype-need", message, span, "pass f32, bf16 or f16; or name the dtype in the signature")


def resolve_dims(kernel: ir.Kernel, given: Mapping[str, int]) -> dict[str, int]:
    _check_known(given, kernel.dims, "dim", kernel.span)
    missing = [d for d in fixed_dims(kernel) if d not in given]
    if missing:
        message = f"`{missing[0]}` is used as an extent, so it needs a value when the kernel is compiled"
        raise refuse("missing-choice", message, kernel.span, f"pass dims={{'{missing[0]}': ...}}")
    return dict(given)


def remaining_assumes(kernel: ir.Kernel, values: Mapping[str, Index]) -> tuple[ir.Assume, ...]:
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
    names = sorted({s.name for i in condition_indices(assume.condition) for s in i.symbols()} & set(values))
    chosen = ", ".join(f"{n}={values[n]}" for n in names)
    message = f"`assume({assume.text})`: {why} for {chosen}"
    return refuse("illegal-choice", message, assume.span, "choose values that satisfy it", **dict.fromkeys(names))


# Policies ----------------------------------------------------------------------------------------

_MEANINGFUL = {
    "cpu": frozenset({"stages", "raster", "via", "layout", "unroll"}),
    "cuda": frozenset(
        {"stages", "warps", "cluster", "raster", "persistent", "roles", "via", "layout", "unroll", "promote"}
        | {"no_spills"}
    ),
    "hip": frozenset({"stages", "raster", "persistent", "layout", "unroll"}),
}
"""Which policy words mean something on which family of targets."""


_CHECKED = frozenset({"deterministic", "no_spills"})
"""Words that are checked on the result and choose nothing."""


@dataclass(frozen=True)
class EffectivePolicy:
    """Policy words that hold on a target, those of them that are binding, and a line for each dropped one.

    `demanded` are those that `require(...)` gives; `required`: some `require(...)` that holds here sets policy or
    tunables. `spans`: where each word is given.
    """

    words: Mapping[str, int | bool | str | tuple[int, ...]]
    binding: frozenset[str]
    report: tuple[str, ...]
    demanded: frozenset[str] = frozenset()
    required: bool = False
    spans: Mapping[str, Span] = field(default_factory=dict)


def policies_for(kernel: ir.Kernel | ir.Program, target: str) -> EffectivePolicy:
    """The most specific value of each policy word. Raises KernelError if binding policy has no meaning here."""
    tunables = {t.name for t in kernel.tunables}
    known = _MEANINGFUL.get(family(target) or "", frozenset())
    best: dict[str, tuple[int, int | bool | str | tuple[int, ...]]] = {}
    binding: set[str] = set()
    report: list[str] = []
    spans: dict[str, Span] = {}
    demanded: set[str] = set()
    required = False
    for policy in kernel.policies:
        rank = specificity(policy.target, target)
        if rank is None:
            continue
        required |= policy.required and any(word not in _CHECKED for word, _ in policy.words)
        for word, value in policy.words:
            if word in tunables or word not in _POLICY_WORDS:
                continue
            if word not in known and word != "deterministic":
                report += _drop(policy, word, value, target)
                continue
            rank_here = rank + 3 * policy.required
            if word not in best or rank_here > best[word][0]:
                best[word] = (rank_here, value)
                spans[word] = policy.span
            if policy.required or policy.target is not None:
                binding.add(word)
            if policy.required:
                demanded.add(word)
    words = {w: v for w, (_, v) in best.items()}
    return EffectivePolicy(words, frozenset(binding), tuple(report), frozenset(demanded), required, spans)


_POLICY_WORDS = frozenset().union(*_MEANINGFUL.values()) | {"deterministic"}


def _drop(policy: ir.Policy, word: str, value: object, target: str) -> list[str]:
    if policy.required or policy.target is not None:
        message = f"`{word}={value}` has no meaning on {target} and cannot be honoured"
        raise refuse("policy-refused", message, policy.span, f"remove `{word}`, or scope it to another target")
    return [f"line {policy.span.line}: {word}={value} dropped: no meaning on {target}"]


# Fixed dims --------------------------------------------------------------------------------------


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
