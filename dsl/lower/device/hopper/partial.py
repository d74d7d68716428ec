"""Results whose rows end inside their array (those of a group): whole tiles by bulk stores, the last one by its rows.

A tensor map clips at the end of the array only. A tile that lies wholly inside the view goes by a bulk store all the
same; one that overhangs the end of the group is read back from shared memory and stored element by element.
"""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import AllOf, Compare, Condition, index
from kernelagent.dsl.lanes import striped
from kernelagent.dsl.lower.device.build import Scope
from kernelagent.dsl.lower.device.hopper.boxes import Along, Unsuited, along
from kernelagent.dsl.lower.device.hopper.stores import Stores
from kernelagent.dsl.lower.device.place_values import extents, view_axis
from kernelagent.dsl.lower.device.statements import restricted
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES


class PartialStores(Stores):
    def store(self, store: ir.Store) -> None:
        view = restricted(store.view, store.start, store.value.type, None)
        axes = self.ends_inside(store, view)
        if not axes:
            super().store(store)
            return
        home, shape = self.home(store.value), extents(store.value)
        assert home is not None
        value = self.get(store.value, home)
        name = self.panelled(f"{view.array}_out", value.dtype, (shape[0], shape[1]), store.origin)
        here = dev.Shared(name, index(0), (0, 1))
        if self.persistent:
            self.emit(dev.WaitBulk(0, store.origin))
        wide = min(home.contiguous(), ACCESS_BYTES * 8 // bits(value.dtype))
        self.emit(dev.StoreShared(here, value, store.origin, wide & -wide))
        self.emit(dev.FenceAsync(store.origin))
        at = store.origin
        whole = (self.whole_box(here, view, store), dev.CommitBulk(at))
        self.emit(dev.If(_inside(axes, view, store), whole, self.by_rows(here, view, store), (), at))
        self.note(
            f"store to {view.array}", f"bulk, through {name}", "tiles inside the view; others masked", store.origin
        )
        self.stored_by_bulk = True

    def ends_inside(self, store: ir.Store, view: ir.View) -> list[Along]:
        """The axes of a tile of rows that end in front of the array's end, where that is all that keeps it from being
        boxes."""
        shape, array = extents(store.value), self.arrays[view.array]
        size = bits(view.dtype)
        if self.depth or len(shape) != 2 or view_axis(view) != 1 or self.home(store.value) is None:
            return []
        if size not in (8, 16, 32) or shape[1] * size // 8 % 16 or shape[0] > 256:
            return []
        try:
            axes = along(view, array, shape)
        except Unsuited:
            return []
        plain = all(a.step == 1 and view.axes[a.axis].lo.constant == 0 for a in axes)
        short = [a for a in axes if view.axes[a.axis].hi != a.end]
        return short if plain and [a.axis for a in short] == [0] else []

    def whole_box(self, here: dev.Shared, view: ir.View, store: ir.Store) -> dev.StoreBulk:
        """The tile as a box of the array, which is seen from its own beginning."""
        array = self.arrays[view.array]
        start, coordinates, axes = list(store.start), list(view.coordinates), list(view.axes)
        for a in along(view, array, extents(store.value)):
            start[a.axis] = start[a.axis] + a.offset
            coordinates[a.array_axis] = index(ir.position(a.axis))
            axes[a.axis] = ir.ViewAxis(a.dim, index(0), a.dim)
        seen = replace(view, axes=tuple(axes), coordinates=tuple(coordinates))
        return dev.StoreBulk(here, seen, tuple(start), extents(store.value), store.origin)

    def by_rows(self, here: dev.Shared, view: ir.View, store: ir.Store) -> tuple[dev.Statement, ...]:
        """The tile's elements inside the view, in wide accesses along rows."""
        most = max(1, ACCESS_BYTES * 8 // bits(view.dtype))
        layout = striped(extents(store.value), self.plan.threads, most, 1)
        wide = self.width(view, store.start, layout)
        scope = Scope()
        self.scopes.append(scope)
        rows = self.let(dev.LoadShared(here, most), store.value, layout)
        self.emit(dev.Store(view, store.start, rows, store.origin, wide))
        self.scopes.pop()
        return tuple(scope.body)


def _inside(axes: list[Along], view: ir.View, store: ir.Store) -> Condition:
    """Whether the tile ends within the view."""
    shape = extents(store.value)
    ends = [Compare("<=", store.start[a.axis] + shape[a.axis], view.axes[a.axis].hi) for a in axes]
    return ends[0] if len(ends) == 1 else AllOf(tuple(ends))


__all__ = ["PartialStores"]
