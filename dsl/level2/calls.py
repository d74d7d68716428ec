"""Words of level two: one function a word, from a matched call to an operation or effect."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.claims import dim_of
from kernelagent.dsl.elaborate.habits import unknown_attribute
from kernelagent.dsl.elaborate.operands import DTypeName, source_text
from kernelagent.dsl.elaborate.words import Word as WordRecord
from kernelagent.dsl.elaborate.words import match_arguments
from kernelagent.dsl.index import Index, cdiv, index, maximum, minimum
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.expressions import (
    condition,
    describe,
    evaluate,
    index_of,
    indices_of,
    integer,
    integers,
    literal,
    misplaced,
    permute,
    pointwise,
)
from kernelagent.dsl.level2.rules import check_threads
from kernelagent.dsl.level2.state import Operand, Phased, State, placed
from kernelagent.dsl.level2.words import EXPECT, FLOAT_WORDS, REDUCTIONS, WORDS2
from kernelagent.dsl.syntax import fault, span_of


@dataclass
class Matched:
    """A call whose arguments are matched to the word's parameters, evaluated on demand and in order."""

    k: State
    word: WordRecord
    node: ast.Call
    nodes: dict[str, ast.expr]
    rest: list[ast.expr]

    def operand(self, name: str) -> Operand:
        return evaluate(self.k, self.nodes[name])

    def fragment(self, name: str) -> dev.Fragment:
        found = self.operand(name)
        if not isinstance(found, dev.Fragment):
            at = self.nodes[name]
            hint = f"`{self.word.usage}`: `{name}` is a value in registers; use `load`, `load_shared` or `scalar`"
            raise fault("not-a-fragment", f"`{source_text(at)}` is {describe(found)}, not a fragment", at, hint)
        return found

    def stage(self, name: str) -> dev.Shared:
        found = self.operand(name)
        if not isinstance(found, dev.Shared):
            at = self.nodes[name]
            hint = "name a buffer declared with `shared(...)`, and its stage: `ring[0]`"
            raise fault("not-a-buffer", f"`{source_text(at)}` is {describe(found)}, not a shared buffer", at, hint)
        return found

    def view(self) -> ir.View:
        found = self.operand("view")
        if not isinstance(found, ir.View):
            at = self.nodes["view"]
            raise fault("not-a-view", f"`{source_text(at)}` is {describe(found)}, not an array", at, "pass an array")
        return found

    def layout(self, name: str = "layout") -> Distribution | None:
        if name not in self.nodes:
            return None
        found = self.operand(name)
        if not isinstance(found, Distribution):
            at = self.nodes[name]
            hint = "name a distribution: `d = distribution(shape, lanes=..., values=...)`"
            raise fault("not-a-layout", f"`{source_text(at)}` is {describe(found)}, not a distribution", at, hint)
        with placed(self.node, self.nodes):
            check_threads(self.k.machine, found, name)
        return found

    def phase(self) -> tuple[str, Index]:
        """A barrier and its stage; a barrier of one stage needs no subscript."""
        found, at = self.operand("barrier"), self.nodes["barrier"]
        if not isinstance(found, Phased):
            hint = "name one declared at the top: `name = mbarrier(arrivals=1, stages=3, offset=...)`"
            raise fault("not-a-barrier", f"`{source_text(at)}` is {describe(found)}, not a barrier", at, hint)
        stages = self.k.machine.barriers[found.barrier].stages
        if found.stage is None and stages > 1:
            message, hint = f"`{found.barrier}` has {stages} stages", f"name one: `{found.barrier}[k_count % {stages}]`"
            raise fault("stage", message, at, hint, stages=stages)
        return found.barrier, index(0) if found.stage is None else found.stage

    def plain_position(self) -> tuple[ir.View, tuple[Index, ...]]:
        view, start, gathered = _place(self)
        if gathered is not None:
            hint = "use `gather` and `store_shared`, or `load_shared` and `scatter`"
            raise fault("gather-position", "copies take plain positions", self.nodes["position"], hint)
        return view, start

    def flag(self, name: str) -> bool:
        """A literal True or False; False where it is left out."""
        value = self.number(name) if name in self.nodes else False
        if not isinstance(value, bool):
            at = self.nodes[name]
            raise fault("not-a-literal", f"`{source_text(at)}` is not True or False", at, "write True or False")
        return value

    def dtype(self) -> str:
        found = self.operand("dtype")
        if not isinstance(found, DTypeName):
            at = self.nodes["dtype"]
            raise fault(
                "dtype-expected", f"`{source_text(at)}` is {describe(found)}, not a dtype", at, "write f32, bf16 ..."
            )
        return found.name

    def number(self, name: str) -> float | int | bool:
        value = literal(self.operand(name))
        if value is None:
            at = self.nodes[name]
            raise fault("not-a-literal", f"`{source_text(at)}` is not a literal", at, "write a number, True or False")
        return value

    def count(self, name: str, default: int) -> int:
        return integer(self.k, self.nodes[name]) if name in self.nodes else default

    def name(self, name: str) -> str:
        """A bare name or a string that could be one: names go into the emitted text."""
        at = self.nodes[name]
        if isinstance(at, ast.Name):
            return at.id
        if isinstance(at, ast.Constant) and isinstance(at.value, str) and at.value.isidentifier():
            return at.value
        raise fault("not-a-literal", f"`{source_text(at)}` is not a name", at, "write the plain name")

    @property
    def vector(self) -> int:
        return self.count("vector", 1)

    def emit(
        self, operation: dev.Operation, dtype: str | None = None, layout: Distribution | None = None
    ) -> dev.Fragment:
        return self.k.emit(operation, self.node, self.nodes, dtype, layout)

    def effect(self, statement: dev.Statement) -> None:
        self.k.effect(statement, self.node, self.nodes)

    @property
    def origin(self) -> ir.Origin:
        return ir.Origin(span_of(self.node))


