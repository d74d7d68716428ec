"""What the words of the tile IR do to terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.constants import LN2
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.terms import ONE, Parameter, Poly, Undenoted, Word, atom, from_index, to_index

_HALF = Fraction(1, 2)
_PER_LN2 = atom(Parameter("ln2"), -1)

_UNARY: dict[str, Callable[[Poly], Poly]] = {
    "neg": lambda x: -x,
    "abs": lambda x: fn.extremum("max", (x, -x)),
    "exp": fn.exp,
    "exp2": lambda x: fn.exp(x * LN2),
    "log": fn.log,
    "log2": lambda x: fn.log(x) * _PER_LN2,
    "sqrt": lambda x: fn.power(x, _HALF),
    "rsqrt": lambda x: fn.power(x, -_HALF),
    "square": lambda x: x * x,
    "tanh": fn.tanh,
    "sigmoid": fn.sigmoid,
    "not": lambda x: ONE - x,
    "erf": lambda x: fn.call("erf", x),
    "sin": lambda x: fn.call("sin", x),
    "cos": lambda x: fn.call("cos", x),
    "floor": lambda x: fn.call("floor", x),
    "ceil": lambda x: fn.call("ceil", x),
    "round": lambda x: fn.call("round", x),
}

_BINARY: dict[str, Callable[[Poly, Poly], Poly]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": fn.divide,
    "maximum": lambda a, b: fn.extremum("max", (a, b)),
    "minimum": lambda a, b: fn.extremum("min", (a, b)),
    "and": lambda a, b: a * b,
    "or": lambda a, b: a + b - a * b,
    "xor": lambda a, b: a + b - (a * b).scaled(Fraction(2)),
}
_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_BITS = frozenset({"shl", "shr"})


def pointwise(word: str, args: Sequence[Poly], known: Known, real: bool) -> Poly:
    """The word applied to elements. `real`: the result is a float. Raises Undenoted for what has no term."""
    if word == "cast":
        return args[0]
    if word == "where":
        return fn.select(*args)
    if word in _UNARY:
        return _UNARY[word](args[0])
    if word in _COMPARISONS:
        return fn.compare(word, args[0], args[1], known)
    if word == "pow":
        return _pow(args[0], args[1])
    if word in _BINARY:
        return _BINARY[word](args[0], args[1])
    if word in ("floordiv", "mod"):
        return _division(word, args[0], args[1], known, real)
    raise Undenoted(f"`{word}`")


def _pow(base: Poly, exponent: Poly) -> Poly:
    known = exponent.constant
    if known is not None:
        return fn.power(base, known)
    return fn.exp(exponent * fn.log(base))


def _division(word: str, a: Poly, b: Poly, known: Known, real: bool) -> Poly:
    first, second = to_index(a), to_index(b)
    if first is None or second is None:
        return fn.call(word, a, b)
    quotient = known.quotient(known.tidy(first), known.tidy(second))
    return from_index(quotient if word == "floordiv" else known.tidy(first - second * quotient))


def reduced_word(word: str) -> Word:
    """The monoid of a reduction; `any` and `all` are the maximum and minimum of 0 and 1."""
    match word:
        case "sum" | "prod" | "max" | "min":
            return word
        case "any":
            return "max"
        case "all":
            return "min"
    raise Undenoted(f"a reduction by `{word}`")


__all__ = ["pointwise", "reduced_word"]
