"""The tile IR's rules, executable: what every pass may rely on and must keep.

`violations(kernel)` is run by the tests after every step that makes a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import Condition, Element, Index, Symbol, condition_indices, index
from kernelagent.dsl.instantiation import operands_of

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def violations(kernel: ir.Kernel) -> list[str]:
    """Every broken rule, as text; empty for a well-formed kernel."""
    checker = _Checker(kernel)
    checker.signature()
    checker.block(kernel.body)
    return checker.found


def is_concrete(kernel: ir.Kernel) -> bool:
    """Whether `instantiate` has been done: nothing is left to choose."""
    return not kernel.tunables and not kernel.dtype_variables


@dataclass
class _Checker:
    kernel: ir.Kernel
    found: list[str] = field(default_factory=list)
    values: dict[int, ir.Value] = field(default_factory=dict)  # in scope
    defined: set[int] = field(default_factory=set)  # anywhere
    symbols: set[str] = field(default_factory=set)
    facts: Facts = field(default_factory=Facts)

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            self.found.append(text)

    # Signature ---------------------------------------------------------------------------------

    def signature(self) -> None:
        k = self.kernel
        integers = [s.name for s in k.scalars if s.dtype == "const" or types.is_integer(s.dtype)]
        names = [*k.dims, *integers, *(t.name for t in k.tunables)]
        self.require(len(set(names)) == len(names), "names of dims, tunables and scalars are unique")
        self.symbols.update(names)
        for assume in k.assumes:
            self.facts.add(assume)
        for array in k.arrays:
            self.dtype(array.dtype)
            self.indices(array.dims, f"the dims of {array.name}")

    def dtype(self, name: str) -> None:
        known = types.is_concrete(name) or name in self.kernel.dtype_variables
        self.require(known, f"`{name}` is a dtype or a dtype variable")

    def indices(self, items: Iterable[Index], where: str, extra: Sequence[str] = ()) -> None:
        for item in items:
            for atom in item.atoms():
                if isinstance(atom, Symbol):
                    self.require(atom.name in self.symbols or atom.name in extra, f"{where}: {atom} is not in scope")
                elif isinstance(atom, Element):
                    array = self._array(atom.array)
                    fits = array is not None and len(array.dims) == len(atom.coordinates)
                    self.require(fits and types.is_integer(array.dtype) if array else False, f"{where}: {atom}")

    def _array(self, name: str) -> ir.Array | None:
        return next((a for a in self.kernel.arrays if a.name == name), None)

    # Statements --------------------------------------------------------------------------------

    def block(self, body: Iterable[ir.Statement]) -> None:
        outer = dict(self.values)
        for statement in body:
            self.statement(statement)
        self.values = outer

    def statement(self, statement: ir.Statement) -> None:
        match statement:
            case ir.Let(value, operation):
                for operand in operands_of(operation):
                    self.use(operand)
                self.operation(value, operation)
                self.define(value)
            case ir.Store() | ir.Scatter():
                self.write(statement)
            case ir.Expect(value, dims, start, _):
                self.use(value)
                self.require(value.type.rank == len(dims) == len(start), "expect: one dim and position an axis")
                self.indices(start, "expect")
            case ir.For():
                self.loop(statement)
            case ir.If():
                self.branch(statement)

    def define(self, value: ir.Value) -> None:
        self.require(value.number not in self.defined, f"%{value.number} is defined once")
        self.defined.add(value.number)
        self.values[value.number] = value
        t = value.type
        self.dtype(t.dtype)
        self.require(len(t.live) == len(t.shape), f"%{value.number}: one live interval an axis")
        self.indices([i for v in t.live for i in (v.lo, v.hi)], f"live of %{value.number}")
        for extent in t.shape:
            constant = extent.constant
            fine = constant > 0 if constant is not None else not is_concrete(self.kernel)
            self.require(fine, f"%{value.number}: the extent {extent} is a positive constant")

    def use(self, value: ir.Value) -> None:
        known = self.values.get(value.number)
        self.require(known is not None, f"%{value.number} is used where its definition does not dominate")
        self.require(known is None or known.type == value.type, f"%{value.number} is used with another type")

    def write(self, s: ir.Store | ir.Scatter) -> None:
        self.use(s.value)
        self.view(s.view)
        array = self._array(s.view.array)
        atomic = isinstance(s, ir.Scatter) and s.atomic
        roles = ("Acc",) if atomic else ("Out", "InOut")
        self.require(array is not None and array.role in roles, f"{s.view.array} may be written so")
        self.require(s.value.type.dtype == s.view.dtype, f"the store to {s.view.array} does not convert")
        self.place(s.view, s.start, s.value.type.shape)
        if isinstance(s, ir.Scatter):
            self.require(atomic or s.indices is not None, "a scatter has indices")
            if s.indices is not None and s.axis is not None:
                self.use(s.indices)
                self.index_tile(s.indices, s.value.type.shape[s.axis])

    def index_tile(self, indices: ir.Value, extent: Index) -> None:
        self.require(types.is_integer(indices.type.dtype), "indices are integers")
        self.require(indices.type.shape == (extent,), "indices have the extent of their axis")

    def place(self, view: ir.View, start: Sequence[Index], shape: Sequence[Index]) -> None:
        self.require(len(view.axes) == len(start) == len(shape), f"{view.array}: ranks of view, position and tile")
        self.indices(start, f"a position in {view.array}")

    def view(self, view: ir.View) -> None:
        array = self._array(view.array)
        self.require(array is not None, f"{view.array} is a parameter")
        if array is None:
            return
        self.require(array.dtype == view.dtype, f"the view of {array.name} has its dtype")
        self.require(len(view.coordinates) == len(array.dims), f"one coordinate an axis of {array.name}")
        positions = [ir.position(n).name for n in range(len(view.axes))]
        self.indices(view.coordinates, f"the view of {array.name}", positions)
        self.indices([i for a in view.axes for i in (a.length, a.lo, a.hi)], f"the axes of the view of {array.name}")

    def loop(self, loop: ir.For) -> None:
        counts = {len(loop.variables), len(loop.lo), len(loop.hi), len(loop.step)}
        self.require(len(counts) == 1, "one bound and step a loop variable")
        self.indices((*loop.lo, *loop.hi, *loop.step), "loop bounds")
        self.require(loop.kind != "tiles" or not loop.carried, "tiles carries nothing")
        for step in loop.step:
            self.require(step.constant is None or step.constant > 0, f"the step {step} is positive")
        for c in loop.carried:
            self.use(c.initial)
        names = {v.name for v in loop.variables}
        self.require(not names & self.symbols, f"loop variables are new: {sorted(names & self.symbols)}")
        self.symbols |= names
        self.facts.enter_loop(loop)
        outer = dict(self.values)
        for c in loop.carried:
            self.define(c.inside)
        for statement in loop.body:
            self.statement(statement)
        for c in loop.carried:
            self.use(c.end)
            self.carried(c, loop)
        self.facts.leave(len(loop.variables))
        self.symbols -= names
        self.values = outer
        for c in loop.carried:
            self.define(c.result)

    def carried(self, c: ir.Carried, loop: ir.For) -> None:
        kinds = {(v.type.dtype, v.type.shape) for v in (c.initial, c.inside, c.end, c.result)}
        self.require(len(kinds) == 1, f"{c.inside.name} keeps its dtype and shape")
        self.require(c.inside.type == c.result.type, f"{c.inside.name} has one live part")
        for axis, interval in enumerate(c.inside.type.live):
            used = interval.lo.symbols() | interval.hi.symbols()
            self.require(not used & set(loop.variables), f"{c.inside.name} axis {axis}: live depends on the loop")
            for other in (c.initial, c.end):
                held = live.within(interval, other.type.live[axis], self.facts)
                self.require(held, f"{c.inside.name} axis {axis}: more is live inside than outside")

    def branch(self, branch: ir.If) -> None:
        if isinstance(branch.condition, ir.Value):
            self.use(branch.condition)
            kind = (branch.condition.type.dtype, branch.condition.type.shape)
            self.require(kind == ("bool", ()), "`if` decides on one bool")
        else:
            self.condition(branch.condition, "`if`")
        for body, pick in ((branch.then, "then"), (branch.otherwise, "otherwise")):
            outer = dict(self.values)
            for statement in body:
                self.statement(statement)
            for merged in branch.merged:
                self.use(getattr(merged, pick))
            self.values = outer
        for merged in branch.merged:
            kinds = {(v.type.dtype, v.type.shape) for v in (merged.then, merged.otherwise, merged.result)}
            self.require(len(kinds) == 1, f"{merged.result.name} is alike in both arms")
            self.define(merged.result)

    def condition(self, condition: Condition, where: str) -> None:
        self.indices(condition_indices(condition), where)

    # Operations --------------------------------------------------------------------------------

    def operation(self, value: ir.Value, operation: ir.Operation) -> None:
        name = f"%{value.number} = {type(operation).__name__}"
        rule = _RULES[type(operation)]
        broken = [f"{name}: {text}" for text in rule(self, value.type, operation)]
        self.found += broken
        if broken:
            return
        try:
            expected = live.live_of(operation, value.type.shape, self.facts)
        except live.PartlyLive as problem:
            self.found.append(f"{name}: axis {problem.axis} is not wholly live")
            return
        self.require(expected == value.type.live, f"{name}: live {value.type.live}, the rule gives {expected}")


# One rule an operation: yields what is wrong with a value of type `t` computed by `o`. -------------------

_Rule = Callable[[_Checker, ir.TileType, Any], Iterator[str]]


def _unless(holds: bool, text: str) -> Iterator[str]:
    if not holds:
        yield text


def _load(k: _Checker, t: ir.TileType, o: ir.Load | ir.Gather) -> Iterator[str]:
    k.view(o.view)
    k.place(o.view, o.start, t.shape)
    array = k._array(o.view.array)
    yield from _unless(t.dtype == o.view.dtype, "loads do not convert")
    yield from _unless(array is not None and array.role in ("In", "InOut"), "outputs are not loaded")
    if isinstance(o, ir.Gather):
        k.index_tile(o.indices, t.shape[o.axis])


def _constant(k: _Checker, t: ir.TileType, o: ir.Full) -> Iterator[str]:
    yield from _unless(types.represents(o.value, t.dtype), f"{o.value!r} fits in {t.dtype}")


def _from_index(k: _Checker, t: ir.TileType, o: ir.FromIndex) -> Iterator[str]:
    k.indices([o.index], "FromIndex")
    yield from _unless(t.shape == () and t.dtype != "bool", "a rank-0 number")


def _from_condition(k: _Checker, t: ir.TileType, o: ir.FromCondition) -> Iterator[str]:
    k.condition(o.condition, "FromCondition")
    yield from _unless((t.shape, t.dtype) == ((), "bool"), "a rank-0 bool")


def _scalar(k: _Checker, t: ir.TileType, o: ir.ScalarParam) -> Iterator[str]:
    known = {s.name: s.dtype for s in k.kernel.scalars}
    yield from _unless(t.shape == () and known.get(o.name) == t.dtype, f"{o.name} is a scalar of that dtype")


def _iota(k: _Checker, t: ir.TileType, o: ir.Iota) -> Iterator[str]:
    k.indices([o.start], "Iota")
    yield from _unless(t.rank == 1 and t.dtype == "i32", "an i32 tile of rank 1")


def _unary(k: _Checker, t: ir.TileType, o: ir.Unary) -> Iterator[str]:
    yield from _unless((t.dtype, t.shape) == (o.x.type.dtype, o.x.type.shape), "the operand's type")
    yield from _unless((o.word == "not") == (t.dtype == "bool"), "`not` is for bools, the rest for numbers")
    wide = types.is_concrete(t.dtype) and types.arithmetic(t.dtype) == t.dtype
    yield from _unless(wide, "arithmetic is done in f32 or wider")


def _binary(k: _Checker, t: ir.TileType, o: ir.Binary) -> Iterator[str]:
    yield from _unless(o.a.type.shape == o.b.type.shape == t.shape, "operands have the result's shape")
    yield from _unless(o.a.type.dtype == o.b.type.dtype, "operands have one dtype")
    yield from _unless(t.dtype == ("bool" if o.word in COMPARISONS else o.a.type.dtype), "the result's dtype")
    operand = o.a.type.dtype
    wide = types.is_concrete(operand) and types.arithmetic(operand) == operand
    yield from _unless(wide, "arithmetic is done in f32 or wider")


def _where(k: _Checker, t: ir.TileType, o: ir.Where) -> Iterator[str]:
    yield from _unless(o.condition.type.dtype == "bool", "a bool decides")
    yield from _unless(o.a.type.dtype == o.b.type.dtype == t.dtype, "both sides have the result's dtype")
    shapes = {o.condition.type.shape, o.a.type.shape, o.b.type.shape, t.shape}
    yield from _unless(len(shapes) == 1, "one shape")


def _cast(k: _Checker, t: ir.TileType, o: ir.Cast) -> Iterator[str]:
    yield from _unless(t.shape == o.x.type.shape and t.dtype != o.x.type.dtype, "changes the dtype only")


def _broadcast(k: _Checker, t: ir.TileType, o: ir.Broadcast) -> Iterator[str]:
    source = o.x.type
    fits = source.rank == 0 or (
        source.rank == t.rank and all(a in (b, index(1)) for a, b in zip(source.shape, t.shape, strict=True))
    )
    yield from _unless(fits and source.dtype == t.dtype, "stretches unit axes, or rank 0")


def _expand(k: _Checker, t: ir.TileType, o: ir.ExpandDims) -> Iterator[str]:
    rest = tuple(e for n, e in enumerate(t.shape) if n not in o.axes)
    units = all(t.shape[a] == index(1) for a in o.axes if a < t.rank)
    fits = rest == o.x.type.shape and units and max(o.axes) < t.rank
    yield from _unless(fits and o.x.type.dtype == t.dtype, "adds unit axes")


def _reshape(k: _Checker, t: ir.TileType, o: ir.Reshape) -> Iterator[str]:
    same = k.facts.equal(live.product(o.x.type.shape), live.product(t.shape))
    yield from _unless(same and o.x.type.dtype == t.dtype, "keeps the elements")


def _permute(k: _Checker, t: ir.TileType, o: ir.Permute) -> Iterator[str]:
    order = sorted(o.axes) == list(range(o.x.type.rank))
    yield from _unless(order and t.shape == tuple(o.x.type.shape[a] for a in o.axes), "an order of the axes")
    yield from _unless(o.x.type.dtype == t.dtype, "keeps the dtype")


def _fill(k: _Checker, t: ir.TileType, o: ir.Fill) -> Iterator[str]:
    yield from _unless((t.dtype, t.shape) == (o.x.type.dtype, o.x.type.shape), "keeps the type")
    yield from _unless(types.represents(o.value, t.dtype), f"{o.value!r} fits in {t.dtype}")


def _reduce(k: _Checker, t: ir.TileType, o: ir.Reduce | ir.ArgReduce) -> Iterator[str]:
    source = o.x.type
    inside = 0 <= o.axis < source.rank
    yield from _unless(inside and t.shape == source.shape[: o.axis] + source.shape[o.axis + 1 :], "drops its axis")
    if isinstance(o, ir.ArgReduce):
        yield from _unless(t.dtype == "i32", "positions are i32")
        return
    yield from _unless(t.dtype == source.dtype, "keeps the dtype")
    yield from _unless((o.word in ("any", "all")) == (t.dtype == "bool"), "any and all are for bools")
    wide = types.is_concrete(t.dtype) and types.arithmetic(t.dtype) == t.dtype
    yield from _unless(wide, "floats are reduced in f32 or wider")


def _scan(k: _Checker, t: ir.TileType, o: ir.Scan) -> Iterator[str]:
    yield from _unless((t.dtype, t.shape) == (o.x.type.dtype, o.x.type.shape), "keeps the type")
    yield from _unless(0 <= o.axis < t.rank, "an axis")


def _mma(k: _Checker, t: ir.TileType, o: ir.Mma) -> Iterator[str]:
    a, b = o.a.type, o.b.type
    fits = a.rank == b.rank == 2 and a.shape[1] == b.shape[0] and t.shape == (a.shape[0], b.shape[1])
    yield from _unless(fits, "(m, k) x (k, n) -> (m, n)")
    yield from _unless(a.dtype == b.dtype, "operands have one dtype")
    result = "i32" if types.is_integer(a.dtype) else "f64" if a.dtype == "f64" else "f32"
    yield from _unless(t.dtype == result, f"accumulates in {result}")


def _stack(k: _Checker, t: ir.TileType, o: ir.Stack) -> Iterator[str]:
    alike = {(p.type.dtype, p.type.shape) for p in o.parts}
    yield from _unless(alike == {(t.dtype, t.shape[:-1])}, "the parts are alike")
    yield from _unless(t.shape[-1] == index(len(o.parts)), "the last axis counts the parts")


def _tag(k: _Checker, t: ir.TileType, o: ir.Tag) -> Iterator[str]:
    yield from _unless((t.dtype, t.shape) == (o.x.type.dtype, o.x.type.shape), "keeps the type")
    yield from _unless(len(o.dims) == len(o.start) == t.rank, "one dim and position an axis")


def _take(k: _Checker, t: ir.TileType, o: ir.Take) -> Iterator[str]:
    yield from _unless((t.dtype, t.shape) == (o.x.type.dtype, o.x.type.shape[:-1]), "drops the last axis")
    yield from _unless(k.facts.less_equal(index(o.position + 1), o.x.type.shape[-1]), "a position of the last axis")


_RULES: dict[type, _Rule] = {
    ir.Load: _load, ir.Gather: _load, ir.Full: _constant, ir.FromIndex: _from_index,
    ir.FromCondition: _from_condition, ir.ScalarParam: _scalar, ir.Iota: _iota, ir.Unary: _unary,
    ir.Binary: _binary, ir.Where: _where, ir.Cast: _cast, ir.Broadcast: _broadcast, ir.ExpandDims: _expand,
    ir.Reshape: _reshape, ir.Permute: _permute, ir.Fill: _fill, ir.Reduce: _reduce, ir.ArgReduce: _reduce,
    ir.Scan: _scan, ir.Mma: _mma, ir.Stack: _stack, ir.Take: _take, ir.Tag: _tag,
}  # fmt: skip
