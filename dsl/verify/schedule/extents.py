"""What the sizes that take a shape class have in common, for the search over protocols: `divides(K, 4)` makes K + 4 a
multiple of 4, and an extent of an array with a tensor map is at least 1, since a map of no elements is never made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, Symbol


@dataclass(frozen=True)
class Extents:
    """`multiples`: of dims and scalars, by the guards of the class. `positive`: dims that are at least 1."""

    multiples: Mapping[str, int]
    positive: frozenset[str]

    def multiple(self, value: Index) -> int:
        """A number that divides the value at all sizes; 1 where none larger is known."""
        found = 0
        for factors, coefficient in value.terms:
            known = (self.multiples.get(f.name, 1) for f in factors if isinstance(f, Symbol))
            part = coefficient
            for each in known:
                part *= each
            found = gcd(found, part)
        return max(found, 1)

    def least(self, value: Index) -> int | None:
        """The smallest value of a sum of dims with positive factors; None where nothing is known."""
        total = 0
        for factors, coefficient in value.terms:
            if not factors:
                total += coefficient
                continue
            only = factors[0] if len(factors) == 1 else None
            if coefficient < 0 or not isinstance(only, Symbol) or only.kind != "dim":
                return None
            total += coefficient * self.smallest(only.name)
        return total

    def smallest(self, dim: str) -> int:
        return self.multiples.get(dim, 1) if dim in self.positive else 0

    def take(self, sizes: Mapping[str, int]) -> bool:
        """Whether the dims are such (ranges of the class aside)."""
        divided = all(sizes[name] % n == 0 for name, n in self.multiples.items() if name in sizes)
        return divided and all(sizes[name] > 0 for name in self.positive if name in sizes)


def extents_of(kernel: dev.DeviceKernel) -> Extents:
    multiples = {g.subject: g.value for g in kernel.shape_class.guards if g.kind == "divides"}
    boxes = (s for s in dev.statements(kernel) if isinstance(s, dev.CopyBulk | dev.StoreBulk))
    mapped = {s.view.array for s in boxes}
    dims = (d for a in kernel.arrays if a.name in mapped for d in a.dims)
    factors = (f for d in dims if len(d.terms) == 1 for monomial, _ in d.terms for f in monomial)
    names = (f.name for f in factors if isinstance(f, Symbol) and f.kind == "dim")
    return Extents(multiples, frozenset(names))


__all__ = ["Extents", "extents_of"]
