"""Operations and effects as calls and operators of level two."""

from __future__ import annotations

from collections.abc import Callable

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.text import condition_text, index_text, indices_text, number_text, tuple_text, view_text
from kernelagent.dsl.level2.words import SIGNS

_PREFIX = {"neg": "-", "not": "~"}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_CALL = 8
_TIGHTNESS = {
    **dict.fromkeys(_COMPARISONS, 1), "or": 2, "xor": 3, "and": 4, "shl": 5, "shr": 5, "add": 6, "sub": 6,
    **dict.fromkeys(("mul", "div", "floordiv", "mod"), 7), "neg": _CALL, "not": _CALL,
}  # fmt: skip
"""How tightly Python's operators bind; calls and names bind tightest."""


class Expressions:
    """Texts of one kernel's expressions; fragments in `nested` are written where they are read."""

    def __init__(self, kernel: dev.DeviceKernel, nested: frozenset[int], layout: Callable[[Distribution], str]) -> None:
        lets = (s for s in dev.statements(kernel) if isinstance(s, dev.Let))
        self.inside = {s.fragment.number: s for s in lets if s.fragment.number in nested}
        self.arrays = {a.name: a for a in kernel.arrays}
        self.buffers = {b.name: b for b in kernel.buffers}
        self.barriers = {b.name: b for b in kernel.barriers}
        self.layout = layout

    def operand(self, x: dev.Fragment) -> str:
        """Its name, or the expression in its place, as an argument of a call."""
        let = self.inside.get(x.number)
        return x.name if let is None else self.operation(let.fragment, let.operation)

    def factor(self, x: dev.Fragment, outer: int) -> str:
        """As an operand of an operator: in parentheses unless it binds at least as tightly as `outer`."""
        let = self.inside.get(x.number)
        if let is None or not isinstance(let.operation, dev.Pointwise):
            return self.operand(x)
        tight = _TIGHTNESS.get(let.operation.word, _CALL) >= outer
        return self.operand(x) if tight else f"({self.operand(x)})"

    def operation(self, x: dev.Fragment, operation: dev.Operation) -> str:
        match operation:
            case dev.Constant(value):
                text = number_text(value)
                return f"full({self.on(x)}, {text}, {x.dtype})" if x.shape else f"scalar({text}, {x.dtype})"
            case dev.FromIndex(index):
                return f"number({index_text(index)}, {x.dtype})"
            case dev.FromCondition(condition):
                return f"truth({condition_text(condition)})"
            case dev.Parameter(name):
                return name
            case dev.Positions(start):
                return f"coords({index_text(start)}, {self.on(x)})"
            case dev.Load(view, start, fill, vector):
                return f"load({self.place(view, start)}{self.also(x)}, fill={number_text(fill)}{_vector(vector)})"
            case dev.Gather(view, start, axis, indices, fill, vector):
                place = self.place(view, start, axis, indices)
                return f"gather({place}, {self.on(x)}, fill={number_text(fill)}{_vector(vector)})"
            case dev.LoadShared(source, vector):
                return f"load_shared({self.stage(source)}, {self.on(x)}{_vector(vector)})"
            case dev.Pointwise():
                return self.pointwise(x, operation)
            case dev.Stretch(source):
                return f"stretch({self.operand(source)}, {self.on(x)})"
            case dev.Reindex():
                return self.reindex(x, operation)
            case dev.Reduce(word, source, axis) | dev.ArgReduce(word, source, axis):
                return f"{word}({self.operand(source)}, axis={axis})"
            case dev.Scan(word, source, axis):
                return f"scan({self.operand(source)}, axis={axis}, op={word})"
            case dev.Mma(atom, a, b, acc):
                return f"mma({self.either(a)}, {self.either(b)}, {self.operand(acc)}, atom={atom})"
            case dev.Tag(source, dims, start):
                return f"tag({self.operand(source)}, {tuple_text(dims)}, {indices_text(start)})"

    def on(self, x: dev.Fragment) -> str:
        assert x.layout is not None  # ranks above 0
        return self.layout(x.layout)

    def also(self, x: dev.Fragment) -> str:
        return f", {self.on(x)}" if x.layout is not None else ""

    def either(self, x: dev.Fragment | dev.Shared) -> str:
        return self.operand(x) if isinstance(x, dev.Fragment) else self.stage(x)

    # Pointwise and renaming ------------------------------------------------------------------------

    def pointwise(self, x: dev.Fragment, o: dev.Pointwise) -> str:
        if o.word in SIGNS:
            tight = _TIGHTNESS[o.word]
            left, right = self.arguments(o, (tight + (o.word in _COMPARISONS), tight + 1))
            return f"{left} {SIGNS[o.word]} {right}"
        if o.word in _PREFIX:
            return _PREFIX[o.word] + self.factor(o.arguments[0], _TIGHTNESS[o.word])
        texts = self.arguments(o, (0,) * len(o.arguments))
        return f"{o.word}({', '.join([*texts, x.dtype] if o.word == 'cast' else texts)})"

    def arguments(self, o: dev.Pointwise, outer: tuple[int, ...]) -> list[str]:
        """Constants as plain literals where the parser computes them in the same order and knows their dtype."""
        first = 1 if o.word == "where" else 0
        literals = [self.literal(a) if n >= first else None for n, a in enumerate(o.arguments)]
        if o.word == "cast" or all(t is not None for t in literals[first:]):
            literals[first] = None
        texts: list[str] = []
        for n, a in enumerate(o.arguments):
            later = zip(o.arguments[n + 1 :], literals[n + 1 :], strict=True)
            plain = all(b.number not in self.inside or text is not None for b, text in later)
            literal = literals[n]
            texts.append(literal if literal is not None and plain else self.factor(a, outer[n]))
        return texts

    def literal(self, x: dev.Fragment) -> str | None:
        let = self.inside.get(x.number)
        if let is not None and isinstance(let.operation, dev.Constant):
            return number_text(let.operation.value)
        return None

    def reindex(self, x: dev.Fragment, o: dev.Reindex) -> str:
        first = self.factor(o.parts[0], _CALL + 1)
        match o.kind:
            case "expand":
                entries = ["None" if axis in o.arguments else ":" for axis in range(len(x.shape))]
                return f"{first}[{', '.join(entries)}]"
            case "permute" if o.arguments == (1, 0):
                return f"{first}.T"
            case "permute":
                return f"permute({self.operand(o.parts[0])}, {tuple_text(map(str, o.arguments))})"
            case "reshape":
                return f"reshape({self.operand(o.parts[0])}{self.also(x)})"
            case "stack":
                return f"stack({', '.join(map(self.operand, o.parts))})"
            case "take":
                return f"take({self.operand(o.parts[0])}, {o.arguments[0]})"

    # Memory ----------------------------------------------------------------------------------------

    def place(
        self, view: ir.View, start: tuple[Index, ...], axis: int | None = None, indices: dev.Fragment | None = None
    ) -> str:
        """`view, (i, j)`, with a fragment as the position of the gathered axis."""
        parts = [index_text(i) for i in start]
        if axis is not None and indices is not None:
            parts[axis] = self.operand(indices)
        return f"{view_text(view, self.arrays[view.array])}, {tuple_text(parts)}"

    def stage(self, s: dev.Shared) -> str:
        single = self.buffers[s.buffer].stages == 1 and s.stage.constant == 0
        text = s.buffer if single else f"{s.buffer}[{index_text(s.stage)}]"
        if s.axes == tuple(range(len(s.axes))):
            return text
        return f"{text}.T" if s.axes == (1, 0) else f"permute({text}, {tuple_text(map(str, s.axes))})"

    def effect(self, statement: dev.Statement) -> str:
        match statement:
            case dev.Store(view, start, value, _, vector, atomic):
                word = "atomic_add" if atomic else "store"
                return f"{word}({self.place(view, start)}, {self.operand(value)}{_vector(vector)})"
            case dev.Scatter(view, start, axis, indices, value, _, atomic):
                word = "atomic_add" if atomic else "scatter"
                return f"{word}({self.place(view, start, axis, indices)}, {self.operand(value)})"
            case dev.StoreShared(target, value, _, vector):
                return f"store_shared({self.stage(target)}, {self.operand(value)}{_vector(vector)})"
            case dev.Copy(target, view, start, layout, vector, asynchronous):
                word = "copy_async" if asynchronous else "copy"
                where = f"{self.stage(target)}, {self.place(view, start)}, {self.layout(layout)}"
                return f"{word}({where}{_vector(vector)})"
            case dev.Commit():
                return "commit()"
            case dev.WaitGroup(pending):
                return f"wait_group({pending})"
            case dev.BlockBarrier():
                return "barrier()"
            case dev.Expectation(value, dims, start, _, view):
                label = tuple_text(dims) if view is None else f"tag({view_text(view, self.arrays[view.array])})"
                return f"expect({self.either(value)}, {label}, {indices_text(start)})"
            case _:
                return self.bulk(statement)

    # Hopper ----------------------------------------------------------------------------------------

    def bulk(self, statement: dev.Statement) -> str:
        match statement:
            case dev.BarrierInit(barrier):
                return f"barrier_init({barrier})"
            case dev.Expect(barrier, stage, count):
                return f"expect({self.phase(barrier, stage)}, {count})"
            case dev.Arrive(barrier, stage, _, everywhere):
                return f"arrive({self.phase(barrier, stage)}{', everywhere=True' if everywhere else ''})"
            case dev.WaitPhase(barrier, stage, parity):
                return f"wait({self.phase(barrier, stage)}, {index_text(parity)})"
            case dev.CopyBulk(target, view, start, shape, barrier, stage, _, shared_by):
                where = f"{self.stage(target)}, {self.place(view, start)}, {self.phase(barrier, stage)}"
                also = f", shared_by={shared_by}" if shared_by != 1 else ""
                return f"copy_bulk({where}{self.boxed(target, shape)}{also})"
            case dev.StoreBulk(source, view, start, shape):
                return f"store_bulk({self.place(view, start)}, {self.stage(source)}{self.boxed(source, shape)})"
            case dev.WaitBulk(pending):
                return f"wait_bulk({pending})"
            case dev.RoleBarrier(number):
                return f"role_barrier({number})"
            case dev.Turn(number, begins):
                return f"{'take' if begins else 'pass'}_turn({number})"
            case dev.WgmmaWait(pending):
                return f"wgmma_wait({pending})"
        return f"{_PLAIN[type(statement)]}()"  # lets, loops and branches are printed by the caller

    def phase(self, barrier: str, stage: Index) -> str:
        single = self.barriers[barrier].stages == 1 and stage.constant == 0
        return barrier if single else f"{barrier}[{index_text(stage)}]"

    def boxed(self, s: dev.Shared, shape: tuple[int, ...]) -> str:
        """The tile's shape where it is not that of the stage."""
        stage = tuple(self.buffers[s.buffer].shape[a] for a in s.axes)
        return "" if shape == stage else f", shape={tuple_text(map(str, shape))}"


_PLAIN: dict[type[dev.Statement], str] = {
    dev.FenceInit: "fence_init", dev.CommitBulk: "commit_bulk", dev.FenceAsync: "fence_async",
    dev.ClusterBarrier: "cluster_barrier", dev.WgmmaFence: "wgmma_fence", dev.WgmmaCommit: "wgmma_commit",
}  # fmt: skip


def _vector(vector: int) -> str:
    return f", vector={vector}" if vector != 1 else ""