def match(k: State, node: ast.Call) -> Matched:
    """Raises Fault for unknown words and arguments that do not fit."""
    if isinstance(node.func, ast.Attribute):
        raise unknown_attribute(node.func)
    if not isinstance(node.func, ast.Name):
        raise fault("call", f"`{source_text(node.func)}` cannot be called", node.func, "call a word by its name")
    if node.func.id not in WORDS2:
        if node.func.id in k.names or node.func.id in k.base.names:
            raise fault("call", f"`{node.func.id}` is not a word", node.func, "names of values cannot be called")
        raise k.unknown(node.func)
    word = EXPECT if node.func.id == EXPECT.name and len(node.args) + len(node.keywords) > 2 else WORDS2[node.func.id]
    nodes, rest = match_arguments(word, node)
    return Matched(k, word, node, nodes, rest)


_PLACES = {
    "statement": "it gives no value: write it on a line of its own",
    "loop": "it stands behind `for ... in`",
    "header": "it stands at the top of the kernel, in front of the grid",
}


def call(k: State, node: ast.Call) -> Operand:
    """A call that gives a value."""
    matched = match(k, node)
    if matched.word.where != "expression":
        raise misplaced(node, matched.word.name, _PLACES[matched.word.where])
    return VALUES[matched.word.name](matched)


# Making ------------------------------------------------------------------------------------------------


def _full(c: Matched) -> Operand:
    layout = c.layout()
    return c.emit(dev.Constant(c.number("value")), c.dtype(), layout)


def _scalar(c: Matched) -> Operand:
    return c.emit(dev.Constant(c.number("value")), c.dtype())


def _number(c: Matched) -> Operand:
    return c.emit(dev.FromIndex(index_of(c.k, c.nodes["index"])), c.dtype())


def _truth(c: Matched) -> Operand:
    return c.emit(dev.FromCondition(condition(c.k, c.nodes["condition"])))


def _coords(c: Matched) -> Operand:
    return c.emit(dev.Positions(index_of(c.k, c.nodes["start"])), layout=c.layout())


def _cast(c: Matched) -> Operand:
    return c.emit(dev.Pointwise("cast", (c.fragment("x"),)), c.dtype())


def _elementwise(c: Matched) -> Operand:
    nodes = list(c.nodes.values())
    parts = [evaluate(c.k, n) for n in nodes]
    if c.word.name in ("minimum", "maximum") and all(isinstance(p, Index) for p in parts):
        a, b = cast(list[Index], parts)
        return minimum(a, b) if c.word.name == "minimum" else maximum(a, b)
    return pointwise(c.k, c.word.name, parts, nodes, c.node)


def _cdiv(c: Matched) -> Operand:
    return cdiv(index_of(c.k, c.nodes["a"]), index_of(c.k, c.nodes["b"]))


# Memory ------------------------------------------------------------------------------------------------


