"""Numbers of two finite fields in one 64-bit integer: exact arithmetic in which random inputs tell formulas apart.

A value is a pair (a, b) in F_p x F_q with p = 2 q + 1, stored as a * 2^32 + b. Sums and products are taken in both
fields; exp(a, b) is (g^b, hash of b) for a g of order q, so exp(x) * exp(y) = exp(x + y) holds in the first part: one
level of exponentials is exact. Functions that are no field operations (erf, log, sqrt) are hashes of the first part.
Maxima compare the integers: any order will do, for a stabiliser cancels and both sides use the same. Minus infinity
is -1, infinity 2^62.

Equal outputs are no proof: unequal formulas of degree d agree with probability at most about d / p for one draw.
Unequal outputs are no refutation either (nested exponentials, identities of hashed functions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.numbers import product
from kernelagent.dsl.verify.semantics.constants import UNREACHED, literal
from kernelagent.dsl.verify.semantics.terms import Group, Parameter, Poly

NEGATIVE, POSITIVE = -1, 1 << 62
_LOW = (1 << 32) - 1
_CHUNK = 256
"""Products of 14 and 27 bits whose sum a float holds."""


class Unfielded(Exception):
    """A division by zero, or an operation that has no meaning in a field."""


@dataclass(frozen=True)
class Pair:
    """Two primes, p = 2 q + 1, below 2^27."""

    p: int
    q: int
    generator: int = 4  # a square, so of order q


PAIRS = (Pair(134217323, 67108661), Pair(134216987, 67108493), Pair(134216543, 67108271))


class Field:
    """Arithmetic on encoded arrays. `seed` decides what inputs and hashed functions are."""

    def __init__(self, pair: Pair, seed: int = 0) -> None:
        self.pair, self.seed = pair, np.uint64(0x9E3779B97F4A7C15 * (seed + 1) % (1 << 64))

    # Encoding ----------------------------------------------------------------------------------

    def pack(self, a: Array, b: Array) -> Array:
        return (np.asarray(a, np.int64) << 32) | np.asarray(b, np.int64)

    def parts(self, x: Array) -> tuple[Array, Array]:
        finite = x if _finite(x) else np.where((x < 0) | (x == POSITIVE), 0, x)
        return finite >> 32, finite & _LOW

    def whole(self, n: Array) -> Array:
        """Integers as field values."""
        wide = np.asarray(n).astype(np.int64)
        return self.pack(wide % self.pair.p, wide % self.pair.q)

    def hashed(self, x: Array, word: str = "") -> Array:
        """Random values that depend on 64-bit patterns and on a name."""
        salt = np.uint64(sum(ord(c) << (8 * (i % 7)) for i, c in enumerate(word)) % (1 << 64))
        with np.errstate(over="ignore"):
            h = np.asarray(x).astype(np.int64).view(np.uint64) + self.seed + salt * np.uint64(0xD6E8FEB86659FD93)
            for shift in (30, 27, 31):
                h ^= h >> np.uint64(shift)
                h *= np.uint64(0xBF58476D1CE4E5B9)
        high, low = h >> np.uint64(36), h & np.uint64((1 << 28) - 1)
        return self.pack(
            (high % np.uint64(self.pair.p)).astype(np.int64), (low % np.uint64(self.pair.q)).astype(np.int64)
        )

    def fraction(self, value: Fraction) -> int:
        p, q = self.pair.p, self.pair.q
        a = value.numerator * pow(value.denominator, -1, p) % p
        return (a << 32) | (value.numerator * pow(value.denominator, -1, q) % q)

    def constant(self, value: float | int | bool) -> int:
        """A literal; irrational constants are random, but alike everywhere and with exact inverses."""
        if isinstance(value, float) and abs(value) >= UNREACHED:
            return POSITIVE if value > 0 else NEGATIVE
        return self._term(literal(float(value) if isinstance(value, float) else int(value)))

    def _term(self, term: Poly) -> int:
        total = np.asarray(0, np.int64)
        for mono, coefficient in term.terms:
            product = np.asarray(self.fraction(coefficient), np.int64)
            for factor, exponent in mono.factors:
                if not isinstance(factor, Parameter | Group):
                    raise Unfielded("a literal")
                base = self.hashed(np.asarray(len(factor.key)), f"{factor.key}^{abs(exponent)}")
                product = self.multiply(product, base if exponent > 0 else self.inverse(base))
            total = self.add(total, product)
        return int(total)

    # Field operations --------------------------------------------------------------------------

    def _both(self, x: Array, y: Array, function: Callable[[Array, Array], Array]) -> Array:
        (a, b), (c, d) = self.parts(x), self.parts(y)
        first, second = function(a, c), function(b, d)
        first %= self.pair.p
        second %= self.pair.q
        first <<= 32
        first |= second
        return first

    def add(self, x: Array, y: Array) -> Array:
        total = self._both(x, y, np.add)
        if _finite(x) and _finite(y):
            return total
        total = np.where((x == POSITIVE) | (y == POSITIVE), POSITIVE, total)
        return np.where((x < 0) | (y < 0), NEGATIVE, total)

    def negate(self, x: Array) -> Array:
        a, b = self.parts(x)
        result = self.pack(-a % self.pair.p, -b % self.pair.q)
        return np.where(x < 0, POSITIVE, np.where(x == POSITIVE, NEGATIVE, result))

    def subtract(self, x: Array, y: Array) -> Array:
        return self.add(x, self.negate(y))

    def multiply(self, x: Array, y: Array) -> Array:
        """Infinities keep their sign: what they are multiplied by counts as positive."""
        product = self._both(x, y, np.multiply)
        if _finite(x) and _finite(y):
            return product
        product = np.where((x == POSITIVE) | (y == POSITIVE), POSITIVE, product)
        return np.where((x < 0) | (y < 0), NEGATIVE, product)

    def _power(self, base: Array, exponent: Array | int, modulus: int) -> Array:
        result = np.ones(np.broadcast_shapes(np.shape(base), np.shape(exponent)), np.int64)
        base, exponent = np.asarray(base, np.int64), np.asarray(exponent, np.int64)
        for bit in range(27):
            taken = (exponent >> bit) & 1
            if taken.any():
                result = np.where(taken, result * base % modulus, result)
            base = base * base % modulus
        return result

    def inverse(self, x: Array) -> Array:
        a, b = self.parts(x)
        infinite = (x < 0) | (x == POSITIVE)
        if np.any((a == 0) & ~infinite):
            raise Unfielded("division by zero")
        result = self.pack(self._power(a, self.pair.p - 2, self.pair.p), self._power(b, self.pair.q - 2, self.pair.q))
        return np.where(infinite, 0, result)

    def exp(self, x: Array) -> Array:
        _, b = self.parts(x)
        first = self._generated(b)
        _, second = self.parts(self.hashed(b, "exp"))
        return np.where(x < 0, 0, self.pack(first, second))

    def _generated(self, exponent: Array) -> Array:
        """The generator to powers below 2^27, nine bits at a time."""
        result = np.ones((), np.int64)
        for k, table in enumerate(self._powers):
            result = result * table[(exponent >> (9 * k)) & 511] % self.pair.p
        return result

    @cached_property
    def _powers(self) -> list[Array]:
        p, g = self.pair.p, self.pair.generator
        return [np.array([pow(g, n << (9 * k), p) for n in range(512)], np.int64) for k in range(3)]

    def opaque(self, word: str, x: Array) -> Array:
        a, _ = self.parts(x)
        return self.hashed(np.where(x < 0, NEGATIVE, a), word)

    def total(self, x: Array, axis: int) -> Array:
        if np.any(x < 0):
            raise Unfielded("a sum of infinities")
        a, b = self.parts(x)
        return self.pack(a.sum(axis=axis) % self.pair.p, b.sum(axis=axis) % self.pair.q)

    def product(self, a: Array, b: Array) -> Array:
        """Matrix product over the last axis of a and the last but one of b."""
        if a.min(initial=0) < 0 or b.min(initial=0) < 0:
            raise Unfielded("a product of infinities")
        (a1, a2), (b1, b2) = self.parts(a), self.parts(b)
        return self.pack(_matmul(a1, b1, self.pair.p), _matmul(a2, b2, self.pair.q))

    # Words -------------------------------------------------------------------------------------

    def unary(self, word: str, x: Array) -> Array:
        one, two = np.asarray(self.constant(1)), np.asarray(self.constant(2))
        match word:
            case "neg":
                return self.negate(x)
            case "abs":
                return np.maximum(x, self.negate(x))
            case "exp":
                return self.exp(x)
            case "exp2":
                return self.exp(self.multiply(x, np.asarray(self.constant(float(np.log(2.0))))))
            case "log2":
                return self.multiply(self.opaque("log", x), np.asarray(self.constant(float(1.0 / np.log(2.0)))))
            case "rsqrt":
                return self.inverse(self.opaque("sqrt", x))
            case "square":
                return self.multiply(x, x)
            case "sigmoid":
                return self.inverse(self.add(one, self.exp(self.negate(x))))
            case "tanh":
                return self.subtract(
                    one, self.multiply(two, self.inverse(self.add(self.exp(self.multiply(two, x)), one)))
                )
        return self.opaque(word, x)

    def binary(self, word: str, x: Array, y: Array) -> Array:
        match word:
            case "add":
                return self.add(x, y)
            case "sub":
                return self.subtract(x, y)
            case "mul":
                return self.multiply(x, y)
            case "div":
                return self.multiply(x, self.inverse(y))
            case "maximum":
                return np.maximum(x, y)
            case "minimum":
                return np.minimum(x, y)
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                comparisons: dict[str, Any] = {
                    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
                    "ne": np.not_equal,
                }  # fmt: skip
                return np.asarray(comparisons[word](x, y))
        raise Unfielded(f"`{word}` of floats")

    def reduce(self, word: str, x: Array, axis: int) -> Array:
        if word == "sum":
            return self.total(x, axis)
        if word in ("max", "min"):
            lowest, function = (NEGATIVE, np.max) if word == "max" else (POSITIVE, np.min)
            return np.asarray(function(x, axis=axis, initial=lowest))
        raise Unfielded(f"a reduction by {word}")


def _finite(x: Array) -> bool:
    """Whether there is no infinity: far quicker than to put one aside everywhere."""
    values = np.asarray(x)
    return not values.size or bool(values.min() >= 0 and values.max() < POSITIVE)


def _matmul(a: Array, b: Array, modulus: int) -> Array:
    """In floats, which BLAS multiplies: halves of 14 bits, so that sums of 256 products stay below 2^49, and below 2^63
    when put together."""
    total: Array = np.zeros((*a.shape[:-1], b.shape[-1]), np.int64)
    right = b.astype(np.float64)
    high, low = (a >> 14).astype(np.float64), (a & 0x3FFF).astype(np.float64)
    for start in range(0, a.shape[-1], _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = right[..., part, :]
        upper, lower = (_times(half[..., part], rows).astype(np.int64) for half in (high, low))
        upper <<= 14
        total += upper
        total += lower
        total %= modulus
    return total


def _times(a: Array, b: Array) -> Array:
    return product(a, b) if a.ndim == 2 else np.asarray(a @ b)
