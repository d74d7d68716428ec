"""Arrays at run time: reading and writing through views, with bounds checks and a log of stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl.index import Index
from kernelagent.dsl.interpreter.evaluate import Environment, Evaluator
from kernelagent.dsl.interpreter.fault import RunError, values_text
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.tile import Interval, interval
from kernelagent.dsl.ir import DType, Role, View, position


@dataclass(frozen=True)
class Conflict:
    """The first element that was stored a second time: where, and by which two stores."""

    element: tuple[int, ...]
    first: tuple[int, int]  # (iteration number, line)
    second: tuple[int, int]


@dataclass(frozen=True)
class Meeting:
    """The first of `count` elements that one iteration loads and another stores, that are loaded behind their store, or
    stored again: (iteration number, line) of the access now and of the one before."""

    element: tuple[int, ...]
    now: tuple[int, int]
    before: tuple[int, int]
    count: int


class Readers:
    """The last iteration that loaded each element, and one other that did: with lines, -1 for none."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.last, self.other = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
        self.last_line, self.other_line = np.zeros(shape, np.int32), np.zeros(shape, np.int32)

    def loaded(self, selection: Any, iteration: int, line: int) -> None:
        before = self.last[selection]
        another = (before >= 0) & (before != iteration)
        self.other[selection] = np.where(another, before, self.other[selection])
        self.other_line[selection] = np.where(another, self.last_line[selection], self.other_line[selection])
        self.last[selection], self.last_line[selection] = iteration, line

    def besides(self, selection: Any, iteration: int) -> tuple[Any, Any]:
        """An iteration other than this one that loaded each selected element, -1 for none, and its line."""
        last, other = self.last[selection], self.other[selection]
        own = last == iteration
        return np.where(own, other, last), np.where(own, self.other_line[selection], self.last_line[selection])


class StoreLog:
    """For each element of one array: how often it was stored, and by whom last.

    `count`, `iteration`, `line` have the array's shape; `iteration` indexes the run's list of iterations (-1: never).
    `readers` are kept for InOut arrays, from the first load on. `void` has (iteration, line) of the first store to an
    element whose value was void there, from the first such store on.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = np.zeros(shape, np.int32)
        self.iteration = np.full(shape, -1, np.int32)
        self.line = np.zeros(shape, np.int32)
        self.readers: Readers | None = None
        self.conflict: Conflict | None = None
        self.void: tuple[Any, Any] | None = None

    def left_void(self, selection: Any, iteration: int, line: int) -> None:
        """Note a store that found its value void at some of the selected elements."""
        if self.void is None:
            self.void = np.full(self.count.shape, -1, np.int32), np.zeros(self.count.shape, np.int32)
        iterations, lines = self.void
        first = iterations[selection] < 0
        iterations[selection] = np.where(first, iteration, iterations[selection])
        lines[selection] = np.where(first, line, lines[selection])

    def stored(self, selection: Any, iteration: int, line: int) -> None:
        """Note one store to the selected elements; the first element stored twice becomes the conflict."""
        np.add.at(self.count, selection, 1)
        again = self.count[selection] > 1
        if self.conflict is None and again.any():
            self._set_conflict(selection, (iteration, line))
        self.iteration[selection], self.line[selection] = iteration, line

    def loaded(self, selection: Any, iteration: int, line: int) -> Meeting | None:
        """Note one load; elements that were stored before are met."""
        writer = self.iteration[selection]
        if (writer >= 0).any():
            return self._meeting(selection, writer >= 0, (iteration, line), writer, self.line[selection])
        self.readers = self.readers or Readers(self.count.shape)
        self.readers.loaded(selection, iteration, line)
        return None

    def met(self, selection: Any, iteration: int, line: int) -> tuple[Meeting | None, Meeting | None]:
        """What a store meets: elements that another iteration loaded, and elements that were stored before."""
        now, loaded = (iteration, line), None
        if self.readers is not None:
            reader, lines = self.readers.besides(selection, iteration)
            loaded = self._meeting(selection, reader >= 0, now, reader, lines)
        writer = self.iteration[selection]
        return loaded, self._meeting(selection, writer >= 0, now, writer, self.line[selection])

    def _meeting(self, selection: Any, broken: Any, now: tuple[int, int], whom: Any, lines: Any) -> Meeting | None:
        """The first selected element where `broken`; `whom` and `lines` are those of the access before."""
        if not broken.any():
            return None
        at = tuple(int(k) for k in np.argwhere(broken)[0])
        element = tuple(int(c[selection][at]) for c in np.indices(self.count.shape, np.int32))
        return Meeting(element, now, (int(whom[at]), int(lines[at])), int(broken.sum()))

    def _set_conflict(self, selection: Any, second: tuple[int, int]) -> None:
        touched = np.zeros(self.count.shape, bool)
        touched[selection] = True
        element = tuple(int(c) for c in np.argwhere(touched & (self.count > 1))[0])
        known = int(self.iteration[element])
        first = (known, int(self.line[element])) if known >= 0 else second
        self.conflict = Conflict(element, first, second)


@dataclass
class Cell:
    """One array of a run."""

    name: str
    role: Role
    dtype: DType
    data: Array
    log: StoreLog | None


class Access:
    """A view of a cell, compiled. Boxes are given as one [lo, hi) of view positions for each view axis."""

    def __init__(self, view: View, cell: Cell, environment: Environment, evaluator: Evaluator) -> None:
        self.cell = cell
        self.rank = len(view.axes)
        self._environment = environment
        self._axes = [(evaluator.index(a.length), evaluator.index(a.lo), evaluator.index(a.hi)) for a in view.axes]
        self._affine = _affine_axes(view, evaluator)
        self._coordinates = evaluator.indices(view.coordinates)
        self._transposition = _transposition(self._affine) if self._affine is not None else ()
        self._symbols = [position(axis).name for axis in range(self.rank)]

    def live(self, start: Sequence[int], extents: Sequence[int]) -> tuple[Interval, ...]:
        """Which positions of a tile at `start` are inside the view, counted from the tile's start."""
        result = []
        for (length, lo, hi), first, extent in zip(self._axes, start, extents, strict=True):
            result.append(interval(max(lo(), 0) - first, min(hi(), length()) - first, extent))
        return tuple(result)

    def range_of(self, axis: int) -> tuple[int, int]:
        length, lo, hi = self._axes[axis]
        return max(lo(), 0), min(hi(), length())

    def read(self, array: Array, boxes: Sequence[Interval]) -> Array:
        """Elements of the box, in view axis order. May share memory with `array`."""
        if self._affine is None:
            return np.asarray(array[self._places([np.arange(lo, hi) for lo, hi in boxes])])
        return self._window(array, boxes)

    def write(self, array: Array, boxes: Sequence[Interval], value: Any) -> None:
        if self._affine is None:
            array[self._places([np.arange(lo, hi) for lo, hi in boxes])] = value
        else:
            self._window(array, boxes)[...] = value

    def selection(self, boxes: Sequence[Interval]) -> Any:
        """An index expression that selects the box, in array axis order where the view is affine."""
        if self._affine is None:
            return self._places([np.arange(lo, hi) for lo, hi in boxes])
        return self._selector(boxes)

    def places(self, positions: Sequence[Array]) -> tuple[Array, ...]:
        """Array coordinates of a box of listed positions, one rank-1 array for each view axis."""
        return self._places(positions)

    def _window(self, array: Array, boxes: Sequence[Interval]) -> Array:
        window: Array = array[self._selector(boxes)]
        return window if self._transposition is None else window.transpose(self._transposition)

    def _selector(self, boxes: Sequence[Interval]) -> tuple[Any, ...]:
        assert self._affine is not None
        selector: list[Any] = []
        for axis, (factor, source, rest) in enumerate(self._affine):
            base = rest()
            if source is None:
                self._check(axis, base, base)
                selector.append(base)
                continue
            lo, hi = boxes[source]
            if lo >= hi:
                selector.append(slice(0, 0))
                continue
            first, last = base + factor * lo, base + factor * (hi - 1)
            self._check(axis, first, last)
            selector.append(slice(first, last + 1, factor))
        return (*selector, ...)

    def _places(self, positions: Sequence[Array]) -> tuple[Array, ...]:
        shape = tuple(len(p) for p in positions)
        for axis, values in enumerate(positions):
            column = (1,) * axis + (-1,) + (1,) * (self.rank - axis - 1)
            self._environment[self._symbols[axis]] = np.asarray(values, np.int64).reshape(column)
        places = [np.broadcast_to(np.asarray(c, np.int64), shape) for c in self._coordinates()]
        for axis, coordinate in enumerate(places):
            if coordinate.size:
                self._check(axis, int(coordinate.min()), int(coordinate.max()))
        return tuple(places)

    def _check(self, axis: int, low: int, high: int) -> None:
        extent = self.cell.data.shape[axis]
        if low < 0 or high >= extent:
            raise index_range(self.cell, axis, low if low < 0 else high, self._environment)


