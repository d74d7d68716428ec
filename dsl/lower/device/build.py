"""Tile IR -> device statements: every value in registers or shared memory, in text order, barriers not yet placed.

Loops that stage operands become rings here (`pipeline`); `order_shared` inserts the barriers afterwards and
`place_shared` the byte offsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits, identity
from kernelagent.dsl.index import Index, index, maximum, minimum
from kernelagent.dsl.lanes import Distribution, Mode, drop, permuted, same, striped
from kernelagent.dsl.lower.device import reduce_block
from kernelagent.dsl.lower.device.choose_atoms import FMA, Product
from kernelagent.dsl.lower.device.place_values import (
    expanded,
    extents,
    only,
    reshaped,
    stretched_axes,
    unit_along,
    view_axis,
    without,
)
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.device.stage import LINE_BYTES, Operand, Staged, pad_for, swizzle_for
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES, Multiples, width
from kernelagent.dsl.lower.rewrite import operands
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.schedule import Choice, ShapeClass


@dataclass
class Plan:
    """What the earlier passes decided."""

    kernel: ir.Kernel
    shape: ShapeClass
    threads: int
    products: Mapping[int, Product]
    homes: Mapping[int, Distribution]
    operands: Mapping[int, Operand]
    unheld: set[int]
    policy: Policy
    multiples: Multiples
    choices: list[Choice]


@dataclass
class Ring:
    """The stages of a loop: which stage the current iteration reads."""

    stage: Index
    buffers: dict[int, str]  # by the number of the staged load's value


@dataclass
class Scope:
    """A statement list under construction and what it has computed."""

    body: list[dev.Statement] = field(default_factory=list)
    known: dict[int, dict[Distribution | None, dev.Fragment]] = field(default_factory=dict)
    masks: dict[tuple[object, ...], dev.Fragment] = field(default_factory=dict)
    ring: Ring | None = None


class Builder:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.arrays = {a.name: a for a in plan.kernel.arrays}
        self.definitions: dict[int, ir.Operation] = {}
        self.scopes: list[Scope] = []
        self.buffers: list[dev.SharedBuffer] = []
        self.staged: dict[int, str] = {}  # single buffers, by the number of the load's value
        self.held: dict[int, tuple[str, tuple[int, int]]] = {}  # operands computed, then put into shared memory
        self.numbers = 0
        self.ringed: set[str] = set()  # buffers under a ring's own wait and barrier
        self.deferred: set[int] = set()  # products that accumulate where they are added
        self.results: dict[int, dev.Fragment] = {}  # after a loop, by the number of the carried fragment inside

    # Small things --------------------------------------------------------------------------------

    def emit(self, statement: dev.Statement) -> None:
        self.scopes[-1].body.append(statement)

    def fresh(
        self, name: str, dtype: str, shape: tuple[int, ...], layout: Distribution | None, origin: ir.Origin
    ) -> dev.Fragment:
        self.numbers += 1
        return dev.Fragment(self.numbers, name, dtype, shape, layout, origin)

    def let(
        self,
        operation: dev.Operation,
        like: ir.Value | dev.Fragment,
        layout: Distribution | None,
        dtype: str | None = None,
        name: str | None = None,
    ) -> dev.Fragment:
        if dtype is None:
            dtype = like.dtype if isinstance(like, dev.Fragment) else like.type.dtype
        if layout is not None and not layout.shape:
            layout = None
        made = self.fresh(name or like.name or "value", dtype, layout.shape if layout else (), layout, like.origin)
        self.emit(dev.Let(made, operation))
        return made

    def buffer(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        origin: ir.Origin,
        stages: int = 1,
        swizzle: dev.Swizzle | None = None,
        pad: int = 0,
        panel: int = 0,
    ) -> str:
        unique = f"{name}_s" if all(b.name != f"{name}_s" for b in self.buffers) else f"{name}_s{len(self.buffers)}"
        self.buffers.append(dev.SharedBuffer(unique, dtype, shape, stages, swizzle, pad, origin=origin, panel=panel))
        return unique

    def known(self, value: ir.Value, layout: Distribution | None) -> dev.Fragment | None:
        for scope in reversed(self.scopes):
            for other, fragment in scope.known.get(value.number, {}).items():
                if layout is other or (layout and other and same(layout, other)):
                    return fragment
        return None

    def remember(self, value: ir.Value, fragment: dev.Fragment) -> dev.Fragment:
        self.scopes[-1].known.setdefault(value.number, {})[fragment.layout] = fragment
        return fragment

    def home(self, value: ir.Value) -> Distribution | None:
        return self.plan.homes[value.number] if value.type.rank else None

    # Values ----------------------------------------------------------------------------------------

    def get(self, value: ir.Value, layout: Distribution | None) -> dev.Fragment:
        """The value in a layout: as it is known, computed again if that costs nothing, or converted."""
        found = self.known(value, layout)
        if found is not None:
            return found
        operation = self.definitions.get(value.number)
        if operation is not None and self.floats(operation):
            return self.remember(value, self.compute(value, operation, layout))
        source = self.known(value, self.home(value))
        assert source is not None, f"{value.name} is read before it is computed"
        assert layout is not None
        return self.remember(value, self.convert(source, layout))

    def floats(self, operation: ir.Operation, depth: int = 4) -> bool:
        """Whether a value may be computed again anywhere: constants, positions, small loads of inputs and what is
        elementwise over such."""
        match operation:
            case ir.Full() | ir.FromIndex() | ir.FromCondition() | ir.ScalarParam() | ir.Iota():
                return True
            case ir.Load(view=view, start=start):
                return self.arrays[view.array].role == "In" and len(start) <= 1
            case ir.Unary() | ir.Binary() | ir.Where() | ir.Cast() | ir.ExpandDims() | ir.Broadcast():
                return depth > 0 and all(
                    x.number in self.definitions and self.floats(self.definitions[x.number], depth - 1)
                    for x in operands(operation)
                )
            case _:
                return False

    def compute(self, value: ir.Value, operation: ir.Operation, layout: Distribution | None) -> dev.Fragment:
        match operation:
            case ir.Load(view, start, fill):
                wide = self.width(view, start, layout) if layout is not None else 1
                if value.type.rank > 1:
                    chosen = access_text(wide, view.dtype)
                    self.note(f"load of {view.array}", chosen, self.why_width(wide), value.origin)
                return self.let(dev.Load(view, start, 0 if fill is None else fill, wide), value, layout)
            case ir.Full(number):
                return self.let(dev.Constant(number), value, layout)
            case ir.FromIndex(number):
                return self.let(dev.FromIndex(number), value, None)
            case ir.FromCondition(condition):
                return self.let(dev.FromCondition(condition), value, None)
            case ir.ScalarParam(name):
                return self.let(dev.Parameter(name), value, None)
            case ir.Iota(start):
                return self.let(dev.Positions(start), value, layout)
            case ir.Unary() | ir.Binary() | ir.Where() | ir.Cast():
                parts = tuple(self.get(x, layout if x.type.rank else None) for x in operands(operation))
                return self.let(dev.Pointwise(_word(operation), parts), value, layout)
            case ir.Fill(x, number):
                assert layout is not None
                return self.masked(self.get(x, layout), x.type.live, number)
            case ir.Broadcast() | ir.ExpandDims() | ir.Permute() | ir.Reshape() | ir.Stack() | ir.Take():
                return self.renamed(value, operation, layout)
            case ir.Gather():
                return self.gather(value, operation, layout)
            case ir.Reduce() | ir.ArgReduce() | ir.Scan():
                return self.along(value, operation)
            case ir.Mma():
                return self.product(value, operation, None)
            case ir.Tag():
                raise AssertionError("tags are left out of what is lowered")

    def renamed(self, value: ir.Value, operation: ir.Operation, layout: Distribution | None) -> dev.Fragment:
        """Operations that only rename registers."""
        match operation:
            case ir.Broadcast(x):
                if layout is None:
                    return self.get(x, None)
                source = unit_along(layout, stretched_axes(x, value)) if x.type.rank else None
                return self.let(dev.Stretch(self.get(x, source)), value, layout)
            case ir.ExpandDims(x, axes):
                if layout is not None and not x.type.rank:
                    return self.let(dev.Stretch(self.get(x, None)), value, layout)
                assert layout is not None
                return self.let(dev.Reindex("expand", (self.get(x, without(layout, axes)),), axes), value, layout)
            case ir.Permute(x, axes):
                assert layout is not None
                back = permuted(layout, tuple(axes.index(k) for k in range(len(axes))))
                return self.let(dev.Reindex("permute", (self.get(x, back),), axes), value, layout)
            case ir.Reshape(x):
                return self.reshape(value, x, layout)
            case ir.Stack(parts):
                assert layout is not None
                held = drop(layout, len(layout.shape) - 1)
                return self.let(dev.Reindex("stack", tuple(self.get(p, held) for p in parts)), value, layout)
            case ir.Take(x, position):
                whole = self.taken_from(x)
                made = self.let(
                    dev.Reindex("take", (whole,), (position,)), value, drop(_layout(whole), x.type.rank - 1)
                )
                return self.adapt(made, layout)
        raise AssertionError(operation)

    def taken_from(self, x: ir.Value) -> dev.Fragment:
        """x with its last axis whole in each thread's registers."""
        layout = self.plan.homes[x.number]
        last = x.type.rank - 1
        if all(m.axis != last for m in layout.lanes):
            return self.get(x, layout)
        count = extents(x)[-1]
        outer = striped(extents(x)[:-1], self.plan.threads, 1)
        held = Distribution((*outer.shape, count), outer.lanes, (Mode(count, last, 1), *outer.values))
        return self.get(x, held)

    def reshape(self, value: ir.Value, x: ir.Value, layout: Distribution | None) -> dev.Fragment:
        if layout is None or not x.type.rank:
            assert x.type.rank == 0 or layout is None
            if layout is not None:
                return self.let(dev.Stretch(self.get(x, None)), value, layout)
            return self.let(dev.Reindex("reshape", (self.get(x, self.home(x)),)), value, None)
        source = reshaped(layout, extents(x))
        if source is not None:
            return self.let(dev.Reindex("reshape", (self.get(x, source),)), value, layout)
        home = self.plan.homes[x.number]
        there = reshaped(home, extents(value))
        if there is None:
            home = striped(extents(x), self.plan.threads, 1)
            there = reshaped(home, extents(value))
        if there is None:
            raise Unsupported(f"a reshape from {extents(x)} to {extents(value)}")
        return self.adapt(self.let(dev.Reindex("reshape", (self.get(x, home),)), value, there), layout)

    def gather(self, value: ir.Value, gather: ir.Gather, layout: Distribution | None) -> dev.Fragment:
        assert layout is not None
        indices = self.get(gather.indices, only(layout, gather.axis))
        if self.arrays[gather.view.array].role == "InOut":  # void rows load nothing that another block stores
            indices = self.masked(indices, gather.indices.type.live, -1)
        fill = 0 if gather.fill is None else gather.fill
        last = len(gather.start) - 1
        wide = 1 if gather.axis == last else self.width(gather.view, gather.start, layout)
        return self.let(dev.Gather(gather.view, gather.start, gather.axis, indices, fill, wide), value, layout)

    def along(self, value: ir.Value, operation: ir.Reduce | ir.ArgReduce | ir.Scan) -> dev.Fragment:
        x = operation.x
        source = self.get(x, self.home(x))
        live = x.type.live[operation.axis]
        if not _whole(live, x.type.shape[operation.axis]):
            lives = [ir.Live(index(0), e) for e in x.type.shape]
            lives[operation.axis] = live
            source = self.masked(source, tuple(lives), identity(operation.word.removeprefix("arg"), x.type.dtype))
        if isinstance(operation, ir.Scan):
            return reduce_block.scan(self, value, operation, source)
        if isinstance(operation, ir.ArgReduce):
            return reduce_block.arg_reduce(self, value, operation, source, live)
        return self.adapt(reduce_block.reduce(self, value, operation.word, source, operation.axis), self.home(value))

    def adapt(self, fragment: dev.Fragment, layout: Distribution | None) -> dev.Fragment:
        if layout is None or fragment.layout is None or same(fragment.layout, layout):
            return fragment
        return self.convert(fragment, layout)

    def masked(self, x: dev.Fragment, lives: Sequence[ir.Live], value: float | int | bool) -> dev.Fragment:
        """x where all positions are live, else the constant."""
        layout = _layout(x)
        for axis, live in enumerate(lives):
            extent = index(layout.shape[axis])
            tests = [] if live.hi == extent else [("lt", live.hi)]
            tests += [] if live.lo.constant == 0 else [("ge", live.lo)]
            for word, bound in tests:
                x = self.masked_once(x, axis, word, bound, value)
        return x

    def masked_once(
        self, x: dev.Fragment, axis: int, word: str, bound: Index, value: float | int | bool
    ) -> dev.Fragment:
        key = (x.number, axis, word, bound, value)
        for scope in reversed(self.scopes):
            if key in scope.masks:
                return scope.masks[key]
        made = self.masked_along(x, axis, word, bound, value)
        self.scopes[-1].masks[key] = made
        return made

    def masked_along(
        self, x: dev.Fragment, axis: int, word: str, bound: Index, value: float | int | bool
    ) -> dev.Fragment:
        layout = _layout(x)
        line = only(layout, axis)
        at = self.let(dev.Positions(index(0)), x, line, "i32", "position")
        limit = self.let(dev.FromIndex(bound), x, None, "i32", "bound")
        inside = self.let(dev.Pointwise(word, (at, limit)), x, line, "bool", "inside")
        if len(layout.shape) > 1:
            others = tuple(k for k in range(len(layout.shape)) if k != axis)
            wide = expanded(line, others)
            inside = self.let(dev.Reindex("expand", (inside,), others), x, wide, "bool", "inside")
            inside = self.let(dev.Stretch(inside), x, layout, "bool", "inside")
        void = self.let(dev.Constant(value), x, None, name="void")
        return self.let(dev.Pointwise("where", (inside, x, void)), x, layout)

    # Conversions ---------------------------------------------------------------------------------

    def convert(self, x: dev.Fragment, layout: Distribution) -> dev.Fragment:
        """Through shared memory: written in the old layout, read in the new one."""
        old = _layout(x)
        wide = min(old.contiguous(), layout.contiguous())
        pad = _pad(layout.shape[-1], x.dtype, wide > 1)
        name = self.buffer(f"{x.name}_turn", x.dtype, layout.shape, x.origin, pad=pad)
        here = dev.Shared(name, index(0), tuple(range(len(layout.shape))))
        limit = ACCESS_BYTES * 8 // bits(x.dtype) if wide > 1 else 1
        self.emit(dev.StoreShared(here, x, x.origin, min(_power(old.contiguous()), limit)))
        self.note(f"convert {x.name}", f"through {name}", "the consumer wants another layout", x.origin)
        return self.let(dev.LoadShared(here, min(_power(layout.contiguous()), limit)), x, layout)

    def note(self, subject: str, chosen: str, reason: str, origin: ir.Origin | None) -> None:
        self.plan.choices.append(Choice(subject, chosen, reason, origin))

    def why_width(self, wide: int) -> str:
        if self.plan.shape.name != "aligned":
            return "nothing is known about alignment and strides"
        return "alignment, strides and bounds allow it" if wide > 1 else "positions or strides divide no further"

    def width(self, view: ir.View, start: tuple[Index, ...], layout: Distribution) -> int:
        return width(view, start, layout, self.plan.shape, self.plan.multiples, self.arrays)

    # Products --------------------------------------------------------------------------------------

    def product(self, value: ir.Value, mma: ir.Mma, acc: dev.Fragment | None) -> dev.Fragment:
        product = self.plan.products[value.number]
        if acc is None:
            acc = self.let(dev.Constant(0), value, product.result, name="zero")
        elif not same(_layout(acc), product.result):
            acc = self.convert(acc, product.result)
        k = (mma.a.type.live[1], mma.b.type.live[0])
        a = self.operand(mma.a, product, product.left, live_along(mma.a, 1, k))
        b = self.operand(mma.b, product, None, live_along(mma.b, 0, k))
        return self.let(dev.Mma(product.atom, a, b, acc), value, product.result)

    def operand(
        self, value: ir.Value, product: Product, registers: Distribution | None, counted: Sequence[ir.Live]
    ) -> dev.Fragment | dev.Shared:
        """`counted`: the elements that the product may see; the others are zero."""
        plan = self.plan.operands.get(value.number)
        if plan is not None:
            return self.staged_operand(plan)
        home = self.plan.homes[value.number]
        fragment = self.as_dtype(self.get(value, home), product)
        fragment = self.masked(fragment, counted, 0)  # a void k must not meet a number: 0 * inf
        if registers is not None and same(home, registers):
            self.note(f"operand {value.name}", "registers", "its layout is the atom's", value.origin)
            return fragment
        return self.through_shared(fragment, value)

    def as_dtype(self, fragment: dev.Fragment, product: Product) -> dev.Fragment:
        wanted = product.operand_dtype
        if wanted == "tf32" or fragment.dtype == wanted or product.atom == FMA:
            return fragment
        return self.let(dev.Pointwise("cast", (fragment,)), fragment, fragment.layout, wanted)

    def through_shared(self, fragment: dev.Fragment, value: ir.Value) -> dev.Shared:
        shape = fragment.shape
        turned = _layout(fragment).contiguous() == 1 and _first_axis(_layout(fragment)) == 0
        axes = (1, 0) if turned else (0, 1)
        stored = (shape[axes[0]], shape[axes[1]])
        swizzle = swizzle_for(stored[1], fragment.dtype)
        pad = 0 if swizzle else pad_for(stored[1], fragment.dtype)
        name = self.buffer(fragment.name, fragment.dtype, stored, fragment.origin, swizzle=swizzle, pad=pad)
        reference = dev.Shared(name, index(0), axes)
        wide = 1 if turned else min(_power(_layout(fragment).contiguous()), ACCESS_BYTES * 8 // bits(fragment.dtype))
        self.emit(dev.StoreShared(reference, fragment, fragment.origin, wide))
        self.note(
            f"operand {value.name}", f"through {name}", "it is computed, and not in the atom's layout", value.origin
        )
        return reference

    def staged_operand(self, plan: Operand) -> dev.Shared:
        number = plan.staged.load.value.number
        for scope in reversed(self.scopes):
            if scope.ring is not None and number in scope.ring.buffers:
                return dev.Shared(scope.ring.buffers[number], scope.ring.stage, plan.axes)
        return dev.Shared(self.staged[number], index(0), plan.axes)

    def stage_buffer(self, staged: Staged, stages: int) -> str:
        load = staged.load
        dtype = load.value.type.dtype
        swizzle = swizzle_for(staged.shape[1], dtype)
        pad = 0 if swizzle else pad_for(staged.shape[1], dtype)
        assert isinstance(load.operation, ir.Load)
        name = self.buffer(load.operation.view.array, dtype, staged.shape, load.value.origin, stages, swizzle, pad)
        chosen = f"{staged.shape[0]}x{staged.shape[1]} {dtype}, {stages} stages" + (", swizzled" if swizzle else "")
        self.note(f"shared {name}", chosen, "operand of a product", load.value.origin)
        return name

    def copy(self, staged: Staged, buffer: str, stage: Index, changes: Mapping[str, Index]) -> dev.Copy:
        """Global -> shared for one stage; `changes` replaces loop variables by those of the stage's iteration."""
        load = staged.load
        assert isinstance(load.operation, ir.Load)
        view = substituted_view(load.operation.view, changes)
        start = tuple(s.substitute(changes) for s in load.operation.start)
        shape = extents(load.value)
        vector = max(1, ACCESS_BYTES * 8 // bits(view.dtype))
        layout = striped(shape, self.plan.threads, vector, view_axis(view))
        wide = self.width(load.operation.view, load.operation.start, layout)
        if wide != vector:
            layout = striped(shape, self.plan.threads, wide, view_axis(view))
        asynchronous = wide * bits(view.dtype) // 8 in (4, 8, 16)
        axes = staged.axes if len(shape) == 2 else (0, 1)
        target = dev.Shared(buffer, stage, axes)
        return dev.Copy(target, view, start, layout, wide, asynchronous, load.value.origin)

    def stage_once(self, staged: Staged) -> None:
        """An operand loaded outside a ring: one buffer, copied where the text loads it."""
        name = self.stage_buffer(staged, 1)
        self.staged[staged.load.value.number] = name
        made = self.copy(staged, name, index(0), {})
        self.emit(made)
        if made.asynchronous:
            self.emit(dev.Commit(made.origin))


def substituted_view(view: ir.View, changes: Mapping[str, Index]) -> ir.View:
    if not changes:
        return view
    axes = tuple(
        ir.ViewAxis(a.length.substitute(changes), a.lo.substitute(changes), a.hi.substitute(changes)) for a in view.axes
    )
    return replace(view, axes=axes, coordinates=tuple(c.substitute(changes) for c in view.coordinates))


def access_text(wide: int, dtype: str) -> str:
    return f"{wide * bits(dtype) // 8 or 1}-byte accesses"


def _word(operation: ir.Operation) -> str:
    match operation:
        case ir.Unary(word, _) | ir.Binary(word, _, _):
            return word
        case ir.Where():
            return "where"
        case _:
            return "cast"


def live_along(x: ir.Value, axis: int, lives: tuple[ir.Live, ir.Live]) -> list[ir.Live]:
    """Wholly live but for `axis`, where both intervals hold."""
    found = [ir.Live(index(0), extent) for extent in x.type.shape]
    first, second = lives
    if first == second:
        found[axis] = first
    else:
        found[axis] = ir.Live(maximum(first.lo, second.lo), minimum(first.hi, second.hi))
    return found


def _whole(live: ir.Live, extent: Index) -> bool:
    return live.lo.constant == 0 and live.hi == extent


def _layout(fragment: dev.Fragment) -> Distribution:
    assert fragment.layout is not None
    return fragment.layout


def _first_axis(layout: Distribution) -> int:
    """The axis along which neighbouring lanes lie."""
    return layout.lanes[0].axis if layout.lanes else -1


def _power(number: int) -> int:
    """The largest power of two dividing a number."""
    return number & -number


def _pad(columns: int, dtype: str, wide: bool) -> int:
    """Elements behind each row that move the next one to other banks."""
    if wide:
        return ACCESS_BYTES * 8 // bits(dtype)
    word = max(1, 32 // bits(dtype))
    return word if columns * bits(dtype) % (LINE_BYTES * 8) == 0 else 0
