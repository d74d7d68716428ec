"""What equality over the reals does not show: formulas that are right and lose all their digits.

A lint on terms. PROVED says that the danger is not there; UNKNOWN is a warning and says what to write instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.instantiation import operands_of
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.semantics.blame import lets
from kernelagent.dsl.verify.semantics.functions import power
from kernelagent.dsl.verify.semantics.kernel import Made
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.nan import ELEMENTWISE
from kernelagent.dsl.verify.semantics.program import Case
from kernelagent.dsl.verify.semantics.reductions import rewrite
from kernelagent.dsl.verify.semantics.terms import Atom, Element, Extremum, Mono, Poly, Reduction, State, parts


def lint(cases: Sequence[Case]) -> tuple[Obligation, ...]:
    """Obligations of family "stability", each once."""
    found: dict[tuple[int | None, str, str], Obligation] = {}
    for case in cases:
        for obligation in (
            *_exponentials(case),
            *_quotients(case),
            *_variances(case.history),
        ):
            found.setdefault((obligation.line, obligation.verdict, obligation.subject), obligation)
    return tuple(found.values())


# The maximum before the exponential -------------------------------------------------------------


def _exponentials(case: Case) -> Iterator[Obligation]:
    summed = {line for kernel in case.kernels for line in _summed_exponentials(kernel)}
    for line in sorted(summed):
        made = [m for m in case.history if m.line == line and _is_exponential(m.operation)]
        if not made:
            continue
        if all(_shifted(m, case.words) for m in made):
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
        elif isinstance(let.operation, ELEMENTWISE):
            pending += operands_of(let.operation)


def _shifted(made: Made, words: Mapping[str, str]) -> bool:
    """Whether every exponential has a maximum subtracted in its argument, one over a range that it lies in."""
    exponents = [m.exponent for m, _ in made.term.terms if m.exponent is not None]
    return all(any(_subtracts(e, m, c, words, made.known) for m, c in e.terms) for e in exponents)


def _subtracts(
    exponent: Poly, mono: Mono, coefficient: Fraction, words: Mapping[str, str], known: Known | None
) -> bool:
    return coefficient < 0 and any(
        _is_maximum(a, words) and not _elsewhere(exponent, mono, a, known) for a, _ in mono.factors
    )


def _is_maximum(a: Atom, words: Mapping[str, str]) -> bool:
    if isinstance(a, State):
        return words.get(a.name) == "max"
    return isinstance(a, Reduction | Extremum) and a.word == "max"


def _elsewhere(exponent: Poly, mono: Mono, maximum: Atom, known: Known | None) -> bool:
    """Whether the rest of the exponent is the maximum's body at a place that is not shown to be in its range."""
    if not isinstance(maximum, Reduction) or len(maximum.binders) != 1 or known is None:
        return False
    (binder,) = maximum.binders
    factor = Poly({Mono((f for f in mono.factors if f[0] != maximum), mono.exponent): -dict(exponent.terms)[mono]})
    rest = (exponent - Poly({mono: dict(exponent.terms)[mono]})) * power(factor, Fraction(-1))
    for place in _places(rest, maximum):
        if rewrite(maximum.body, {binder.name: place}, known) == rest:
            inside = [place - lo for lo in binder.lo] + [hi - 1 - place for hi in binder.hi]
            return not all(known.nonnegative(known.tidy(i)) for i in inside)
    return False


def _places(rest: Poly, maximum: Reduction) -> Iterator[Index]:
    """Values of the maximum's name at which an element of its body is one of the rest."""
    symbol = ix.Symbol(maximum.binders[0].name, "loop")
    for found, sought in itertools.product(parts(rest), parts(maximum.body)):
        if not isinstance(found, Element) or not isinstance(sought, Element) or found.array != sought.array:
            continue
        for here, there in zip(found.place, sought.place, strict=True):
            affine = there.affine(symbol) if symbol in there.symbols() else None
            if affine is not None and affine[0].constant in (1, -1):
                yield (here - affine[1]) * affine[0]


# The same exponential above and below a line -------------------------------------------------------


def _quotients(case: Case) -> Iterator[Obligation]:
    """e / (1 + e) is infinity over infinity where e overflows."""
    bounded = {m.line for m in case.history if _is_exponential(m.operation) and _falls(m, case.words)}
    for kernel in case.kernels:
        made = {let.value.number: let for let in lets(kernel.body)}
        chosen = {
            v.number for let in made.values() if isinstance(let.operation, ir.Where) for v in operands_of(let.operation)
        }
        for let in made.values():
            if not isinstance(let.operation, ir.Binary) or let.operation.word != "div" or let.value.number in chosen:
                continue
            above, below = (set(_sources((v,), made)) for v in (let.operation.a, let.operation.b))
            for line in sorted((above & below) - bounded):
                detail = (
                    "warning: the exponential is above and below the line: infinity by infinity, NaN, where it "
                    "overflows, in f32 above 88; write 1 / (1 + exp(-x))"
                )
                yield Obligation("stability", "UNKNOWN", line, detail, "quotient")


def _falls(made: Made, words: Mapping[str, str]) -> bool:
    """Whether the exponential is at most 1: what it is of is no more than a maximum that is subtracted."""
    return any(m.exponent is not None for m, _ in made.term.terms) and _shifted(made, words)


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