def index_range(cell: Cell, axis: int, value: int, environment: Environment) -> RunError:
    extent = cell.data.shape[axis]
    known = {name: v for name, v in environment.items() if isinstance(v, int) and not name.startswith("@")}
    message = f"{cell.name} axis {axis} has {extent} entries (0..{extent - 1}) but position {value} is used"
    hint = f"values: {values_text(known)}" if known else None
    return RunError("index-range", message, hint=hint, array=cell.name, axis=axis, index=value, extent=extent)


def _affine_axes(view: View, evaluator: Evaluator) -> list[tuple[int, int | None, Callable[[], int]]] | None:
    """(factor, view axis or None, rest) for each array axis when the view is a strided box of the array."""
    used: list[int] = []
    axes: list[tuple[int, int | None, Callable[[], int]]] = []
    for coordinate in view.coordinates:
        found = _affine_axis(coordinate, len(view.axes))
        if found is None:
            return None
        factor, source, rest = found
        if source is not None:
            used.append(source)
        axes.append((factor, source, evaluator.index(rest)))
    return axes if sorted(used) == list(range(len(view.axes))) else None


def _affine_axis(coordinate: Index, rank: int) -> tuple[int, int | None, Index] | None:
    names = {position(axis): axis for axis in range(rank)}
    sources = [s for s in coordinate.symbols() if s in names]
    if not sources:
        return 0, None, coordinate
    if len(sources) > 1 or (affine := coordinate.affine(sources[0])) is None:
        return None
    factor = affine[0].constant
    return (factor, names[sources[0]], affine[1]) if factor is not None and factor > 0 else None


def _transposition(axes: list[tuple[int, int | None, Callable[[], int]]]) -> tuple[int, ...] | None:
    """From array axis order to view axis order; None when they agree."""
    order = [source for _, source, _ in axes if source is not None]
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    return None if inverse == tuple(range(len(order))) else inverse
