"""Registers of fragments as affine functions of loop variables: no division is left in emitted code.

A register index is split into digits; a `Term` says what one digit adds to a source register or to a coordinate.
`Loops` is the nest of register loops in which a set of such functions can be written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from kernelagent.dsl.lanes import Distribution, Mode, normal


class LayoutMismatch(Exception):
    """The schedule names a distribution that its operation cannot have: a fault of the lowering or of a hand-written
    schedule. The message names both sides."""


@dataclass(frozen=True)
class Term:
    """`(register / divisor % extent) * weight`."""

    divisor: int
    extent: int
    weight: int

    def __call__(self, register: int) -> int:
        return register // self.divisor % self.extent * self.weight


Terms = tuple[Term, ...]


def identity(registers: int) -> Terms:
    return (Term(1, registers, 1),) if registers > 1 else ()


def coordinate_terms(d: Distribution, axis: int, scale: int = 1) -> Terms:
    """The position along `axis`, counted from the thread's first, of each register."""
    found: list[Term] = []
    divisor = 1
    for mode in d.values:
        if mode.axis == axis:
            found.append(Term(divisor, mode.extent, mode.stride * scale))
        divisor *= mode.extent
    return merged(found)


def merged(terms: Iterable[Term]) -> Terms:
    """Terms without effect dropped, neighbours that continue each other joined."""
    kept: list[Term] = []
    for term in sorted(terms, key=lambda t: t.divisor):
        if term.extent == 1 or term.weight == 0:
            continue
        last = kept[-1] if kept else None
        if last and last.divisor * last.extent == term.divisor and last.weight * last.extent == term.weight:
            kept[-1] = Term(last.divisor, last.extent * term.extent, last.weight)
        else:
            kept.append(term)
    return tuple(kept)