def _place(c: Matched) -> tuple[ir.View, tuple[Index, ...], tuple[int, dev.Fragment] | None]:
    """The view, its start, and the gathered axis with its indices (its start is 0)."""
    view, at = c.view(), c.nodes["position"]
    nodes = at.elts if isinstance(at, ast.Tuple) else [at]
    start: list[Index] = []
    gathered: tuple[int, dev.Fragment] | None = None
    for axis, node in enumerate(nodes):
        found = evaluate(c.k, node)
        if isinstance(found, dev.Fragment) and gathered is None:
            gathered = (axis, found)
            found = index(0)
        if not isinstance(found, Index):
            hint = (
                "positions are index integers; one of them may be a rank-1 integer fragment in `gather` and `scatter`"
            )
            raise fault("position-not-index", f"`{source_text(node)}` is {describe(found)}", node, hint)
        if any(s.kind == "position" for s in found.symbols()):
            raise misplaced(node, "axis", "it stands inside `at=` of `view` only")
        start.append(found)
    return view, tuple(start), gathered


def _load(c: Matched) -> Operand:
    view, start, gathered = _place(c)
    if (gathered is not None) != (c.word.name == "gather"):
        other = "load" if gathered is None else "gather"
        message = "no position is a fragment" if gathered is None else "a position is a fragment"
        raise fault("gather-position", message, c.nodes["position"], f"write `{other}`")
    layout = c.layout()
    fill = c.number("fill")
    if gathered is None:
        return c.emit(dev.Load(view, start, fill, c.vector), layout=layout)
    return c.emit(dev.Gather(view, start, *gathered, fill, c.vector), layout=layout)


def _load_shared(c: Matched) -> Operand:
    source = c.stage("source")
    return c.emit(dev.LoadShared(source, c.vector), layout=c.layout())


def _store(c: Matched) -> None:
    view, start, gathered = _place(c)
    value, atomic = c.fragment("value"), c.word.name == "atomic_add"
    if gathered is not None and c.word.name != "store":
        if c.vector != 1:
            raise fault("access-run", "scattered elements do not lie side by side", c.nodes["vector"], "delete vector=")
        c.effect(dev.Scatter(view, start, *gathered, value, c.origin, atomic))
    elif gathered is None and c.word.name != "scatter":
        c.effect(dev.Store(view, start, value, c.origin, c.vector, atomic))
    else:
        message = "a position is a fragment" if gathered else "no position is a fragment"
        raise fault("gather-position", message, c.nodes["position"], f"write `{'scatter' if gathered else 'store'}`")


def _store_shared(c: Matched) -> None:
    target = c.stage("target")
    c.effect(dev.StoreShared(target, c.fragment("value"), c.origin, c.vector))


def _copy(c: Matched) -> None:
    target = c.stage("target")
    view, start = c.plain_position()
    layout = c.layout()
    assert layout is not None  # the signature demands it
    c.effect(dev.Copy(target, view, start, layout, c.vector, c.word.name == "copy_async", c.origin))


# Roles and bulk copies ---------------------------------------------------------------------------------


def _barrier_init(c: Matched) -> None:
    at = c.nodes["barrier"]
    found = c.operand("barrier")
    if not isinstance(found, Phased) or found.stage is not None:
        hint = "name a barrier declared with `mbarrier(...)`, without a stage"
        raise fault("not-a-barrier", f"`{source_text(at)}` is {describe(found)}", at, hint)
    c.effect(dev.BarrierInit(found.barrier, c.origin))


def _expect(c: Matched) -> None:
    if c.word is EXPECT:
        _expectation(c)
    else:
        c.effect(dev.Expect(*c.phase(), integer(c.k, c.nodes["bytes"]), c.origin))


def _expectation(c: Matched) -> None:
    """`expect(ring[s], (M, K), (i, k))`, or the elements of an array: `expect(ring[s], tag(a), (i, k))`."""
    value = _either(c, "x")
    label, at = c.operand("dims"), c.nodes["dims"]
    start = _start(c)
    if isinstance(label, ir.View):
        c.effect(dev.Expectation(value, (), start, c.origin, label))
    else:
        c.effect(dev.Expectation(value, _dims(label, at), start, c.origin))


def _tag(c: Matched) -> Operand:
    """A fragment with other labels; elements of an array have theirs already."""
    found = c.operand("x")
    if isinstance(found, ir.View) and len(c.nodes) == 1:
        return found
    if set(c.nodes) != {"x", "dims", "position"}:
        hint = "write `tag(v, (M, K), (i, k))` of a fragment, `tag(a)` of an array"
        raise fault("tag-dims", f"`{source_text(c.node)}` does not say which coordinates", c.node, hint)
    dims = _dims(c.operand("dims"), c.nodes["dims"])
    return c.emit(dev.Tag(c.fragment("x"), dims, _start(c)))


