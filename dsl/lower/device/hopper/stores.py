"""The end of a tile: results through swizzled shared memory and a bulk store."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import index
from kernelagent.dsl.lower.device.hopper.choose import Unsuited, box_axes
from kernelagent.dsl.lower.device.hopper.staging import Staging
from kernelagent.dsl.lower.device.place_values import elements, extents, view_axis
from kernelagent.dsl.lower.device.statements import restricted
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES
from kernelagent.dsl.lower.rewrite import operands, walk_statements


class Stores(Staging):
    def store(self, store: ir.Store) -> None:
        """Through swizzled shared memory and a bulk store where the array allows it."""
        home = self.home(store.value)
        view = restricted(store.view, store.start, store.value.type, None)
        why = self.no_bulk(store, view)
        if why is not None or home is None:
            if home is not None and elements(store.value) > self.plan.threads:
                self.note(f"store to {store.view.array}", "by registers", why or "", store.origin)
            super().store(store)
            return
        value = self.get(store.value, home)
        assert value.layout is not None
        shape = extents(store.value)
        spent = self.spent(store, value.dtype, shape)
        name = spent or self.panelled(f"{store.view.array}_out", value.dtype, (shape[0], shape[1]), store.origin)
        here = dev.Shared(name, index(0), (0, 1))
        if self.persistent:
            self.emit(dev.WaitBulk(0, store.origin))
        wide = min(value.layout.contiguous(), ACCESS_BYTES * 8 // bits(value.dtype))
        self.emit(dev.StoreShared(here, value, store.origin, wide & -wide))
        self.emit(dev.FenceAsync(store.origin))
        self.emit(dev.StoreBulk(here, view, store.start, shape, store.origin))
        self.emit(dev.CommitBulk(store.origin))
        if spent:
            self.emit(dev.WaitBulk(0, store.origin))  # the operand's buffer is given back behind it
        self.note(f"store to {store.view.array}", f"bulk, through {name}", "whole boxes of a dense array", store.origin)
        self.stored_by_bulk = True

    def spent(self, store: ir.Store, dtype: str, shape: tuple[int, ...]) -> str | None:
        """The buffer of an operand of the whole tile, as large as the result and read for the last time before: the
        result takes its place. Persistent blocks refill it while a store runs."""
        statements = list(walk_statements(self.plan.kernel.body))
        behind = statements[statements.index(store) :]
        for number, name in self.staged.items():
            buffer = next(b for b in self.buffers if b.name == name)
            views = {x for x, operand in self.plan.operands.items() if operand.staged.load.value.number == number}
            read = any(isinstance(s, ir.Let) and views & {x.number for x in operands(s.operation)} for s in behind)
            if not (self.persistent or read) and (buffer.dtype, buffer.shape) == (dtype, shape):
                del self.staged[number]
                self.ringed.discard(name)  # the role itself orders its uses
                return name
        return None

    def no_bulk(self, store: ir.Store, view: ir.View) -> str | None:
        """Why a store cannot go through a tensor map."""
        shape = extents(store.value)
        array = self.arrays[view.array]
        if len(shape) != 2 or view_axis(view) != 1 or self.depth:
            return "the tile is no matrix with contiguous rows" if not self.depth else "it is inside a loop"
        size = bits(view.dtype)
        if size not in (8, 16, 32) or shape[1] * size // 8 % 16 or shape[0] > 256:
            return "its rows are no boxes"
        try:
            where = box_axes(view, array, shape)
        except Unsuited as lack:
            return str(lack)
        for axis, dim in where.items():
            affine = view.coordinates[dim].affine(ir.position(axis))
            assert affine is not None
            bounds = view.axes[axis]
            if affine[0].constant != 1:
                return "a tile axis does not step by one element"
            if bounds.hi + affine[1] != array.dims[dim] or bounds.lo.constant != 0:
                return "the view ends inside the array"
        return None


__all__ = ["Stores"]