def composed(outer: Terms, inner: Terms) -> Terms:
    """The function r -> outer(inner(r)). Raises LayoutMismatch where a digit of one cuts a digit of the other."""
    found: list[Term] = []
    for term in inner:
        divisor, left, weight = term.divisor, term.extent, term.weight
        while left > 1:
            source = next((t for t in outer if t.divisor <= weight < t.divisor * t.extent), None)
            ends = [t.divisor for t in outer if t.divisor > weight] if source is None else [_end(source)]
            step = min(left, *(e // weight for e in ends)) if ends else left
            if step < 2 or left % step or (source is not None and weight % source.divisor):
                raise LayoutMismatch(f"register digit {term} does not fit into {outer}")
            if source is not None:
                found.append(Term(divisor, step, source.weight * (weight // source.divisor)))
            divisor, left, weight = divisor * step, left // step, weight * step
    return merged(found)


def _end(term: Term) -> int:
    return term.divisor * term.extent


def follow(target: Distribution, source: Distribution, axes: Mapping[int, int]) -> Terms:
    """For each register of `target` the register of `source` in the same thread that holds its element.

    Target axis a is source axis `axes[a]`; target axes that are left out do not move in the source (broadcast,
    dropped). Raises LayoutMismatch if the element is in another thread.
    """
    lanes = normal(_moved(m, axes) for m in target.lanes)
    wanted = normal(m if m.axis < 0 or source.shape[m.axis] > 1 else Mode(m.extent, -1, 0) for m in lanes)
    if wanted != normal(source.lanes):
        raise LayoutMismatch(
            f"threads {_modes(source.lanes)} of {source.shape} hold other elements than {_modes(wanted)}"
        )
    found: list[Term] = []
    divisor = 1
    for mode in target.values:
        if mode.axis in axes and source.shape[axes[mode.axis]] > 1:
            found += _source_terms(Mode(mode.extent, axes[mode.axis], mode.stride), divisor, source)
        divisor *= mode.extent
    return merged(found)


def _moved(mode: Mode, axes: Mapping[int, int]) -> Mode:
    return Mode(mode.extent, axes[mode.axis], mode.stride) if mode.axis in axes else Mode(mode.extent, -1, 0)


def _source_terms(mode: Mode, divisor: int, source: Distribution) -> list[Term]:
    """The digits of `source` that `mode` steps through."""
    found: list[Term] = []
    left, stride = mode.extent, mode.stride
    while left > 1:
        radix = 1
        for m in source.values:
            if m.axis == mode.axis and m.stride <= stride < m.stride * m.extent and stride % m.stride == 0:
                break
            radix *= m.extent
        else:
            raise LayoutMismatch(f"no register of {_modes(source.values)} steps {stride} along axis {mode.axis}")
        step = min(left, m.stride * m.extent // stride)
        if left % step:
            raise LayoutMismatch(f"registers {_modes(source.values)} cut a run of {left} steps of {stride}")
        found.append(Term(divisor, step, radix * (stride // m.stride)))
        left, stride, divisor = left // step, stride * step, divisor * step
    return found


def run_along(d: Distribution, axis: int) -> int:
    """Consecutive registers that hold consecutive elements along `axis`."""
    run = 1
    for mode in d.values:
        if mode.axis != axis or mode.stride != run:
            break
        run *= mode.extent
    return run


def _modes(modes: Iterable[Mode]) -> str:
    return "(" + ", ".join(map(str, modes)) + ")"


@dataclass(frozen=True)
class Part:
    """A summand `variable * weight` with variable in [0, extent)."""

    variable: str
    extent: int
    weight: int


class Loops:
    """The nest over `registers` in groups of `step` in which all of `functions` are sums of parts."""

    def __init__(self, registers: int, functions: Iterable[Terms], step: int = 1, prefix: str = "r") -> None:
        edges = {step, registers}
        for terms in functions:
            for t in terms:
                edges |= {e for e in (t.divisor, t.divisor * t.extent) if step <= e <= registers}
        points = sorted(edges)
        self.chained = all(b % a == 0 for a, b in pairwise(points))
        self.step = step
        if not self.chained:
            points = [step, registers]
        self.points = points
        pairs = [(a, b // a) for a, b in pairwise(points) if b > a]
        several = len(pairs) > 1
        self.variables = [
            (divisor, extent, f"{prefix}{k}" if several else prefix) for k, (divisor, extent) in enumerate(pairs)
        ]

    def heads(self) -> list[str]:
        """`for` lines, outermost first."""
        return [
            f"KA_UNROLL for (int {name} = 0; {name} < {extent}; ++{name})"
            for _, extent, name in reversed(self.variables)
        ]

    def split(self, registers: int) -> tuple[list[str], list[str]]:
        """`heads` as outer loops and inner ones that run over at most `registers`."""
        heads = self.heads()
        inner = sum(divisor * extent <= registers for divisor, extent, _ in self.variables)
        return heads[: len(heads) - inner], heads[len(heads) - inner :]

    def count(self, inner: list[str]) -> int:
        """How often the innermost of these loops runs."""
        return prod(extent for _, extent, _ in self.variables[: len(inner)])

    def parts(self, terms: Terms) -> list[Part]:
        if not self.chained:
            return [self._divided(t) for t in terms if t.divisor * t.extent > self.step]
        found: list[Part] = []
        for t in terms:
            ends = {e for e in (t.divisor, t.divisor * t.extent) if e > self.step}
            if not ends <= set(self.points):
                raise LayoutMismatch(f"register digit {t} is cut by loops that step {self.points}")
        for divisor, extent, name in self.variables:
            term = next((t for t in terms if t.divisor <= divisor < t.divisor * t.extent), None)
            if term is not None:
                found.append(Part(name, extent, term.weight * (divisor // term.divisor)))
        return found

    def _divided(self, t: Term) -> Part:
        register = f"{self.variables[0][2]} * {self.step}" if self.step > 1 else self.variables[0][2]
        divided = f"{register} / {t.divisor}" if t.divisor > 1 else register
        return Part(f"({divided} % {t.extent})", t.extent, t.weight)

    def sum(self, terms: Terms, offset: int = 0) -> str:
        """C text of the function's value, "0" if it is nothing."""
        return sum_text(self.parts(terms), offset)


def sum_text(parts: Sequence[Part], offset: int = 0) -> str:
    texts = [p.variable if p.weight == 1 else f"{p.variable} * {p.weight}" for p in parts]
    if offset or not texts:
        texts.append(str(offset))
    return " + ".join(texts)


def plus(base: str, addition: str) -> str:
    """`base + addition` without zeros."""
    if addition == "0":
        return base
    return addition if base == "0" else f"{base} + {addition}"