def _start(c: Matched) -> tuple[Index, ...]:
    found = indices_of(c.k, c.nodes["position"])
    if any(s.kind == "position" for at in found for s in at.symbols()):
        raise misplaced(c.nodes["position"], "axis", "it stands inside `at=` of `view` only")
    return found


def _dims(found: Operand, at: ast.expr) -> tuple[str, ...]:
    return tuple(dim_of(part, at) for part in (found if isinstance(found, tuple) else (found,)))


def _arrive(c: Matched) -> None:
    c.effect(dev.Arrive(*c.phase(), c.origin, c.flag("everywhere")))


def _wait(c: Matched) -> None:
    c.effect(dev.WaitPhase(*c.phase(), index_of(c.k, c.nodes["parity"]), c.origin))


def _copy_bulk(c: Matched) -> None:
    target = c.stage("target")
    view, start = c.plain_position()
    barrier, stage = c.phase()
    shape = _boxed(c, target)
    c.effect(dev.CopyBulk(target, view, start, shape, barrier, stage, c.origin, c.count("shared_by", 1)))


def _store_bulk(c: Matched) -> None:
    view, start = c.plain_position()
    source = c.stage("source")
    c.effect(dev.StoreBulk(source, view, start, _boxed(c, source), c.origin))


def _boxed(c: Matched, s: dev.Shared) -> tuple[int, ...]:
    """The tile's shape: that of the stage unless the text says another."""
    if "shape" in c.nodes:
        return integers(c.k, c.nodes["shape"])
    return tuple(c.k.machine.buffers[s.buffer].shape[a] for a in s.axes)


def _pending(record: Callable[[int, ir.Origin], dev.Statement]) -> Callable[[Matched], None]:
    return lambda c: c.effect(record(integer(c.k, c.nodes["pending"]), c.origin))


def _plain(record: Callable[[ir.Origin], dev.Statement]) -> Callable[[Matched], None]:
    return lambda c: c.effect(record(c.origin))


def _role_barrier(c: Matched) -> None:
    c.effect(dev.RoleBarrier(integer(c.k, c.nodes["number"]), c.origin))


def _turn(c: Matched) -> None:
    c.effect(dev.Turn(integer(c.k, c.nodes["number"]), c.word.name == "take_turn", c.origin))


# Reductions, shape, matrix -----------------------------------------------------------------------------


def _reduce(c: Matched) -> Operand:
    x, axis, word = c.fragment("x"), integer(c.k, c.nodes["axis"]), cast(Any, c.word.name)
    return c.emit(dev.ArgReduce(word, x, axis) if word in ("argmax", "argmin") else dev.Reduce(word, x, axis))


def _scan(c: Matched) -> Operand:
    word = c.name("op")
    if word not in ("sum", "max", "min", "prod"):
        raise fault("scan-op", f"`op={word}` is no prefix operation", c.nodes["op"], "write op=sum, prod, max or min")
    return c.emit(dev.Scan(cast(Any, word), c.fragment("x"), integer(c.k, c.nodes["axis"])))


def _mma(c: Matched) -> Operand:
    a, b = _either(c, "a"), _either(c, "b")
    return c.emit(dev.Mma(c.name("atom"), a, b, c.fragment("acc")))


def _either(c: Matched, name: str) -> dev.Fragment | dev.Shared:
    found = c.operand(name)
    if isinstance(found, (dev.Fragment, dev.Shared)):
        return found
    at = c.nodes[name]
    hint = "operands are fragments, or stages of a shared buffer"
    raise fault("not-a-fragment", f"`{source_text(at)}` is {describe(found)}", at, hint)


def _stretch(c: Matched) -> Operand:
    x = c.fragment("x")
    return c.emit(dev.Stretch(x), layout=c.layout())


def _expand(c: Matched) -> Operand:
    return c.emit(dev.Reindex("expand", (c.fragment("x"),), integers(c.k, c.nodes["axes"])))


def _permute(c: Matched) -> Operand:
    x = c.operand("x")
    return permute(c.k, x, integers(c.k, c.nodes["axes"]), c.node)


def _reshape(c: Matched) -> Operand:
    x = c.fragment("x")
    return c.emit(dev.Reindex("reshape", (x,)), layout=c.layout())


