"""A nest as C loops: vectors along the last long axis, masks only on its ends, partial sums in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.dtypes import identity
from kernelagent.dsl.index import Index
from kernelagent.dsl.lower.multiply import array_offset, buffer_offset
from kernelagent.dsl.lower.rewrite import output_expressions
from kernelagent.dsl.targets.cpu.ctypes_of import COMPUTED, literal
from kernelagent.dsl.targets.cpu.emit_element import Chunk, Elements, Lines, store_scalar, store_vector
from kernelagent.dsl.targets.cpu.emit_index import array_name, index_text, symbol_name
from kernelagent.dsl.targets.cpu.words import (
    COMBINE,
    NotVectorisable,
    scalar_cast,
    scalar_word,
    vector_kind,
    vector_word,
)

REDUCTION_COPIES = 4
"""Independent partial results of a reduction whose body is short: enough to hide the latency of an addition."""


@dataclass(frozen=True)
class Accumulator:
    """A reduction kept in registers: `level` is the loop depth at which it starts and ends."""

    output: sch.ReduceBuffer
    name: str
    level: int


def emit_nest(nest: sch.Nest, lanes: int, unit_stride: bool) -> list[str]:
    """C statements of a nest: on vectors if every expression has a vector form, else on scalars."""
    try:
        vector = vector_axis(nest)
        if vector is not None:
            return Emission(nest, vector, lanes, unit_stride).text()
    except NotVectorisable:
        pass
    return Emission(nest, None, 1, unit_stride).text()


def is_vectorisable(nest: sch.Nest, lanes: int, unit_stride: bool) -> bool:
    try:
        vector = vector_axis(nest)
        if vector is None:
            return False
        Emission(nest, vector, lanes, unit_stride).text()
    except NotVectorisable:
        return False
    return True


def vector_axis(nest: sch.Nest) -> int | None:
    """The last axis that is longer than one element."""
    long = [k for k, axis in enumerate(nest.axes) if axis.extent > 1]
    return long[-1] if long else None


class Emission:
    """One nest, one choice of vector axis. Loops run in axis order with the vector axis moved last."""

    def __init__(self, nest: sch.Nest, vector: int | None, lanes: int, unit_stride: bool) -> None:
        self.nest = nest
        self.lanes = lanes
        self.unit_stride = unit_stride
        order = [k for k in range(len(nest.axes)) if k != vector] + ([vector] if vector is not None else [])
        self.axes = [nest.axes[k] for k in order]
        self.vector = self.axes[-1].symbol if vector is not None else None
        self.depth = {axis.symbol.name: k + 1 for k, axis in enumerate(self.axes)}
        self.lines = Lines([[] for _ in range(len(self.axes) + 1)])
        self.accumulators = [a for k, o in enumerate(nest.outputs) if (a := self._accumulator(k, o))]
        self.in_memory = [o for o in nest.outputs if isinstance(o, sch.ReduceBuffer) and not self._named(o)]

    def _named(self, output: sch.ReduceBuffer) -> Accumulator | None:
        return next((a for a in self.accumulators if a.output is output), None)

    def _accumulator(self, k: int, output: sch.Output) -> Accumulator | None:
        """Registers hold a reduction over the innermost loops."""
        if not isinstance(output, sch.ReduceBuffer):
            return None
        kept = {s.name for c in output.coordinates for s in c.symbols()}
        levels = [self.depth[name] for name in kept if name in self.depth]
        level = max(levels, default=0)
        if level == len(self.axes) or len(levels) != level:
            return None
        return Accumulator(output, f"r{k}", level)

    # Text -------------------------------------------------------------------------------------------

    def text(self) -> list[str]:
        copies = self._copies()
        main = self._body(Chunk(self.vector), 0) if self.vector is not None else []
        unrolled = self._unrolled(copies) if copies > 1 else []
        tail = self._body(Chunk(self.vector, 0, "n"), 0) if self._has_tail() else []
        scalar = self._body(Chunk(None), 0) if self.vector is None else []
        inner = scalar or self._vector_loops(main, unrolled, tail, copies)
        return self._wrapped(inner, copies)

    def _unrolled(self, copies: int) -> list[list[str]]:
        """The copies of the body; stores of the tile before come first, all in one block (see lower/defer_store.py)."""
        late = tuple(o for o in self.nest.outputs if isinstance(o, sch.WriteArray) and o.via == "late")
        others = tuple(o for o in self.nest.outputs if o not in late)
        groups: list[tuple[sch.Output, ...]] = [late, others] if late else [others]
        return [self._body(Chunk(self.vector, u * self.lanes), u, outputs) for outputs in groups for u in range(copies)]

    def _has_tail(self) -> bool:
        if self.vector is None:
            return False
        axis = self.axes[-1]
        return not (axis.full and axis.extent % self.lanes == 0 and not self._streams())

    def _copies(self) -> int:
        """Unrolled copies of the body: for short reductions along the vector axis of enough length."""
        if self.vector is None:
            return 1
        if self.nest.unroll is not None:
            return min(self.nest.unroll, 8) if self.axes[-1].extent >= self.nest.unroll * self.lanes else 1
        along = [a for a in self.accumulators if self.vector is not None]
        if not along or self.axes[-1].extent < 2 * REDUCTION_COPIES * self.lanes:
            return 1
        operations = {id(e) for o in self.nest.outputs for e in output_expressions(o) if isinstance(e, sch.Apply)}
        return REDUCTION_COPIES if len(operations) <= 6 else 2

    def _streams(self) -> bool:
        return any(isinstance(o, sch.WriteArray) and o.via == "stream" for o in self.nest.outputs)

    def _body(self, chunk: Chunk, copy: int, outputs: Sequence[sch.Output] | None = None) -> list[str]:
        elements = Elements(self.lines, self.depth, chunk, self.unit_stride)
        outputs = self.nest.outputs if outputs is None else outputs
        for output in outputs:  # fused outputs read what stood in the buffers before the nest
            if isinstance(output, sch.WritePairs):
                elements.of(output.values[0])
                elements.of(output.values[1])
            elif not isinstance(output, sch.Prefetch):
                elements.of(output.value)
        for output in outputs:
            match output:
                case sch.WriteBuffer():
                    self._write_buffer(elements, output)
                case sch.ReduceBuffer():
                    self._reduce(elements, output, copy)
                case sch.WriteArray():
                    self._write_array(elements, output)
                case sch.WritePairs():
                    self._write_pairs(elements, output)
                case sch.Prefetch():
                    self._prefetch(elements, output)
        return elements.inner

    # Outputs ------------------------------------------------------------------------------------------

    def _write_buffer(self, elements: Elements, output: sch.WriteBuffer) -> None:
        address = buffer_offset(output.buffer, output.coordinates)
        name, dtype = output.buffer.name, output.buffer.dtype
        if not elements.varies(address):
            value = elements.of(output.value)
            if value.vector:
                raise NotVectorisable("a vector into one element")
            elements.inner.append(store_scalar(f"{name}[{index_text(address)}]", value.text, dtype))
            return
        value = elements.vector(output.value)
        pointer, stride = elements.pointer(name, address)
        padded = stride == "1" and self.axes[-1].lo.constant == 0
        count = None if padded else elements.chunk.count
        elements.inner.append(store_vector(pointer, stride, value.text, dtype, count))

    def _write_array(self, elements: Elements, output: sch.WriteArray) -> None:
        offset, checks, _ = elements.data_offset(output.array, output.coordinates)
        dtype = output.value.dtype
        value = elements.of(output.value)
        if output.add or not elements.varies(offset):
            if elements.chunk.vector is not None and (output.add or value.vector):
                raise NotVectorisable("one element at a time")
            target = f"{array_name(output.array)}[{elements.offset_text(offset)}]"
            text = (
                f"ka_add_{dtype}(&{target}, {value.text});" if output.add else store_scalar(target, value.text, dtype)
            )
        else:
            pointer, stride = elements.pointer(array_name(output.array), offset)
            held, count = elements.splat(value).text, elements.chunk.count
            whole = output.via == "late" and stride == "1" and not count
            stream = output.via == "stream"
            text = (
                f"vf_stream({pointer}, {held});" if whole else store_vector(pointer, stride, held, dtype, count, stream)
            )
        elements.inner.append(f"if ({' && '.join(checks)}) {text}" if checks else text)

    def _write_pairs(self, elements: Elements, output: sch.WritePairs) -> None:
        offset = array_offset(self.unit_stride, output.array, list(output.coordinates))
        name = array_name(output.array)
        if self.vector is None:
            even, odd = (elements.of(v).text for v in output.values)
            at = f"{name}[{index_text(offset)}]"
            step = array_offset(self.unit_stride, output.array, [*output.coordinates[:-1], output.coordinates[-1] + 1])
            elements.inner += [f"{at} = {even};", f"{name}[{index_text(step)}] = {odd};"]
            return
        pointer, stride = elements.pointer(name, offset)
        if stride != "2L":
            raise NotVectorisable("pairs that are not contiguous")
        even, odd = (elements.vector(v).text for v in output.values)
        if elements.chunk.count is None:
            elements.inner.append(f"vf_store_pairs({pointer}, {even}, {odd});")
        else:
            elements.inner.append(f"vf_store_strided_n({pointer}, 2, {even}, {elements.chunk.count});")
            elements.inner.append(f"vf_store_strided_n({pointer} + 1, 2, {odd}, {elements.chunk.count});")

    def _prefetch(self, elements: Elements, output: sch.Prefetch) -> None:
        """One line per vector, into L2: L1 holds the tile that is being computed."""
        offset = array_offset(self.unit_stride, output.array, list(output.coordinates))
        if elements.varies(offset) and elements.chunk.count is None:
            pointer, _ = elements.pointer(array_name(output.array), offset)
            elements.inner += [f"__builtin_prefetch({pointer}, 0, 2);", "ka_in_order();"]

    def _reduce(self, elements: Elements, output: sch.ReduceBuffer, copy: int) -> None:
        accumulator = self._named(output)
        word, dtype = COMBINE[output.word], output.buffer.dtype
        if accumulator is None:
            self._reduce_in_memory(elements, output)
            return
        name = f"{accumulator.name}_{copy}"
        if self.vector is None:
            value = elements.of(output.value).text
            elements.inner.append(
                f"{name} = {scalar_cast(scalar_word(word, [name, value], dtype, dtype), dtype, dtype)};"
            )
            return
        value = elements.vector(output.value).text
        combined = vector_word(word, [name, value], dtype, dtype)
        if elements.chunk.count:
            kind = vector_kind(dtype)
            combined = (
                f"vm_or(vm_and(vm_first(n), {combined}), vm_and(vm_not(vm_first(n)), {name}))"
                if kind == "vm"
                else f"{kind}_select(vm_first(n), {combined}, {name})"
            )
        elements.inner.append(f"{name} = {combined};")

    def _reduce_in_memory(self, elements: Elements, output: sch.ReduceBuffer) -> None:
        address = buffer_offset(output.buffer, output.coordinates)
        word, dtype, name = COMBINE[output.word], output.buffer.dtype, output.buffer.name
        if not elements.varies(address):
            if elements.chunk.vector is not None:
                raise NotVectorisable("a reduction into one element of memory")
            value = elements.of(output.value)
            element = f"{name}[{index_text(address)}]"
            elements.inner.append(f"{element} = {scalar_word(word, [element, value.text], dtype, dtype)};")
            return
        value = elements.vector(output.value)
        pointer, stride = elements.pointer(name, address)
        if stride != "1" or dtype not in ("f32", "i32"):
            raise NotVectorisable("a strided reduction")
        old = f"{vector_kind(dtype)}_load({pointer})"
        combined = vector_word(word, [old, value.text], dtype, dtype)
        padded = self.axes[-1].lo.constant == 0
        elements.inner.append(store_vector(pointer, stride, combined, dtype, None if padded else elements.chunk.count))

    # Loops ------------------------------------------------------------------------------------------------

    def _vector_loops(self, main: list[str], unrolled: list[list[str]], tail: list[str], copies: int) -> list[str]:
        assert self.vector is not None
        axis, x = self.axes[-1], symbol_name(self.vector)
        hi = index_text(axis.hi) if axis.hi.constant is not None else f"{x}_hi"
        text = [f"long {x} = {index_text(axis.lo)};"]
        lead = self._lead() if self._streams() else None
        body: list[str] = []
        if copies > 1:
            steps = [line for copy in unrolled for line in ("{", *copy, "}")]
            body += [f"for (; {x} + {copies * self.lanes} <= {hi}; {x} += {copies * self.lanes}) {{", *steps, "}"]
        body += [f"for (; {x} + {self.lanes} <= {hi}; {x} += {self.lanes}) {{", *main, "}"]
        if not tail:
            return text + body
        if lead is None:
            return [*text, *body, f"if ({x} < {hi}) {{ const long n = {hi} - {x};", *tail, "}"]
        return [
            *text,
            *self._own_end(),
            f"for (int part = 0; part < 2; ++part) {{ long n = ka_min({lead}, {hi} - {x});",
            "if (part) { {", *body, f"}} n = {hi} - {x}; }}",
            "if (n > 0) {", *tail, "}",
            f"{x} += n; }}",
        ]  # fmt: skip

    def _lead(self) -> str:
        """Lanes before the first whole vector of a streamed row."""
        return f"(stream ? ka_lead({self._streamed(self.axes[-1].lo)}) : 0)"

    def _own_end(self) -> list[str]:
        """Asks for the last line of a whole row; most pieces of rows end with a line of their own."""
        assert self.vector is not None
        stores = [o for o in self.nest.outputs if isinstance(o, sch.WriteArray) and o.via == "stream"]
        last = stores[0].coordinates[-1]
        if not isinstance(last, Index) or {s.name for s in last.symbols()} != {self.vector.name}:
            return []
        return [f"if (stream) ka_own_end({self._streamed(self.axes[-1].hi)});"]

    def _streamed(self, position: Index) -> str:
        """The address of a position in a streamed row."""
        assert self.vector is not None
        for output in self.nest.outputs:
            if isinstance(output, sch.WriteArray) and output.via == "stream":
                plain = [c for c in output.coordinates if isinstance(c, Index)]
                start = array_offset(self.unit_stride, output.array, plain)
                start = start.substitute({self.vector.name: position})
                return f"{array_name(output.array)} + {index_text(start)}"
        raise AssertionError

    def _wrapped(self, inner: list[str], copies: int) -> list[str]:
        """Loops around the innermost body, outside in; empty nests only leave identities."""
        depth = len(self.axes)
        body = inner
        for level in range(depth, -1, -1):
            here = [line for a in self.accumulators if a.level == level for line in self._start(a, copies)]
            done = [line for a in self.accumulators if a.level == level for line in self._finish(a, copies)]
            # the innermost level's own statements are part of `inner`
            body = [*self.lines.levels[level], *here, *body, *done]
            if level and not (level == depth and self.vector is not None):
                axis = self.axes[level - 1]
                x = symbol_name(axis.symbol)
                body = [f"for (long {x} = {index_text(axis.lo)}; {x} < {self._hi(axis)}; ++{x}) {{", *body, "}"]
        return ["{", *self._bounds(), *self._stream_flag(), *self._guarded(body), "}"]

    def _stream_flag(self) -> list[str]:
        names = [o.array for o in self.nest.outputs if isinstance(o, sch.WriteArray) and o.via == "stream"]
        return [f"const int stream = {streams_name(names[0])};"] if names else []

    def _hi(self, axis: sch.Axis) -> str:
        return index_text(axis.hi) if axis.hi.constant is not None else f"{symbol_name(axis.symbol)}_hi"

    def _bounds(self) -> list[str]:
        return [
            f"const long {symbol_name(a.symbol)}_hi = {index_text(a.hi)};" for a in self.axes if a.hi.constant is None
        ]

    def _guarded(self, body: list[str]) -> list[str]:
        """Values hoisted out of an empty loop must not be touched, but reductions of nothing have a value."""
        checks = [f"{index_text(a.lo)} < {self._hi(a)}" for a in self.axes if not a.full]
        start = [line for o in self.in_memory for line in self._identities(o)]
        if not checks:
            return [*start, *body]
        empty = [line for a in self.accumulators for line in self._identities(a.output)]
        otherwise = ["else {", *empty, "}"] if empty else []
        return [*start, f"if ({' && '.join(checks)}) {{", *body, "}", *otherwise]

    def _identities(self, output: sch.ReduceBuffer) -> list[str]:
        """Loops that set the result to the identity."""
        dtype = output.buffer.dtype
        kept = {s.name for c in output.coordinates for s in c.symbols()}
        value = literal(identity(output.word, dtype), dtype)
        address = index_text(buffer_offset(output.buffer, output.coordinates))
        text = [store_scalar(f"{output.buffer.name}[{address}]", value, dtype)]
        for axis in reversed([a for a in self.axes if a.symbol.name in kept]):
            x = symbol_name(axis.symbol)
            text = [f"for (long {x} = {index_text(axis.lo)}; {x} < {self._hi(axis)}; ++{x}) {{", *text, "}"]
        return text

    def _start(self, a: Accumulator, copies: int) -> list[str]:
        dtype = a.output.buffer.dtype
        value = literal(identity(a.output.word, dtype), dtype)
        if self.vector is None:
            return [f"{COMPUTED[dtype]} {a.name}_0 = {value};"]
        kind = vector_kind(dtype)
        splat = f"vm_first({value} ? KA_LANES : 0)" if kind == "vm" else f"{kind}_splat({value})"
        return [f"{kind} {a.name}_{u} = {splat};" for u in range(copies)]

    def _finish(self, a: Accumulator, copies: int) -> list[str]:
        dtype, output = a.output.buffer.dtype, a.output
        element = f"{output.buffer.name}[{index_text(buffer_offset(output.buffer, output.coordinates))}]"
        if self.vector is None:
            return [store_scalar(element, f"{a.name}_0", dtype)]
        names = [f"{a.name}_{u}" for u in range(copies)]
        while len(names) > 1:
            combined = vector_word(COMBINE[output.word], names[:2], dtype, dtype)
            names = [*names[2:], combined]
        return [store_scalar(element, horizontal(output.word, names[0], dtype), dtype)]


def streams_name(array: str) -> str:
    """The C flag that says whether stores to an array go around the caches in this call."""
    return f"streams_{array}"


def horizontal(word: str, text: str, dtype: str) -> str:
    kind = vector_kind(dtype)
    if kind == "vm":
        return f"vm_{'any' if word in ('any', 'max') else 'all'}({text})"
    return f"{kind}_h{word}({text})"
