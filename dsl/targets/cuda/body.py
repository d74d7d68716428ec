"""What the emitters of one kernel share: names, where fragments are, thread digits, lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.lanes import Distribution, Mode, normal, same
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.targets.cuda.arrivals import unordered_arrivals
from kernelagent.dsl.targets.cuda.emit_index import IndexTexts, array_name, plain
from kernelagent.dsl.targets.cuda.emit_words import CTYPES, literal
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch, Loops, Terms, composed, identity
from kernelagent.dsl.targets.cuda.writer import Writer


@dataclass(frozen=True)
class Place:
    """Where the registers of a fragment are: `text[terms(register) + offset]`, or `text` itself for every register."""

    text: str
    terms: Terms | None
    offset: int = 0

    def at(self, loops: Loops) -> str:
        """The element of the current register."""
        return self.text if self.terms is None else f"{self.text}[{loops.sum(self.terms, self.offset)}]"

    def address(self, loops: Loops) -> str:
        """Pointer to the element of the current register; a place of its own, not a literal."""
        return f"&{self.text}" if self.terms is None else f"{self.text} + {loops.sum(self.terms, self.offset)}"

    def renamed(self, inner: Terms, offset: int = 0) -> Place:
        """Register r of the result is register inner(r) + offset of this one."""
        if self.terms is None:
            return self
        moved = sum(t(offset) for t in self.terms)
        return Place(self.text, composed(self.terms, inner), self.offset + moved)


class Body:
    """The emitted body of one kernel while it grows."""

    def __init__(self, kernel: dev.DeviceKernel, uses_of: dev.DeviceKernel | None = None) -> None:
        """`kernel` may be one role of the kernel `uses_of`: its threads and its grid."""
        self.kernel = kernel
        self.whole = uses_of or kernel
        self.flying: list[tuple[str, int]] = []  # registers of asynchronous products: array, how many
        self.groups: list[list[tuple[str, int]]] = []  # those of closed groups, the oldest first
        self.fenced: dict[int, list[dev.Let]] = {}  # products behind a fence, by the fence's id
        self.steady: set[str] = set()  # sums that only asynchronous products touch within a loop
        self.begun: set[int] = set()  # products that begin their sums: nothing writes those registers before
        self.sums: dict[int, str] = {}  # arrays of sums, by the number of the product's fragment
        self.packed: dict[int, str] = {}  # left operands as 32-bit registers, by the fragment's number
        self.unordered = unordered_arrivals(innermost(kernel.grid).body, again=True)  # by id
        self.out = Writer()
        self.texts = IndexTexts({a.name: a for a in kernel.arrays}, {s.name: s.dtype for s in kernel.scalars})
        self.divides = {g.subject: g.value for g in kernel.shape_class.guards if g.kind == "divides"}
        self.uses = uses(self.whole)
        self.places: dict[int, Place] = {}
        self.homes: dict[int, int] = {}  # the scope in which a fragment's array came to be
        self.scopes = [0]
        self._serial = 0
        self._scope_serial = 0
        self._hoisted: dict[str, str] = {}

    # Names ----------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        self._serial += 1
        return f"{stem}{self._serial}"

    def const(self, ctype: str, stem: str, text: str) -> str:
        """A name for a value, here; what is a name or a number already stays."""
        if text.replace("_", "").isalnum():
            return text
        name = self.fresh(stem)
        self.out.put(f"const {ctype} {name} = {text};")
        return name

    def hoisted(self, text: str) -> str:
        """A name for a value that depends on the thread only, computed once at the top."""
        if text.isidentifier() or text.isdigit():
            return text
        if text not in self._hoisted:
            self._hoisted[text] = f"t{len(self._hoisted)}"
        return self._hoisted[text]

    def header(self) -> list[str]:
        """What depends on thread and guards alone. A stride that is known to be 1 is set: addresses lose a product."""
        unit = {g.subject for g in self.kernel.shape_class.guards if g.kind == "unit_stride"}
        lasts = [
            f"    {array_name(a.name)}.stride[{len(a.dims) - 1}] = 1;"
            for a in self.kernel.arrays
            if a.dims and a.name in unit
        ]
        return lasts + self.hoisted_lines()

    def hoisted_lines(self) -> list[str]:
        return [f"    const int {name} = {text};" for text, name in self._hoisted.items()]

    # Scopes ---------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        self._scope_serial += 1
        self.scopes.append(self._scope_serial)
        yield
        self.scopes.pop()

    def ends_here(self, fragment: dev.Fragment) -> bool:
        """Whether its array may be overwritten by its one reader: its own, made in this scope, read once."""
        place = self.places[fragment.number]
        own = place.terms == identity(registers(fragment)) and place.offset == 0
        made_here = self.homes.get(fragment.number) == self.scopes[-1]
        return own and made_here and self.uses[fragment.number] == 1 and fragment.layout is not None

    # Fragments ------------------------------------------------------------------------------------------

    def declare(self, fragment: dev.Fragment, fill: str = "") -> str:
        """An array (or a scalar) of its own; returns its name."""
        name = fragment_name(fragment)
        count = f"[{registers(fragment)}]" if fragment.layout is not None else ""
        self.out.put(f"{CTYPES[fragment.dtype]} {name}{count}{fill};")
        self.own(fragment, name)
        return name

    def own(self, fragment: dev.Fragment, name: str) -> None:
        terms = identity(registers(fragment)) if fragment.layout is not None else None
        self.places[fragment.number] = Place(name, terms)
        self.homes[fragment.number] = self.scopes[-1]

    def place(self, fragment: dev.Fragment) -> Place:
        return self.places[fragment.number]

    def constant(self, fragment: dev.Fragment, value: float | int | bool) -> None:
        self.places[fragment.number] = Place(literal(value, fragment.dtype), None)

    def copy(self, name: str, target: dev.Fragment, source: Place) -> None:
        """Register by register into the array (or scalar) `name`."""
        if target.layout is None:
            self.out.put(f"{name} = {source.text};")
            return
        own = identity(registers(target))
        loops = Loops(registers(target), [own, source.terms or ()])
        with self.out.loops(loops.heads()):
            self.out.put(f"{Place(name, own).at(loops)} = {source.at(loops)};")

    def held(self, fragment: dev.Fragment) -> str:
        """The name of an array that holds the registers in order, made if there is none."""
        place = self.place(fragment)
        if place.terms == identity(registers(fragment)) and place.offset == 0:
            return place.text
        name = self.fresh("held")
        self.out.put(f"{CTYPES[fragment.dtype]} {name}[{registers(fragment)}];")
        self.copy(name, fragment, place)
        return name

    # Threads --------------------------------------------------------------------------------------------

    def digits(self, lanes: Iterable[Mode]) -> list[tuple[str, Mode]]:
        """C texts of the thread's digits, one a mode of extent above 1. Raises LayoutMismatch."""
        modes = normal(lanes)
        threads = 1
        found: list[tuple[str, Mode]] = []
        for mode in modes:
            found.append((self._digit(threads, mode.extent), mode))
            threads *= mode.extent
        if threads != self.kernel.threads:
            raise LayoutMismatch(f"a distribution over {threads} threads in blocks of {self.kernel.threads}")
        return found

    def _digit(self, divisor: int, extent: int) -> str:
        last = divisor * extent == self.kernel.threads
        if divisor & (divisor - 1) or (extent & (extent - 1) and not last):
            text = f"tid / {divisor}" if divisor > 1 else "tid"
            return text if last else f"{text} % {extent}"
        text = f"tid >> {divisor.bit_length() - 1}" if divisor > 1 else "tid"
        return text if last else f"({text}) & {extent - 1}" if divisor > 1 else f"{text} & {extent - 1}"

    def lane_sum(self, lanes: Iterable[Mode], weights: dict[int, int]) -> str:
        """Hoisted sum over the thread's digits of stride * weights[axis]; "0" if it has no part in it."""
        found: list[str] = []
        for text, mode in self.digits(lanes):
            weight = mode.stride * weights.get(mode.axis, 0)
            if weight:
                wrapped = text if text == "tid" else f"({text})"
                found.append(f"{wrapped} * {weight}" if weight > 1 else wrapped)
        return self.hoisted(" + ".join(found)) if found else "0"

    def owns(self, d: Distribution | None) -> str | None:
        """Condition that this thread is the first of those that hold its copies; None if there are no copies."""
        lanes = (Mode(self.kernel.threads, -1, 0),) if d is None else d.lanes
        found = [f"({text}) == 0" for text, mode in self.digits(lanes) if mode.axis < 0]
        return f"{self.hoisted(' && '.join(found))} != 0" if found else None

    def uniform(self, value: Index, stem: str = "u") -> str:
        """An index as a name or literal, computed here."""
        return self.const(self.texts.ctype(value), stem, self.texts.text(value))