def _stack(c: Matched) -> Operand:
    parts = [evaluate(c.k, n) for n in c.rest]
    fragments = tuple(p for p in parts if isinstance(p, dev.Fragment))
    if len(fragments) < max(len(parts), 1):
        raise fault("not-a-fragment", f"`{source_text(c.node)}` stacks fragments only", c.node, "load the parts first")
    return c.emit(dev.Reindex("stack", fragments))


def _take(c: Matched) -> Operand:
    return c.emit(dev.Reindex("take", (c.fragment("x"),), (integer(c.k, c.nodes["position"]),)))


# Views -------------------------------------------------------------------------------------------------


def _view(c: Matched) -> Operand:
    """`view(x, (M, K), at=(axis(0) + lo, axis(1)), inside=((0, M), (0, K)))`."""
    name = c.nodes["array"]
    source = c.operand("array")
    if not isinstance(source, ir.View) or not isinstance(name, ast.Name):
        raise fault(
            "not-a-view", f"`{source_text(name)}` is {describe(source)}, not an array", name, "name a parameter"
        )
    lengths, coordinates = indices_of(c.k, c.nodes["shape"]), indices_of(c.k, c.nodes["at"])
    if len(coordinates) != len(source.axes):
        hint = f"give {len(source.axes)} coordinates, over axis(0) ..."
        message = f"`{source.array}` has rank {len(source.axes)}, `at` has {len(coordinates)} entries"
        raise fault("index-rank", message, c.nodes["at"], hint)
    inside = _inside(c, lengths)
    axes = tuple(ir.ViewAxis(n, lo, hi) for n, (lo, hi) in zip(lengths, inside, strict=True))
    return ir.View(source.array, source.dtype, axes, coordinates)


def _inside(c: Matched, lengths: tuple[Index, ...]) -> list[tuple[Index, Index]]:
    node = c.nodes.get("inside")
    if node is None:
        return [(index(0), n) for n in lengths]
    pairs = [indices_of(c.k, e) for e in node.elts] if isinstance(node, ast.Tuple) else []
    if len(pairs) != len(lengths) or any(len(p) != 2 for p in pairs):
        hint = "write one pair (lo, hi) for each axis"
        raise fault("index-rank", f"`{source_text(node)}` is not {len(lengths)} pairs", node, hint)
    return [(p[0], p[1]) for p in pairs]


def _axis(c: Matched) -> Operand:
    return index(ir.position(integer(c.k, c.nodes["number"])))


VALUES: dict[str, Callable[[Matched], Operand]] = {
    "full": _full, "scalar": _scalar, "number": _number, "truth": _truth, "coords": _coords, "cast": _cast,
    **dict.fromkeys(("where", "maximum", "minimum", "pow", "abs", *FLOAT_WORDS), _elementwise),
    "cdiv": _cdiv, "load": _load, "gather": _load, "load_shared": _load_shared,
    **dict.fromkeys((*REDUCTIONS, "argmax", "argmin"), _reduce),
    "scan": _scan, "mma": _mma, "stretch": _stretch, "expand": _expand, "permute": _permute, "reshape": _reshape,
    "stack": _stack, "take": _take, "view": _view, "axis": _axis, "tag": _tag,
}  # fmt: skip

EFFECTS: dict[str, Callable[[Matched], None]] = {
    "store": _store, "scatter": _store, "atomic_add": _store, "store_shared": _store_shared, "copy": _copy,
    "copy_async": _copy, "commit": _plain(dev.Commit), "wait_group": _pending(dev.WaitGroup),
    "barrier": _plain(dev.BlockBarrier),
    "barrier_init": _barrier_init, "fence_init": _plain(dev.FenceInit), "expect": _expect, "arrive": _arrive,
    "wait": _wait, "copy_bulk": _copy_bulk, "store_bulk": _store_bulk, "commit_bulk": _plain(dev.CommitBulk),
    "wait_bulk": _pending(dev.WaitBulk), "fence_async": _plain(dev.FenceAsync), "role_barrier": _role_barrier,
    "take_turn": _turn, "pass_turn": _turn,
    "cluster_barrier": _plain(dev.ClusterBarrier), "wgmma_fence": _plain(dev.WgmmaFence),
    "wgmma_commit": _plain(dev.WgmmaCommit), "wgmma_wait": _pending(dev.WgmmaWait),
}  # fmt: skip

__all__ = ["EFFECTS", "Matched", "call", "match"]
