"""Blocks do not meet in global memory: what one tile stores no other tile touches, and loads come in front of stores.

Rules of level two leave InOut arrays only (`Out` is not loaded, `In` not stored, `Acc` only added to), and partial sums
of split k are read by another launch, which comes behind this one. For an InOut array

    tiles     by the argument of `verify.aliasing`, on what the schedule accesses, for all sizes
    threads   a thread stores what it alone has loaded, or a barrier stands between, on every way through the text
    runs      every block of a few launches with every access noted: whoever touches an element, and what orders them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.interpreter.memory import Meeting, StoreLog
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.traverse import every_grid, parts
from kernelagent.dsl.lower.device.order_shared import Touched, loaded_elements, stored_elements
from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks
from kernelagent.dsl.verify import aliasing
from kernelagent.dsl.verify.records import Findings, Obligation, Verdict
from kernelagent.dsl.verify.schedule.arrays import array_positions
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.explain import counterexample, line_of
from kernelagent.dsl.verify.schedule.footprints import ALONE, ASYNCHRONOUS, Footprint, elements
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine, Site, Steps
from kernelagent.dsl.verify.schedule.places import held, owners, view_positions
from kernelagent.dsl.verify.schedule.registers import value_of
from kernelagent.dsl.verify.schedule.shadow import Access, Conflict, Shadow
from kernelagent.dsl.verify.schedule.sizes import Sizes, whole_calls
from kernelagent.dsl.verify.schedule.tiles import as_tiles, by_data
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.sites import Touch, touches

RESIDENT = 2
"""Clusters of a persistent launch: fewer than tiles, so that each takes several."""
GUESSED = "positions come from data, and only a level-one text says that they are distinct"
PARTIAL = "partial sums of another launch are complete when this one begins"


def prove_aliasing(case: Case, subject: str, iterations: int, quick: bool = False) -> Findings:
    """One obligation for each InOut array; one for a schedule without any. `iterations`: of a tile, in the runs."""
    names = updated(case.kernel)
    if not names:
        detail = f"no array is both loaded and stored by one launch; {PARTIAL}; {aliasing.CONTRACT}"
        return Findings((Obligation("aliasing", "PROVED", None, detail, subject),))
    ran: list[Sizes] = []
    lack = ""
    try:
        for sizes in _to_run(case, iterations, quick):
            events = tuple(run(case, sizes))
            if events and _guessed(case):
                ran, lack = [], GUESSED
                break
            if events:
                return _refuted(case, subject, events, sizes)
            ran.append(sizes)
    except (Unmodelled, LookupError, ZeroDivisionError) as error:
        lack = f"not modelled: {error}"
    return Findings(tuple(_obligation(case, subject, n, ran, lack) for n in names))


def _to_run(case: Case, iterations: int, quick: bool) -> list[Sizes]:
    return sorted(whole_calls(case, iterations)[: 1 if quick else None], key=lambda s: prod(s.values()))


def _guessed(case: Case) -> bool:
    """Whether positions are data of which no text says what it may hold."""
    return case.oracle is None and by_data(case.kernel)


def updated(kernel: dev.DeviceKernel) -> list[str]:
    """Arrays that the schedule may load and store."""
    return [a.name for a in kernel.arrays if a.role == "InOut"]


def _refuted(case: Case, subject: str, events: Sequence[Event], sizes: Sizes) -> Findings:
    first = {e.array: Obligation("aliasing", "REFUTED", line_of(e.site), e.message, f"{subject}: {e.array}")
             for e in reversed(events)}  # fmt: skip
    return Findings(tuple(first.values()), tuple(counterexample(e, case.kernel, sizes) for e in events))


def _obligation(case: Case, subject: str, array: str, ran: Sequence[Sizes], lack: str) -> Obligation:
    found = [t for t in touches(as_tiles(case.kernel, case.shapes.entry.assumes)) if t.view.array == array]
    line = found[0].place.line if found else None
    verdict, detail = _shown(case, _unshown(case.kernel, array, found), ran, lack)
    return Obligation("aliasing", verdict, line, f"{detail}; {aliasing.CONTRACT}", f"{subject}: {array}")


def _shown(case: Case, reason: str, ran: Sequence[Sizes], lack: str) -> tuple[Verdict, str]:
    """What holds for all sizes if there is no `reason` against it, else at the sizes that ran."""
    said = "a tile loads only what it alone stores, once, each thread in front of the store"
    if not reason:
        return "PROVED", f"{said}, for all sizes"
    if not ran:
        return "UNKNOWN", lack or reason
    data = by_data(case.kernel)
    where = "), (".join(", ".join(f"{d}={n}" for d, n in sizes.items()) for sizes in ran)
    held = f"held in all blocks{', over one set of index data,' if data else ''} at ({where})"
    return "TESTED" if data else "PROVED_BOUNDED", f"{said}: {held}; not shown for all sizes: {reason}"


def _unshown(kernel: dev.DeviceKernel, array: str, found: Sequence[Touch]) -> str:
    """What keeps the text from showing it for all sizes, "" if nothing does."""
    if outside := _outside_walks(kernel, array):
        return outside
    several = len({part.role.name if part.role else "" for part in parts(kernel) if _touching(part.blocks, array)}) > 1
    return aliasing.unshown(found, ordered=not several) or aliasing.stored_again(found) or unordered(kernel, array)


def _outside_walks(kernel: dev.DeviceKernel, array: str) -> str:
    """Accesses that belong to no tile."""
    bodies = (kernel.prologue, *(role.after for role in kernel.roles))
    return f"{array} is touched in front of the walk over tiles, or behind it" if _touching(bodies, array) else ""


def _touching(blocks: Sequence[Sequence[dev.Statement]], array: str) -> bool:
    return any(_array_of(s) == array for block in blocks for s in dev.walk(tuple(block)))


def _array_of(s: dev.Statement) -> str | None:
    match s:
        case dev.Let(operation=dev.Load(view=view) | dev.Gather(view=view)):
            return view.array
        case dev.Store(view=view) | dev.Scatter(view=view) | dev.Copy(view=view):
            return view.array
        case dev.CopyBulk(view=view) | dev.StoreBulk(view=view):
            return view.array
    return None


# Threads, by the text ------------------------------------------------------------------------------------


def unordered(kernel: dev.DeviceKernel, array: str) -> str:
    """What keeps the text from showing that no thread stores what another one has yet to load; "" if nothing does."""
    touching = [part for part in parts(kernel) if _touching(part.blocks, array)]
    if len({part.role.name if part.role else "" for part in touching}) > 1:
        return f"several roles touch {array}"
    for part in touching:
        loads: frozenset[Touched] = frozenset()
        for block in part.blocks:
            try:
                loads = _through(tuple(block), array, loads)
            except _Open as reason:
                return str(reason)
    return ""


class _Open(Exception):
    """A store that the text does not order behind a load."""


def _through(body: tuple[dev.Statement, ...], array: str, loads: frozenset[Touched]) -> frozenset[Touched]:
    """Loads behind which no barrier stands at the end of a body that begins with `loads`."""
    for s in body:
        loads = _behind(s, array, loads)
    return loads


def _behind(s: dev.Statement, array: str, loads: frozenset[Touched]) -> frozenset[Touched]:
    match s:
        case dev.BlockBarrier() | dev.RoleBarrier():
            return frozenset()
        case dev.For(body=body):
            once = loads | _through(body, array, loads)
            return once | _through(body, array, once)
        case dev.If(then=then, otherwise=otherwise):
            return _through(then, array, loads) | _through(otherwise, array, loads)
    if _array_of(s) != array:
        return loads
    if (loaded := loaded_elements(s)) is not None:
        return loads | {loaded}
    stored = stored_elements(s)
    if isinstance(s, dev.StoreBulk):
        stored = Touched.of(s.view, s.start, None)
    if stored is None:
        raise _Open(f"{array} is copied, and the text does not say which thread takes which element")
    if any(load.may_meet(stored) for load in loads):
        raise _Open(f"line {_line(s)} stores what other threads may have loaded, and no barrier stands in front")
    return loads


def _line(s: dev.Statement) -> int:
    return (s.fragment.origin if isinstance(s, dev.Let) else s.origin).span.line


# Runs ----------------------------------------------------------------------------------------------------


def run(case: Case, sizes: Sizes) -> Iterator[Event]:
    """What goes wrong with elements of arrays when all blocks of a launch run. Raises Unmodelled, LookupError."""
    made = call(case, sizes, positions_only=True)
    memory = GlobalMemory(case.kernel.arrays, made.sizes, 0)
    domain = Unknown(made.arrays, made.scalars)
    machine = Machine(case.kernel, made.sizes, domain, memory, made.read, footprints=case.merged)
    watch_arrays(machine)
    blocks = launch_blocks(case.kernel, machine.sizes, RESIDENT * case.kernel.cluster)
    for first in range(0, blocks, case.kernel.cluster):
        machine.run(first, blocks)
    yield from sorted((e for e in machine.events.values() if e.kind in TOLD), key=lambda e: TOLD.index(e.kind))


def watch_arrays(m: Machine) -> None:
    """Let a machine note and judge every access of arrays that are both loaded and stored."""
    names = updated(m.kernel)
    if not names:
        return
    ledger = Ledger(m, names)
    watched: dict[type, Any] = {kind: ledger.watching(m.handlers[kind]) for kind in _TOUCHING}
    m.handlers = {**m.handlers, **watched}


TOLD = ("loaded-elsewhere", "stored-elsewhere", "stored-again", "loaded-after-store", "unordered")
"""What is wrong, the most telling first."""
_TOUCHING = (dev.Let, dev.Store, dev.Scatter, dev.Copy, dev.CopyBulk, dev.StoreBulk)


@dataclass(frozen=True)
class _Elements:
    """What a statement touches: coordinates in the array, one row an axis, and who touches each; as whose work."""

    array: str
    at: tuple[Any, ...]
    threads: Any
    writes: bool
    agent: int
    time: int
    repeated: bool = False


class Ledger:
    """Who loaded and stored each element: which tile (a number), at which site, and what its threads knew."""

    def __init__(self, m: Machine, names: Sequence[str]) -> None:
        self.machine, self.names = m, frozenset(names)
        self.logs = {n: StoreLog(m.memory.shapes[n]) for n in names}
        self.tiles: dict[tuple[int | None, ...], int] = {}
        self.shadows: dict[str, Shadow] = {}
        self.agents: object = None

    def watching(self, handler: Callable[[Machine, Actor, Any], Steps | None]) -> Any:
        """The handler of a statement, with its accesses judged first."""

        def watched(m: Machine, actor: Actor, statement: Any) -> Steps | None:
            if _array_of(statement) in self.names:
                touched = elements_of(m, actor, statement)
                if touched.at[0].size:
                    self.judge(actor, statement, touched)
            return handler(m, actor, statement)

        return watched

    def judge(self, actor: Actor, statement: dev.Statement, touched: _Elements) -> None:
        site, tile, log = self.machine.site(actor, statement), self._tile(actor), self.logs[touched.array]
        if touched.writes:
            loaded, stored = log.met(touched.at, tile, site)
            self._note(touched, loaded, "loaded-elsewhere")
            self._note(touched, stored, "stored-again" if _own(stored, tile) else "stored-elsewhere")
            log.stored(touched.at, tile, site)
        else:
            found = log.loaded(touched.at, tile, site)
            self._note(touched, found, "loaded-after-store" if _own(found, tile) else "loaded-elsewhere")
        self._in_order(actor, touched, site)

    def _tile(self, actor: Actor) -> int:
        """Number of the tile that a role is at, by the variables of its walk."""
        key = tuple(actor.variables.get(n) for n in _tile_names(self.machine))
        return self.tiles.setdefault(key, len(self.tiles))

    def _note(self, touched: _Elements, found: Meeting | None, kind: str) -> None:
        if found is None:
            return
        site, other = (self.machine.sites[number] for _, number in (found.now, found.before))
        self.machine.note(
            Event("aliasing", kind, site, _message(self.machine, kind, touched, found.element, site, other), other,
                  thread=_thread(touched, found.element), array=touched.array, element=found.element,
                  count=found.count)
        )  # fmt: skip

    # Within a block ----------------------------------------------------------------------------------

    def _in_order(self, actor: Actor, touched: _Elements, site: int) -> None:
        """Of two threads that touch an element, one of them to store it, one comes first."""
        m, shape = self.machine, self.machine.memory.shapes[touched.array]
        if self.agents is not m.agents:  # other blocks
            self.agents, self.shadows = m.agents, {}
        shadow = self.shadows.setdefault(touched.array, Shadow(prod(shape), 1, m.agents, 0))
        flat = np.ravel_multi_index(touched.at, shape)
        footprint = Footprint(flat, touched.threads, np.stack(touched.at), 1, touched.repeated)
        access = Access(touched.agent, touched.time, site, footprint, actor.clock)
        if not touched.writes:
            shadow.read(access)
            return
        for conflict in shadow.write(access, np.zeros((0, flat.size)), m.order):
            if conflict.kind == "overwritten":
                self._unordered(touched, conflict)

    def _unordered(self, touched: _Elements, conflict: Conflict) -> None:
        first = int(conflict.elements[0])
        element = tuple(int(c[first]) for c in touched.at)
        m, other = self.machine, int(conflict.other_threads[0])
        site, before = m.sites[conflict.access.site], m.sites[int(conflict.other_sites[0])]
        if _tile_of(m, site) != _tile_of(m, before):
            return  # another tile of the block: that is told already
        thread = int(np.broadcast_to(touched.threads, touched.at[0].shape)[first])
        m.note(
            Event("aliasing", "unordered", site, _message(m, "unordered", touched, element, site, before), before,
                  thread if thread >= 0 else None, other if other >= 0 else None, array=touched.array, element=element,
                  count=len(conflict.elements))
        )  # fmt: skip


def _own(found: Meeting | None, tile: int) -> bool:
    return found is not None and found.before[0] == tile


def _tile_of(m: Machine, site: Site) -> tuple[int | None, ...]:
    return tuple(site.variables.get(n) for n in _tile_names(m))


def _tile_names(m: Machine) -> list[str]:
    """Variables of all walks, those of one name once."""
    return list(dict.fromkeys(v.name for grid in every_grid(m.kernel) for v in grid.variables))


def _thread(touched: _Elements, element: tuple[int, ...]) -> int | None:
    same = np.logical_and.reduce([c == e for c, e in zip(touched.at, element, strict=True)])
    thread = int(np.broadcast_to(touched.threads, same.shape)[same][0])
    return thread if thread >= 0 else None


def _message(m: Machine, kind: str, touched: _Elements, element: tuple[int, ...], site: Site, other: Site) -> str:
    name, line = f"{touched.array}{list(element)}", line_of(other)
    match kind:
        case "loaded-after-store":
            return f"{name} is loaded behind its store at line {line}: nobody knows which value that is"
        case "stored-again":
            return f"{name} is stored a second time by one tile, after line {line}: threads of a tile have no order"
        case "unordered":
            return f"{name} is stored, and nothing orders that behind line {line}, where another thread touches it"
    before = "stored" if kind == "stored-elsewhere" or not touched.writes else "loaded"
    now = "stored" if touched.writes else "loaded"
    return f"{name} is {before} by {_tile_text(m, other)} and {now} by {_tile_text(m, site)}: tiles have no order"


def _tile_text(m: Machine, site: Site) -> str:
    loops = ", ".join(f"{k}={site.variables[k]}" for k in _tile_names(m) if k in site.variables)
    return f"block {site.block}" + (f" ({loops})" if loops else "")


def begun(m: Machine, event: Event, other: Site) -> str:
    """Where both accesses begin, and what would keep them apart."""
    shown = [f"line {line_of(s)} begins at {_start(m, s)}" for s in (event.site, other)]
    if event.kind == "loaded-after-store":
        return f"{shown[0]}, {shown[1]} in the same tile: load in front of the store, or keep the value"
    if event.kind == "stored-again":
        return f"{shown[0]}, {shown[1]} in the same tile: an element is stored once"
    if event.kind == "unordered":
        return f"{shown[0]}, {shown[1]}: other threads hold the element there, and no barrier runs between"
    rest = "a tile touches only what it alone stores; what others need comes from another array or an earlier launch"
    return f"{shown[0]}, {shown[1]} in its tile; {rest}"


def _start(m: Machine, site: Site) -> str:
    """`(i + 1, j) = (17, 0)`."""
    s = site.statement
    taken = s.operation if isinstance(s, dev.Let) else s
    start = tuple(getattr(taken, "start", ()))
    numbers = (str(x.evaluate({**m.sizes, **site.variables}, m.read)) for x in start)
    return f"({', '.join(map(str, start))}) = ({', '.join(numbers)})"


# Elements of statements ----------------------------------------------------------------------------------


def elements_of(m: Machine, actor: Actor, s: Any) -> _Elements:
    """Those inside view and array. Raises LookupError where positions are not known."""
    match s:
        case dev.Let(fragment=fragment, operation=dev.Load() | dev.Gather() as load):
            indices = load.indices if isinstance(load, dev.Gather) else None
            layout, axis = fragment.layout or ALONE, getattr(load, "axis", None)
            return _by_threads(m, actor, s, load.view, load.start, layout, indices, axis, every=True)
        case dev.Store(view=view, start=start, value=value):
            return _by_threads(m, actor, s, view, start, value.layout or ALONE)
        case dev.Scatter(view=view, start=start, value=value, indices=indices, axis=axis):
            return _by_threads(m, actor, s, view, start, value.layout or ALONE, indices, axis)
        case dev.Copy(view=view, start=start, layout=layout):
            return _by_threads(m, actor, s, view, start, layout)
    return _boxes(m, actor, s)


def _by_threads(
    m: Machine,
    actor: Actor,
    s: Any,
    view: Any,
    start: tuple[Any, ...],
    layout: Distribution,
    indices: dev.Fragment | None = None,
    axis: int | None = None,
    every: bool = False,
) -> _Elements:
    """`every` thread that holds a copy, or only the first. `indices` say where the elements of `axis` lie."""
    who = np.arange(layout.threads) if every else np.flatnonzero(owners(layout))
    offsets = held(layout)[:, who]
    starts = tuple(0 if a == axis else m.number(actor, x) for a, x in enumerate(start))
    if indices is not None and axis is not None:
        positions = m.domain.positions(value_of(m, actor, indices, s))
        offsets = offsets.copy()
        offsets[axis] = positions[offsets[axis]]
    at, inside = view_positions(view, starts, offsets, actor.variables, m.read)
    inside = inside & ~m.memory.outside(view.array, at, inside)
    threads = np.broadcast_to(who[:, None] + actor.first_thread, inside.shape)[inside]
    writes, asynchronous = isinstance(s, dev.Store | dev.Scatter), getattr(s, "asynchronous", False)
    agent, time = (actor.copies.agent, actor.copies.open) if asynchronous else (actor.agent, m.order)
    repeated = every and layout.copies > 1
    return _Elements(view.array, tuple(c[inside] for c in at), threads, writes, agent, time, repeated)


def _boxes(m: Machine, actor: Actor, s: dev.CopyBulk | dev.StoreBulk) -> _Elements:
    """A box through a tensor map; of one that blocks share, this block's part."""
    shared = isinstance(s, dev.CopyBulk) and s.shared_by > 1
    rank = actor.block.number % m.kernel.cluster if shared else 0
    offsets = elements(m.kernel, s, "", rank).at
    starts = tuple(m.number(actor, x) for x in s.start)
    at, inside = array_positions(m, actor, s.view, starts, offsets)
    found = tuple(c[inside] for c in at)
    if isinstance(s, dev.StoreBulk):
        return _Elements(s.view.array, found, ASYNCHRONOUS, True, actor.stores.agent, actor.stores.open)
    phase = actor.block.phases[s.barrier, m.number(actor, s.stage) % m.kernel.barrier(s.barrier).stages]
    return _Elements(s.view.array, found, ASYNCHRONOUS, False, phase.fill, phase.number)


__all__ = ["TOLD", "Ledger", "begun", "elements_of", "prove_aliasing", "run", "unordered", "updated", "watch_arrays"]