def fragment_name(fragment: dev.Fragment) -> str:
    """Parameters and loop variables have the prefixes a_, d_, s_ and v_ to themselves."""
    name = plain(fragment.name)
    return f"{'f_' if name[:2] in ('a_', 'd_', 's_', 'v_') else ''}{name}_{fragment.number}"


def registers(fragment: dev.Fragment) -> int:
    return 1 if fragment.layout is None else fragment.layout.registers


def require_same(wanted: Distribution | None, found: Distribution | None, what: str) -> None:
    """Raises LayoutMismatch unless both place every element alike."""
    if wanted is None or found is None:
        if wanted is not found:
            raise LayoutMismatch(f"{what}: a tile and a scalar")
    elif not same(wanted, found):
        raise LayoutMismatch(f"{what}: {found} where {wanted} is needed")


def uses(kernel: dev.DeviceKernel) -> Counter[int]:
    """How often each fragment is read, by number."""
    count: Counter[int] = Counter()
    for statement in dev.statements(kernel):
        count.update(f.number for f in reads(statement))
    return count


def reads(statement: dev.Statement) -> list[dev.Fragment]:
    """Fragments that the statement itself reads, bodies left out."""
    match statement:
        case dev.Let(_, operation):
            return operation_reads(operation)
        case dev.Store(value=value) | dev.StoreShared(value=value):
            return [value]
        case dev.Scatter(indices=indices, value=value):
            return [indices, value]
        case dev.For(carried=carried):
            return [f for c in carried for f in (c.initial, c.end)]
        case dev.If(condition=condition, merged=joined):
            condition_reads = [condition] if isinstance(condition, dev.Fragment) else []
            return condition_reads + [f for m in joined for f in (m.then, m.otherwise)]
        case _:
            return []


def operation_reads(operation: dev.Operation) -> list[dev.Fragment]:
    match operation:
        case dev.Pointwise(_, arguments):
            return list(arguments)
        case dev.Reindex(_, parts, _):
            return list(parts)
        case dev.Stretch(x) | dev.Reduce(_, x, _) | dev.ArgReduce(_, x, _) | dev.Scan(_, x, _):
            return [x]
        case dev.Gather(indices=indices):
            return [indices]
        case dev.Mma(_, a, b, acc):
            return [f for f in (a, b, acc) if isinstance(f, dev.Fragment)]
        case _:
            return []
