"""What equality over the reals does not show: formulas that are right and lose all their digits.

A lint on terms. PROVED says that the danger is not there; UNKNOWN is a warning and says what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from kernelagent.dsl import ir
from kernelagent.dsl.instantiate import operands_of
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.semantics.blame import lets
from kernelagent.dsl.verify.semantics.functions import sole_atom
from kernelagent.dsl.verify.semantics.kernel import Made
from kernelagent.dsl.verify.semantics.program import Case
from kernelagent.dsl.verify.semantics.terms import Atom, Element, Extremum, Poly, Reduction, State, parts

_ELEMENTWISE = (
    ir.Unary, ir.Binary, ir.Where, ir.Cast, ir.Broadcast, ir.ExpandDims, ir.Reshape, ir.Permute, ir.Fill, ir.Take,
    ir.Stack,
)  # fmt: skip


def lint(cases: Sequence[Case]) -> tuple[Obligation, ...]:
    """Obligations of family "stability", each once."""
    found: dict[tuple[int | None, str, str], Obligation] = {}
    for case in cases:
        for obligation in (*_exponentials(case), *_variances(case.history), *_selections(case.history)):
            found.setdefault((obligation.line, obligation.verdict, obligation.subject), obligation)
    return tuple(found.values())


# The maximum before the exponential -------------------------------------------------------------


def _exponentials(case: Case) -> Iterator[Obligation]:
    summed = {line for kernel in case.kernels for line in _summed_exponentials(kernel)}
    for line in sorted(summed):
        terms = [m.term for m in case.history if m.line == line and _is_exponential(m.operation)]
        if not terms:
            continue
        if all(_shifted(term, case.words) for term in terms):
            detail = "the maximum is subtracted before the exponentials that are summed: none overflows"
            yield Obligation("stability", "PROVED", line, detail, "exp")
        else:
            detail = "warning: exponentials are summed without their maximum subtracted; in f32 exp overflows above 88"
            yield Obligation("stability", "UNKNOWN", line, detail, "exp")


def _is_exponential(operation: ir.Operation | None) -> bool:
    return isinstance(operation, ir.Unary) and operation.word in ("exp", "exp2")


def _summed_exponentials(kernel: ir.Kernel) -> Iterator[int]:
    """Lines of exponentials that reach a sum or a product through elementwise operations."""
    made = {let.value.number: let for let in lets(kernel.body)}
    for let in made.values():
        if isinstance(let.operation, ir.Mma) or (isinstance(let.operation, ir.Reduce) and let.operation.word == "sum"):
            yield from _sources(operands_of(let.operation), made)


def _sources(values: Iterable[ir.Value], made: Mapping[int, ir.Let]) -> Iterator[int]:
    pending, seen = list(values), set[int]()
    while pending:
        value = pending.pop()
        let = made.get(value.number)
        if let is None or value.number in seen:
            continue
        seen.add(value.number)
        if _is_exponential(let.operation):
            yield let.value.origin.span.line
        elif isinstance(let.operation, _ELEMENTWISE):
            pending += operands_of(let.operation)


def _shifted(term: Poly, words: Mapping[str, str]) -> bool:
    """Whether every exponential has a maximum subtracted in its argument."""
    exponents = [m.exponent for m, _ in term.terms if m.exponent is not None]
    return all(any(_subtracts(m.factors, c, words) for m, c in e.terms) for e in exponents)


def _subtracts(factors: tuple[tuple[Atom, Fraction], ...], coefficient: Fraction, words: Mapping[str, str]) -> bool:
    return coefficient < 0 and any(_is_maximum(a, words) for a, _ in factors)


def _is_maximum(a: Atom, words: Mapping[str, str]) -> bool:
    if isinstance(a, State):
        return words.get(a.name) == "max"
    return isinstance(a, Reduction | Extremum) and a.word == "max"


# The variance as a difference of moments ----------------------------------------------------------


def _variances(history: Sequence[Made]) -> Iterator[Obligation]:
    for made in history:
        operation = made.operation
        if isinstance(operation, ir.Binary) and operation.word == "sub" and _difference_of_moments(made.term):
            detail = (
                "warning: E[x^2] - E[x]^2 cancels where the mean is large; subtract the mean first, "
                "or carry (mean, m2) as Welford does"
            )
            yield Obligation("stability", "UNKNOWN", made.line, detail, "variance")


def _difference_of_moments(term: Poly) -> bool:
    """c * sum(x^2) - d * sum(x)^2 of the same array."""
    squares: set[str] = set()
    squared: set[str] = set()
    for mono, coefficient in term.terms:
        for factor, exponent in mono.factors:
            if isinstance(factor, Reduction | State):
                arrays = (
                    {a.array for a in parts(factor.body) if isinstance(a, Element)}
                    if isinstance(factor, Reduction)
                    else set()
                )
                if exponent == 1 and coefficient > 0 and isinstance(factor, Reduction) and _is_square(factor.body):
                    squares |= arrays
                if exponent == 2 and coefficient < 0:
                    squared |= arrays
    return bool(squares & squared)


def _is_square(body: Poly) -> bool:
    return any(isinstance(a, Element) and e == 2 for m, _ in body.terms for a, e in m.factors)


# NaN ----------------------------------------------------------------------------------------------


def _selections(history: Sequence[Made]) -> Iterator[Obligation]:
    for made in history:
        if isinstance(made.operation, ir.Where) and isinstance(sole_atom(made.term), Extremum):
            detail = "warning: where(a > b, a, b) turns a NaN into the other value; maximum and minimum hand it on"
            yield Obligation("stability", "UNKNOWN", made.line, detail, "nan")
