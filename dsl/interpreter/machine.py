"""Runs the statements of one concrete kernel. Statements become closures once; iterations only call them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Condition
from kernelagent.dsl.interpreter.domain import Adding, Domain, Expecting, add_at
from kernelagent.dsl.interpreter.evaluate import Environment, Evaluator
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit, values_text
from kernelagent.dsl.interpreter.held import garbage, held_dtype
from kernelagent.dsl.interpreter.memory import Access, Cell, Meeting, index_range
from kernelagent.dsl.interpreter.tile import Tile, box, common, interval, refill, wholly_live
from kernelagent.dsl.ir import Expect, For, If, Kernel, Let, Merged, Origin, Scatter, Statement, Store, Value, View

Order: TypeAlias = Literal["forward", "reverse", "shuffle"]
Action: TypeAlias = Callable[[], None]
OVERHEAD = 64
"""Work units of one operation besides its elements: about what numpy's call costs, in elements."""


@dataclass(frozen=True)
class Options:
    """How a kernel is run.

    `work_limit` is in elements touched (plus OVERHEAD for each operation). `order` is the order of `tiles`
    iterations. `log` keeps a StoreLog for every output. `check_types` compares every value with its declared
    type and live positions. `target` chooses the policies that set tunables. `domain` has other values than floats.
    `claims` keeps `tag` and `expect`, which are erased otherwise.
    """

    plant_nan: bool = False
    widen: bool = False
    order: Order = "forward"
    seed: int = 0
    work_limit: int | None = None
    log: bool = False
    check_types: bool = False
    target: str = "cpu"
    domain: Domain | None = None
    claims: bool = False

    def held(self, dtype: str) -> np.dtype[Any]:
        """What holds values of `dtype` in this run."""
        if self.domain is not None and is_float(dtype):
            return self.domain.dtype
        return held_dtype(dtype, self.widen)

    def garbage(self, dtype: str) -> Any:
        """What stands in elements that nobody wrote."""
        return self.domain.garbage() if self.domain is not None and is_float(dtype) else garbage(dtype, self.widen)


