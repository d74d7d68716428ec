"""Atoms of terms: everything that the normal form of polynomials does not look into.

`free` has the names of all index symbols that are not bound, and of the states of loops ("~" now, "^" at the end of
the iteration). `height` is the number of nested binders; a reduction of height h binds symbols that no part of it
uses.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index

if TYPE_CHECKING:
    from kernelagent.dsl.verify.semantics.terms import Poly

ODD, EVEN = frozenset({"erf", "sin", "round"}), frozenset({"cos"})
ODD_AND_EVEN = ODD | EVEN
_SHORT = 160


def digest(text: str) -> str:
    """A key: the text itself where it is short."""
    return text if len(text) <= _SHORT else "#" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def names(*indices: Index) -> frozenset[str]:
    return frozenset(s.name for i in indices for s in i.symbols())


@dataclass(frozen=True, eq=False)
class Atom(ABC):
    """Base of atoms; equal iff their keys are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def key(self) -> str:
        return digest(self.text())

    @property
    def inner(self) -> tuple[Poly, ...]:
        """The terms that it is made of."""
        return ()

    @cached_property
    def free(self) -> frozenset[str]:
        return frozenset().union(*(p.free for p in self.inner))

    @cached_property
    def height(self) -> int:
        return max((p.height for p in self.inner), default=0)

    @cached_property
    def fragile(self) -> bool:
        """Whether its canonical form may change when names do: it holds a choice that was made by comparing keys."""
        return any(p.fragile for p in self.inner)

    @abstractmethod
    def text(self) -> str:
        """All of the atom in one line: what is compared, and what people are shown."""


@dataclass(frozen=True, eq=False)
class Whole(Atom):
    """An index atom (a size, a loop variable, a quotient) as a number."""

    atom: ix.Atom

    def text(self) -> str:
        return f"{self.atom}"

    @cached_property
    def free(self) -> frozenset[str]:
        return names(ix.index(self.atom))


@dataclass(frozen=True, eq=False)
class Element(Atom):
    """One element of an input array."""

    array: str
    place: tuple[Index, ...]

    def text(self) -> str:
        return f"{self.array}[{_listed(self.place)}]"

    @cached_property
    def free(self) -> frozenset[str]:
        return names(*self.place)


@dataclass(frozen=True, eq=False)
class Parameter(Atom):
    """A runtime scalar, or a named irrational constant (`ln2`, `pi`)."""

    name: str

    def text(self) -> str:
        return f"{self.name}"


@dataclass(frozen=True, eq=False)
class Infinity(Atom):
    """Formal infinity: inf - inf within one selection is 0, exp(-inf) is 0, max(x, -inf) is x."""

    def text(self) -> str:
        return "inf"


@dataclass(frozen=True, eq=False)
class State(Atom):
    """Carried value number `which` of loop `loop` at the top of an iteration; with `ended` at its bottom."""

    loop: int
    which: int
    place: tuple[Index, ...]
    ended: bool = False

    @property
    def name(self) -> str:
        return state_name(self.loop, self.which, self.ended)

    def text(self) -> str:
        return f"{self.name}[{_listed(self.place)}]"

    @cached_property
    def free(self) -> frozenset[str]:
        return names(*self.place) | {self.name}


def state_name(loop: int, which: int, ended: bool) -> str:
    return f"{'^' if ended else '~'}{loop}.{which}"


UNKNOWN = "unknown "
"""Calls of words that begin so are values that the verifier has no term for."""


@dataclass(frozen=True, eq=False)
class Call(Atom):
    """A function that only its arguments determine: erf, log, sin ..."""

    word: str
    args: tuple[Poly, ...]

    def text(self) -> str:
        return f"{self.word}({_shown(self.args)})"

    @property
    def inner(self) -> tuple[Poly, ...]:
        return self.args

    @cached_property
    def fragile(self) -> bool:
        return self.word in ODD_AND_EVEN or any(a.fragile for a in self.args)


@dataclass(frozen=True, eq=False)
class Group(Atom):
    """A polynomial of several monomials as the base of a negative or fractional exponent."""

    base: Poly

    def text(self) -> str:
        return f"({self.base.text()})"

    @property
    def inner(self) -> tuple[Poly, ...]:
        return (self.base,)

    @cached_property
    def fragile(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Bracket(Atom):
    """1 where the condition holds, else 0: `index >= 0` or `index == 0` of integers, `poly > 0` of reals."""

    relation: Literal[">=", "==", ">"]
    subject: Index | Poly

    def text(self) -> str:
        subject = str(self.subject) if isinstance(self.subject, Index) else self.subject.text()
        return f"[{subject} {self.relation} 0]"

    @property
    def inner(self) -> tuple[Poly, ...]:
        return () if isinstance(self.subject, Index) else (self.subject,)

    @cached_property
    def free(self) -> frozenset[str]:
        return names(self.subject) if isinstance(self.subject, Index) else self.subject.free

    @cached_property
    def fragile(self) -> bool:
        return self.relation == "==" or any(p.fragile for p in self.inner)


Word: TypeAlias = Literal["sum", "prod", "max", "min"]


@dataclass(frozen=True, eq=False)
class Extremum(Atom):
    """The larger or smaller of several terms, in canonical order."""

    word: Literal["max", "min"]
    args: tuple[Poly, ...]

    def text(self) -> str:
        return f"{self.word}({_shown(self.args)})"

    @property
    def inner(self) -> tuple[Poly, ...]:
        return self.args


@dataclass(frozen=True)
class Binder:
    """`name` runs from the largest of `lo` to below the smallest of `hi`."""

    name: str
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]

    @property
    def symbol(self) -> Index:
        return ix.symbol(self.name, "loop")

    def text(self) -> str:
        lo = str(self.lo[0]) if len(self.lo) == 1 else f"max({_listed(self.lo)})"
        hi = str(self.hi[0]) if len(self.hi) == 1 else f"min({_listed(self.hi)})"
        return f"{self.name} in {lo}..{hi}"

    def names(self) -> frozenset[str]:
        return names(*self.lo, *self.hi)


@dataclass(frozen=True, eq=False)
class Reduction(Atom):
    """A monoid reduction over the box of its binders. A sum's body is one monomial with coefficient 1."""

    word: Word
    binders: tuple[Binder, ...]
    body: Poly

    def text(self) -> str:
        return f"{self.word}({self.body.text()} for {', '.join(b.text() for b in self.binders)})"

    @property
    def inner(self) -> tuple[Poly, ...]:
        return (self.body,)

    @cached_property
    def free(self) -> frozenset[str]:
        used = self.body.free.union(*(b.names() for b in self.binders))
        return used - {b.name for b in self.binders}

    @cached_property
    def height(self) -> int:
        return self.body.height + len(self.binders)

    @cached_property
    def fragile(self) -> bool:
        return len(self.binders) > 1 or self.body.fragile


def _listed(indices: Iterable[Index]) -> str:
    return ", ".join(map(str, indices))


def _shown(terms: Iterable[Poly]) -> str:
    return ", ".join(t.text() for t in terms)
