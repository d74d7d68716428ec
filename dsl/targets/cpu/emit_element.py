"""Element expressions of a nest as C statements, each placed in the outermost loop where its operands are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import AllOf, Compare, Condition, Index, Negation, Symbol, condition_indices, index
from kernelagent.dsl.lower.multiply import array_offset, buffer_offset
from kernelagent.dsl.targets.cpu.ctypes_of import COMPUTED, LANE_FLOATS, literal
from kernelagent.dsl.targets.cpu.emit_index import array_name, condition_text, index_text, symbol_name
from kernelagent.dsl.targets.cpu.words import (
    NotVectorisable,
    scalar_cast,
    scalar_word,
    vector_cast,
    vector_kind,
    vector_word,
)

FAR = 1 << 30
"""Beyond every lane of a vector: a difference this large has the sign of all lanes, and they fit into int32."""


@dataclass(frozen=True)
class Piece:
    """A computed element: C text, the loop level where it lives, whether it is a vector."""

    text: str
    level: int
    vector: bool
    dtype: str


@dataclass
class Lines:
    """Statements by loop level (0: outside all loops), and the names made so far."""

    levels: list[list[str]]
    serial: int = 0
    memo: dict[object, Piece] = field(default_factory=dict)

    def fresh(self) -> str:
        self.serial += 1
        return f"t{self.serial}"


@dataclass
class Chunk:
    """How the vector axis is visited: `vector` is its symbol (None on scalars), the chunk starts at `start` lanes
    past it, and only `count` lanes (a C expression) exist if that is not None."""

    vector: Symbol | None
    start: int = 0
    count: str | None = None


class Elements:
    """Emits the expressions of one nest for one chunk form. Values that do not depend on the vector axis are shared
    between the forms of a nest through `lines.memo`."""

    def __init__(self, lines: Lines, depth: Mapping[str, int], chunk: Chunk, unit_stride: bool) -> None:
        self.lines = lines
        self.depth = depth
        self.innermost = max(depth.values(), default=0)
        self.chunk = chunk
        self.unit_stride = unit_stride
        self.inner: list[str] = []  # statements of this form of the innermost body
        self.memo: dict[object, Piece] = {}
        self.keys: dict[int, tuple[object, sch.Expression]] = {}

    # Names ----------------------------------------------------------------------------------------

    def level_of(self, *indices: Index) -> int:
        return max((self.depth.get(s.name, 0) for i in indices for s in i.symbols()), default=0)

    def varies(self, *indices: Index) -> bool:
        return self.chunk.vector is not None and any(self.chunk.vector in i.symbols() for i in indices)

    def place(self, ctype: str, text: str, level: int, vector: bool, dtype: str) -> Piece:
        name = self.lines.fresh()
        target = self.inner if level == self.innermost else self.lines.levels[level]
        target.append(f"const {ctype} {name} = {text};")
        return Piece(name, level, vector, dtype)

    def key(self, expression: sch.Expression) -> object:
        """Equal keys: equal elements."""
        known = self.keys.get(id(expression))
        if known is None:
            known = (self._key(expression), expression)
            self.keys[id(expression)] = known
        return known[0]

    def _key(self, expression: sch.Expression) -> object:
        match expression:
            case sch.Constant(value, dtype):
                return ("constant", repr(value), dtype)
            case sch.Position(position, dtype):
                return ("position", position, dtype)
            case sch.Truth(condition):
                return ("truth", condition)
            case sch.Parameter(name, dtype):
                return ("parameter", name, dtype)
            case sch.Read(buffer, coordinates, _):
                return ("read", buffer.name, coordinates)
            case sch.Fetch(array, coordinates, _, inside, fill):
                at = tuple(c if isinstance(c, Index) else self.key(c) for c in coordinates)
                return ("fetch", array, at, inside, repr(fill))
            case sch.Apply(word, arguments, dtype):
                return (word, tuple(self.key(a) for a in arguments), dtype)

    # Expressions ------------------------------------------------------------------------------------

    def of(self, expression: sch.Expression) -> Piece:
        key = self.key(expression)
        known = self.memo.get(key) or self.lines.memo.get(key)
        if known is None:
            known = self._emit(expression)
            shared = known.level < self.innermost
            (self.lines.memo if shared else self.memo)[key] = known
        return known

    def vector(self, expression: sch.Expression) -> Piece:
        """The element as a vector; one that does not vary is splatted where it is computed."""
        return self.splat(self.of(expression))

    def splat(self, piece: Piece) -> Piece:
        if piece.vector:
            return piece
        key = ("splat", piece.text, piece.dtype)
        memo = self.lines.memo if piece.level < self.innermost else self.memo
        if key not in memo:
            kind = vector_kind(piece.dtype)
            text = f"vm_first({piece.text} ? KA_LANES : 0)" if kind == "vm" else f"{kind}_splat({piece.text})"
            memo[key] = self.place(kind, text, piece.level, True, piece.dtype)
        return memo[key]

    def _emit(self, expression: sch.Expression) -> Piece:
        match expression:
            case sch.Constant(value, dtype):
                rounded = scalar_cast(literal(value, "f32"), "f32", dtype) if dtype in ("bf16", "f16") else None
                return Piece(rounded or literal(value, dtype), 0, False, dtype)
            case sch.Parameter(name, dtype):
                return Piece(f"s_{name}", 0, False, dtype)
            case sch.Position(position, dtype):
                return self._position(position, dtype)
            case sch.Truth(condition):
                return self._truth(condition)
            case sch.Read():
                return self._read(expression)
            case sch.Fetch():
                return self._fetch(expression)
            case sch.Apply():
                return self._apply(expression)

    def _position(self, position: Index, dtype: str) -> Piece:
        level = self.level_of(position)
        if not self.varies(position):
            return self.place(COMPUTED[dtype], scalar_cast(index_text(position), "i64", dtype), level, False, dtype)
        lanes = self._lanes(position)
        if dtype == "i32":
            return self.place("vi", lanes, level, True, dtype)
        if dtype == "f32":
            return self.place("vf", f"vf_from_vi({lanes})", level, True, dtype)
        raise NotVectorisable(f"positions as {dtype}")

    def _lanes(self, position: Index, signs: bool = False) -> str:
        """Positions of the lanes as a vector of int32. `signs`: only those matter, and scalars may be of any size."""
        assert self.chunk.vector is not None
        affine = position.affine(self.chunk.vector)
        factor = affine[0].constant if affine else None
        if factor is None:
            raise NotVectorisable(f"position {position}")
        first = index_text(self.shifted(position))
        if signs and any(s.kind == "param" for s in position.symbols()):
            first = f"ka_max(ka_min({first}, {FAR}L), -{FAR}L)"
        base = f"vi_splat((int32_t){first})"
        return f"({base} + vi_iota() * vi_splat({factor}))" if factor != 1 else f"({base} + vi_iota())"

    def shifted(self, position: Index) -> Index:
        """The position of lane 0 of this chunk."""
        if not self.chunk.start or self.chunk.vector is None:
            return position
        return position.substitute({self.chunk.vector.name: index(self.chunk.vector) + self.chunk.start})

    def _truth(self, condition: Condition) -> Piece:
        indices = tuple(condition_indices(condition))
        level = self.level_of(*indices)
        if not self.varies(*indices):
            return self.place("int", condition_text(condition), level, False, "bool")
        return self.place("vm", self._mask(condition), level, True, "bool")

    def _mask(self, condition: Condition) -> str:
        match condition:
            case Compare(relation, a, b):
                word = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}[relation]
                if not self.varies(a, b):
                    return f"vm_first({condition_text(condition)} ? KA_LANES : 0)"
                return f"vi_{word}({self._lanes(a - b, signs=True)}, vi_splat(0))"
            case Negation(part):
                return f"vm_not({self._mask(part)})"
            case AllOf(parts) if parts:
                text = self._mask(parts[0])
                for part in parts[1:]:
                    text = f"vm_and({text}, {self._mask(part)})"
                return text
            case _:
                raise NotVectorisable("condition")

    def _apply(self, apply: sch.Apply) -> Piece:
        pieces = [self.of(a) for a in apply.arguments]
        level = max(p.level for p in pieces)
        source = apply.arguments[-1].dtype
        if not any(p.vector for p in pieces):
            return self.place(COMPUTED[apply.dtype], scalar_apply(apply, pieces, source), level, False, apply.dtype)
        vectors = [self.splat(p).text for p in pieces]
        if apply.word == "where":
            text = vector_where(vectors, apply.dtype)
        elif apply.word == "cast":
            text = vector_cast(vectors[0], source, apply.dtype)
        else:
            text = vector_word(apply.word, vectors, apply.dtype, source)
        return self.place(vector_kind(apply.dtype), text, level, True, apply.dtype)

    # Memory ----------------------------------------------------------------------------------------------

    def _read(self, read: sch.Read) -> Piece:
        address = buffer_offset(read.buffer, read.coordinates)
        level = self.level_of(address)
        if not self.varies(address):
            text = load_scalar(f"{read.buffer.name}[{index_text(address)}]", read.dtype)
            return self.place(COMPUTED[read.dtype], text, level, False, read.dtype)
        pointer, stride = self.pointer(read.buffer.name, address)
        text = load_vector(pointer, stride, read.dtype, None if stride == "1" else self.chunk.count)
        return self.place(vector_kind(read.dtype), text, level, True, read.dtype)

    def _fetch(self, fetch: sch.Fetch) -> Piece:
        offset, checks, data_level = self.data_offset(fetch.array, fetch.coordinates)
        plain = [b for b in fetch.inside if not self.varies(b.index)]
        lanes = [b for b in fetch.inside if self.varies(b.index)]
        checks += [
            f"{index_text(b.lo)} <= {index_text(b.index)} && {index_text(b.index)} < {index_text(b.hi)}" for b in plain
        ]
        level = max(data_level, self.level_of(offset, *(b.index for b in fetch.inside)))
        if self.varies(offset):
            return self._fetch_vector(fetch, offset, checks, lanes, level)
        if lanes:
            raise NotVectorisable("a bound on the lanes of one element")
        element = load_scalar(f"{array_name(fetch.array)}[{self.offset_text(offset)}]", fetch.dtype)
        text = f"({' && '.join(checks)}) ? {element} : {literal_of(fetch.fill, fetch.dtype)}" if checks else element
        return self.place(COMPUTED[fetch.dtype], text, level, False, fetch.dtype)

    def _fetch_vector(
        self, fetch: sch.Fetch, offset: Index, checks: list[str], lanes: list[sch.Bound], level: int
    ) -> Piece:
        pointer, stride = self.pointer(array_name(fetch.array), offset)
        kind = vector_kind(fetch.dtype)
        if not checks and not lanes:
            text = load_vector(pointer, stride, fetch.dtype, self.chunk.count)
            return self.place(kind, text, level, True, fetch.dtype)
        if stride != "1" or fetch.dtype not in ("f32", "i32"):
            raise NotVectorisable("a bounded fetch that is not contiguous")
        lo, hi = self._lane_range(lanes)
        if checks:
            hi = f"(({' && '.join(checks)}) ? {hi} : 0)"
        fill = f"{kind}_splat({literal(fetch.fill, fetch.dtype)})"
        return self.place(kind, f"{kind}_load_mask({pointer}, vm_range({lo}, {hi}), {fill})", level, True, fetch.dtype)

    def _lane_range(self, bounds: list[sch.Bound]) -> tuple[str, str]:
        lo, hi = "0L", self.chunk.count or "KA_LANES"
        for bound in bounds:
            assert self.chunk.vector is not None
            affine = bound.index.affine(self.chunk.vector)
            if affine is None or affine[0].constant != 1:
                raise NotVectorisable("a bound that is not on consecutive lanes")
            start = self.shifted(bound.index)
            lo = f"ka_max({lo}, {index_text(bound.lo - start)})"
            hi = f"ka_min({hi}, {index_text(bound.hi - start)})"
        return lo, hi

    def data_offset(self, array: str, coordinates: tuple[Index | sch.Expression, ...]) -> tuple[Index, list[str], int]:
        """Offset in elements, checks that data coordinates are in range, and the level where those are known.

        A data coordinate enters the offset as a symbol that stands for the C variable which holds it.
        """
        plain: list[Index] = []
        checks: list[str] = []
        level = 0
        for axis, coordinate in enumerate(coordinates):
            if isinstance(coordinate, Index):
                plain.append(coordinate)
                continue
            piece = self.of(coordinate)
            if piece.vector:
                raise NotVectorisable("a position per lane")
            held = self.place("long", f"(long){piece.text}", piece.level, False, "i64")
            checks.append(f"0 <= {held.text} && {held.text} < {dim_name(array, axis)}")
            level = max(level, piece.level)
            plain.append(index(Symbol(f"={held.text}", "position")))
        return array_offset(self.unit_stride, array, plain), checks, level

    def offset_text(self, offset: Index) -> str:
        return index_text(offset).replace("x_t", "t")

    def pointer(self, base: str, offset: Index) -> tuple[str, str]:
        """Address of lane 0 and the stride between lanes. The part that all chunks share is computed outside."""
        assert self.chunk.vector is not None
        affine = offset.affine(self.chunk.vector)
        if affine is None:
            raise NotVectorisable(f"address {offset}")
        factor, rest = affine
        if self.level_of(factor) or not rest_is_outer(rest, self.depth, self.innermost):
            start = self.offset_text(self.shifted(offset))
            return f"({base} + {start})", index_text(factor) if factor.constant != 1 else "1"
        row = self._row_pointer(base, rest)
        step = index_text(factor * index(self.chunk.vector) + factor * self.chunk.start)
        return f"({row} + {step})", "1" if factor.constant == 1 else index_text(factor)

    def _row_pointer(self, base: str, rest: Index) -> str:
        key = ("row", base, rest)
        if key not in self.lines.memo:
            name = self.lines.fresh()
            level = self.level_of(rest)
            text = self.offset_text(rest)
            if any(s.name.startswith("=") for s in rest.symbols()):
                return f"({base} + {text})"
            self.lines.levels[level].append(f"__typeof__({base}) {name} = {base} + {text};")
            self.lines.memo[key] = Piece(name, level, False, "pointer")
        return self.lines.memo[key].text


def rest_is_outer(rest: Index, depth: Mapping[str, int], innermost: int) -> bool:
    return all(depth.get(s.name, 0) < innermost for s in rest.symbols())


def dim_name(array: str, axis: int) -> str:
    return symbol_name(Symbol(f"{array}.dim{axis}", "param"))


def literal_of(value: float | int | bool, dtype: str) -> str:
    rounded = dtype in ("bf16", "f16")
    return scalar_cast(literal(value, "f32"), "f32", dtype) if rounded else literal(value, dtype)


def load_scalar(element: str, dtype: str) -> str:
    if dtype in ("bf16", "f16"):
        return f"f32_from_{dtype}({element})"
    return f"({element} != 0)" if dtype == "bool" else element


def store_scalar(element: str, value: str, dtype: str) -> str:
    stored = f"{dtype}_from_f32({value})" if dtype in ("bf16", "f16") else value
    return f"{element} = {stored};"


def load_vector(pointer: str, stride: str, dtype: str, count: str | None) -> str:
    """`count` lanes (None: all) from memory."""
    if stride != "1":
        if dtype != "f32":
            raise NotVectorisable(f"strided {dtype}")
        if stride == "2L" and not count:
            return f"vf_load_step2({pointer})"
        return (
            f"vf_load_strided_n({pointer}, {stride}, {count}, 0.0f)"
            if count
            else f"vf_load_strided({pointer}, {stride})"
        )
    if dtype in LANE_FLOATS:
        name, zero = "vf_load" if dtype == "f32" else f"vf_load_{dtype}", "0.0f"
    else:
        name, zero = "vi_load" if dtype == "i32" else f"vi_load_{'u8' if dtype == 'bool' else dtype}", "0"
    vector_kind(dtype)
    text = f"{name}_n({pointer}, {count}, {zero})" if count else f"{name}({pointer})"
    return f"vm_from_vi({text})" if dtype == "bool" else text


def store_vector(pointer: str, stride: str, value: str, dtype: str, count: str | None, stream: bool = False) -> str:
    if stride != "1":
        if dtype != "f32":
            raise NotVectorisable(f"strided {dtype}")
        return (
            f"vf_store_strided_n({pointer}, {stride}, {value}, {count});"
            if count
            else f"vf_store_strided({pointer}, {stride}, {value});"
        )
    if dtype in LANE_FLOATS:
        name = "vf_store" if dtype == "f32" else f"vf_store_{dtype}"
    else:
        vector_kind(dtype)
        name = "vi_store" if dtype == "i32" else f"vi_store_{'i16' if dtype == 'i16' else 'i8'}"
    held = f"vi_from_mask({value})" if dtype == "bool" else value
    if stream and not count:
        return f"if (stream) vf_stream({pointer}, {held}); else vf_store({pointer}, {held});"
    return f"{name}_n({pointer}, {held}, {count});" if count else f"{name}({pointer}, {held});"


def scalar_apply(apply: sch.Apply, pieces: list[Piece], source: str) -> str:
    texts = [p.text for p in pieces]
    if apply.word == "where":
        return f"({texts[0]} ? {texts[1]} : {texts[2]})"
    if apply.word == "cast":
        return scalar_cast(texts[0], source, apply.dtype)
    return scalar_word(apply.word, texts, apply.dtype, source)


def vector_where(vectors: list[str], dtype: str) -> str:
    kind = vector_kind(dtype)
    condition, a, b = vectors
    if kind == "vm":
        return f"vm_or(vm_and({condition}, {a}), vm_and(vm_not({condition}), {b}))"
    return f"{kind}_select({condition}, {a}, {b})"