class Machine:
    """State of one kernel call: environment, arrays, values, and the iteration that runs now."""

    def __init__(
        self,
        kernel: Kernel,
        cells: Mapping[str, Cell],
        dims: Mapping[str, int],
        scalars: Mapping[str, Any],
        options: Options,
    ) -> None:
        self.kernel = kernel
        self.cells = cells
        self.scalars = scalars
        self.options = options
        self.environment: Environment = {**dims, **_integers(scalars)}
        self.evaluator = Evaluator(self.environment, self.read_element)
        self.values: dict[int, Tile] = {}
        self.work = 0
        self.iterations: list[dict[str, int]] = []
        self.at = Origin(kernel.span)
        self._current: dict[str, int] = {}
        self._random = random.Random(options.seed)
        self._accesses: dict[View, Access] = {}

    def run(self) -> None:
        """Run the kernel. Raises RunError where the text, or the data, breaks a rule of the language."""
        self.iterations = [{}]
        actions = self.block(self.kernel.body)
        with np.errstate(all="ignore"):
            try:
                for action in actions:
                    action()
            except ZeroDivisionError:
                raise RunError("division-by-zero", f"division by zero, at {self.where()}", self.at) from None
            except RunError as error:
                raise self._placed(error) from None

    def _placed(self, error: RunError) -> RunError:
        if error.origin is not None:
            return error
        text = f"{error.message}, at {self.where()}"
        return type(error)(error.code, text, self.at, error.diagnostics[0].hint, **error.facts)

    def where(self) -> str:
        """The sizes and loop variables of this moment, for messages."""
        known = [f"{n}={v}" for n, v in self.environment.items() if isinstance(v, int) and not n.startswith("@")]
        return ", ".join(known) or "no sizes"

    # What operations ask for ---------------------------------------------------------------

    def access(self, view: View) -> Access:
        if view not in self._accesses:
            self._accesses[view] = Access(view, self.cells[view.array], self.environment, self.evaluator)
        return self._accesses[view]

    def get(self, value: Value) -> Callable[[], Tile]:
        values, number = self.values, value.number
        return lambda: values[number]

    def shape(self, value: Value) -> tuple[int, ...]:
        """Extents of a value: constants of the call, so they are evaluated when closures are built."""
        return tuple(int(self.evaluator.index(extent)()) for extent in value.type.shape)

    def poisoned(self, tile: Tile, dtype: str) -> Tile:
        return Tile(refill(tile, self.options.garbage(dtype)), tile.live)

    def read_element(self, array: str, place: tuple[int, ...]) -> int:
        cell = self.cells[array]
        for axis, coordinate in enumerate(place):
            if not 0 <= coordinate < cell.data.shape[axis]:
                raise index_range(cell, axis, coordinate, self.environment)
        return int(cell.data[place])

    def spend(self, amount: int) -> None:
        self.work += amount + OVERHEAD
        limit = self.options.work_limit
        if limit is not None and self.work > limit:
            raise WorkLimit("work-limit", f"stopped after {self.work} units of work", self.at)

    # Statements ----------------------------------------------------------------------------

    def block(self, statements: Sequence[Statement]) -> list[Action]:
        return [self._statement(s) for s in statements]

    def _statement(self, statement: Statement) -> Action:
        match statement:
            case Let():
                return self._let(statement)
            case Store():
                return self._store(statement)
            case Scatter():
                return self._scatter(statement)
            case For():
                return self._for(statement)
            case If():
                return self._if(statement)
            case Expect():
                return self._expect(statement)

    def _let(self, statement: Let) -> Action:
        from kernelagent.dsl.interpreter.operations import compile_operation

        value, dtype = statement.value, statement.value.type.dtype
        domain = self.options.domain
        own = domain.operation(self, statement) if domain is not None else None
        operation = own if own is not None else compile_operation(self, statement)
        check = self._type_check(value) if self.options.check_types else None
        plant, values, number, origin = self.options.plant_nan, self.values, value.number, value.origin
        size = prod(self.shape(value))

        def let() -> None:
            self.at = origin
            self.spend(size)  # before memory for it is asked for
            tile = operation()
            if plant and not wholly_live(tile):
                tile = self.poisoned(tile, dtype)
            if check is not None:
                check(tile)
            values[number] = tile

        return let

    def _type_check(self, value: Value) -> Callable[[Tile], None]:
        dtype, shape = self.options.held(value.type.dtype), self.shape(value)
        live = [(self.evaluator.index(a.lo), self.evaluator.index(a.hi)) for a in value.type.live]

        def check(tile: Tile) -> None:
            declared = tuple(interval(lo(), hi(), extent) for (lo, hi), extent in zip(live, shape, strict=True))
            found = (tile.data.dtype, tile.data.shape, tile.live)
            if found != (dtype, shape, declared):
                expected = f"{dtype}{shape} live {declared}"
                message = f"value {value.name or value.number}: declared {expected}, found {found}"
                raise RunError("type-mismatch", message, value.origin)

        return check

    def _expect(self, statement: Expect) -> Action:
        """A claim is for domains that carry labels; others compute nothing."""
        domain = self.options.domain
        closure = domain.expect(self, statement) if isinstance(domain, Expecting) else None
        if closure is None:
            return lambda: None

        def expect() -> None:
            self.at = statement.origin
            closure()

        return expect

    def _store(self, statement: Store) -> Action:
        access, start = self.access(statement.view), self.evaluator.indices(statement.start)
        get, writer = self.get(statement.value), self._writer(access.cell, statement.origin.span.line)

        def store() -> None:
            self.at = statement.origin
            tile, first = get(), start()
            inside = access.live(first, tile.data.shape)
            both = [interval(max(a[0], b[0]), min(a[1], b[1]), b[1]) for a, b in zip(inside, tile.live, strict=True)]
            boxes = [(lo + f, hi + f) for (lo, hi), f in zip(both, first, strict=True)]
            self.spend(tile.data.size)
            writer(access, boxes, tile.data[box(both)])
            if access.cell.log is not None and both != list(inside) and all(lo < hi for lo, hi in inside):
                reached = [(lo + f, hi + f) for (lo, hi), f in zip(inside, first, strict=True)]
                line = statement.origin.span.line
                access.cell.log.left_void(access.selection(reached), len(self.iterations) - 1, line)

        return store

    def _writer(self, cell: Cell, line: int) -> Callable[[Access, list[tuple[int, int]], Any], None]:
        def write(access: Access, boxes: list[tuple[int, int]], data: Any) -> None:
            access.write(cell.data, boxes, data)
            if cell.log is not None and all(lo < hi for lo, hi in boxes):
                self._log(cell, access.selection(boxes), line)

        return write

    def _log(self, cell: Cell, selection: Any, line: int) -> None:
        assert cell.log is not None
        now = len(self.iterations) - 1
        if cell.role == "InOut":
            loaded, stored = cell.log.met(selection, now, line)
            if loaded is not None:
                raise self._met("inout-shared", cell, loaded, ("loaded", "stored"))
            if stored is not None:
                raise self._met("inout-stored-twice", cell, stored, ("stored", "stored"))
        cell.log.stored(selection, now, line)

    def note_load(self, access: Access, selection: Any) -> None:
        """An InOut element may be loaded only by the iteration that stores it, and before the store."""
        log = access.cell.log
        if log is None or access.cell.role != "InOut":
            return
        found = log.loaded(selection, len(self.iterations) - 1, self.at.span.line)
        if found is not None:
            code = "inout-after-store" if found.now[0] == found.before[0] else "inout-shared"
            raise self._met(code, access.cell, found, ("stored", "loaded"))

    def _met(self, code: str, cell: Cell, found: Meeting, done: tuple[str, str]) -> RunError:
        """`done`: what was done to the element, before and now."""
        who = [self.iterations[number] for number, _ in (found.before, found.now)]
        element = f"{cell.name}[{', '.join(map(str, found.element))}]"
        before, now = (f"({values_text(values)})" for values in who)
        if found.now[0] == found.before[0]:
            message = f"{element} is {done[1]} by {now}, which stored it before, at line {found.before[1]}"
        else:
            message = f"{element} is {done[0]} by {before} and {done[1]} by {now}: iterations have no order"
        hint = "an iteration loads only what no other one stores, in front of its stores, and stores an element once"
        return RunError(
            code, message, self.at, hint, array=cell.name, element=found.element, iterations=(who[1], who[0]),
            lines=tuple(dict.fromkeys((found.now[1], found.before[1]))), count=found.count,
            found=f"{done[0]} at line {found.before[1]}",
        )  # fmt: skip

    def _scatter(self, statement: Scatter) -> Action:
        access, start = self.access(statement.view), self.evaluator.indices(statement.start)
        get = self.get(statement.value)
        indices = self.get(statement.indices) if statement.indices is not None else None
        line = statement.origin.span.line

        def scatter() -> None:
            self.at = statement.origin
            tile, first = get(), start()
            self.spend(tile.data.size)
            positions, live = self._scatter_positions(access, statement, tile, first, indices)
            places = access.places(positions)
            data = tile.data[box(live)]
            self._scatter_write(access.cell, places, data, statement.atomic, line)

        return scatter

    def _scatter_positions(
        self,
        access: Access,
        statement: Scatter,
        tile: Tile,
        first: tuple[int, ...],
        indices: Callable[[], Tile] | None,
    ) -> tuple[list[Any], list[tuple[int, int]]]:
        inside = access.live(first, tile.data.shape)
        live: list[tuple[int, int]] = []
        positions: list[Any] = []
        for axis, (own, seen) in enumerate(zip(tile.live, inside, strict=True)):
            if indices is not None and axis == statement.axis:
                chosen = indices()
                here = interval(max(own[0], chosen.live[0][0]), min(own[1], chosen.live[0][1]), own[1])
                positions.append(chosen.data[here[0] : here[1]].astype(np.int64))
                check_listed(access, axis, positions[-1])
            else:
                here = interval(max(own[0], seen[0]), min(own[1], seen[1]), own[1])
                positions.append(np.arange(here[0], here[1]) + first[axis])
            live.append(here)
        return positions, live

    def _scatter_write(self, cell: Cell, places: Any, data: Any, atomic: bool, line: int) -> None:
        if atomic:
            domain = self.options.domain
            if isinstance(domain, Adding) and is_float(cell.dtype):
                add_at(cell.data, places, data, domain.sum)
            else:
                np.add.at(cell.data, places, data)
            return
        cell.data[places] = data
        if cell.log is not None and data.size:
            self._log(cell, places, line)

    # Control -------------------------------------------------------------------------------

    def _for(self, statement: For) -> Action:
        body, names = self.block(statement.body), [v.name for v in statement.variables]
        bounds = [
            (self.evaluator.index(lo), self.evaluator.index(hi), self.evaluator.index(step))
            for lo, hi, step in zip(statement.lo, statement.hi, statement.step, strict=True)
        ]
        tiles, carried = statement.kind == "tiles", statement.carried

        def loop() -> None:
            self.at = statement.origin
            self._carry((c.inside, c.initial) for c in carried)
            for positions in self._order(self._positions(names, bounds), tiles):
                self.environment.update(zip(names, positions, strict=True))
                outer = self._enter(names, positions) if tiles else None
                for action in body:
                    action()
                self._carry((c.inside, c.end) for c in carried)
                if outer is not None:
                    self._current = outer
            self._carry((c.result, c.inside) for c in carried)

        return loop

    def _enter(self, names: list[str], positions: tuple[int, ...]) -> dict[str, int]:
        outer = self._current
        self._current = {**outer, **dict(zip(names, positions, strict=True))}
        self.iterations.append(self._current)
        return outer

    def _positions(self, names: list[str], bounds: list[Any], axis: int = 0) -> Iterator[tuple[int, ...]]:
        if axis == len(names):
            yield ()
            return
        lo, hi, step = bounds[axis]
        for position in range(lo(), hi(), step()):
            self.environment[names[axis]] = position
            self.spend(0)
            for rest in self._positions(names, bounds, axis + 1):
                yield (position, *rest)

    def _order(self, positions: Iterator[tuple[int, ...]], tiles: bool) -> Iterable[tuple[int, ...]]:
        if not tiles or self.options.order == "forward":
            return positions
        listed = list(positions)
        if self.options.order == "reverse":
            listed.reverse()
        else:
            self._random.shuffle(listed)
        return listed

    def _carry(self, moves: Iterable[tuple[Value, Value]]) -> None:
        new = [(target.number, self._narrowed(target, source)) for target, source in moves]
        self.values.update(new)

    def _narrowed(self, target: Value, source: Value) -> Tile:
        """A value under another name, whose live part may be smaller: that of a carried name is what all iterations
        leave live, however many run."""
        tile = self.values[source.number]
        if target.type.live == source.type.live:
            return tile
        lives = [(self.evaluator.index(a.lo)(), self.evaluator.index(a.hi)()) for a in target.type.live]
        declared = tuple(interval(lo, hi, extent) for (lo, hi), extent in zip(lives, tile.data.shape, strict=True))
        narrow = Tile(tile.data, common(tile.live, declared))
        return self.poisoned(narrow, target.type.dtype) if self.options.plant_nan else narrow

    def _if(self, statement: If) -> Action:
        then, otherwise = self.block(statement.then), self.block(statement.otherwise)
        holds = self._truth(statement.condition)
        merged: tuple[Merged, ...] = statement.merged

        def branch() -> None:
            self.at = statement.origin
            taken = holds()
            for action in then if taken else otherwise:
                action()
            self._carry((m.result, m.then if taken else m.otherwise) for m in merged)

        return branch

    def _truth(self, condition: Condition | Value) -> Callable[[], bool]:
        if isinstance(condition, Value):
            get = self.get(condition)
            return lambda: bool(get().data)
        return self.evaluator.condition(condition)


def check_listed(access: Access, axis: int, positions: Any) -> None:
    """Data used as positions must be inside the view. Raises RunError with the first that is not."""
    lo, hi = access.range_of(axis)
    bad = (positions < lo) | (positions >= hi)
    if bad.any():
        value = int(positions[int(np.argmax(bad))])
        name = access.cell.name
        message = f"position {value} read from data is outside {lo}..{hi - 1} of {name} axis {axis}"
        raise RunError("index-unproved", message, array=name, axis=axis, index=value, allowed=f"{lo}..{hi - 1}")


def _integers(scalars: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(v) for name, v in scalars.items() if isinstance(v, (int, np.integer))}
