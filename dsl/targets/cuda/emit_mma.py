"""Products: operands fetched fragment by fragment, one k step at a time, then all matrix instructions of the step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import Atom, Fetch, atom, fetch
from kernelagent.dsl.atoms.fetch import Side
from kernelagent.dsl.lanes import WARP, Distribution, DistributionError, Mode, drop, same, tiled
from kernelagent.dsl.targets.cuda.accumulate import accumulate_into
from kernelagent.dsl.targets.cuda.body import Body, Place, registers, require_same
from kernelagent.dsl.targets.cuda.emit_hopper import emit_wgmma
from kernelagent.dsl.targets.cuda.emit_shared import SharedAddress, pitches
from kernelagent.dsl.targets.cuda.emit_words import CTYPES, cast, word_text
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    Part,
    Terms,
    coordinate_terms,
    follow,
    identity,
)

ROWS, COLUMNS = 0, 1


def emit_mma(body: Body, let: dev.Let) -> None:
    operation, fragment = let.operation, let.fragment
    assert isinstance(operation, dev.Mma)
    require_same(fragment.layout, operation.acc.layout, f"{fragment.name}: accumulator")
    result = accumulate_into(body, let)
    if operation.atom.startswith("fma"):
        _emit_fma(body, operation, fragment, result)
    elif operation.atom.startswith("wgmma"):
        emit_wgmma(body, operation, fragment, result)
    else:
        _Product(body, operation, fragment, result).emit()


def warp_grid(layout: Distribution, unit: Distribution, threads: int) -> tuple[int, int]:
    """How many warps share the rows and the columns of a tile that is tiled by an atom's result."""
    warps = threads // WARP
    for rows in (r for r in range(1, warps + 1) if warps % r == 0):
        try:
            if same(tiled(unit, layout.shape, (rows, warps // rows)), layout):
                return rows, warps // rows
        except DistributionError:
            continue
    raise LayoutMismatch(f"an accumulator {layout} that no grid of {warps} warps makes of {unit}")


@dataclass(frozen=True)
class _Operand:
    """One operand's registers for a k step: `count` an atom, `repeats` atoms along m or n, in the array `name`."""

    name: str
    side: Side
    count: int
    repeats: int
    axis: int  # along which atoms repeat
    variable: str


class _Product:
    def __init__(self, body: Body, operation: dev.Mma, fragment: dev.Fragment, result: str) -> None:
        assert fragment.layout is not None
        self.body, self.operation, self.result = body, operation, result
        self.atom: Atom = atom(operation.atom)
        unit = self.atom.operand("d").layout
        assert unit is not None
        self.rows, self.columns = warp_grid(fragment.layout, unit, body.kernel.threads)
        self.shape = fragment.layout.shape
        m, n, self.k = (int(e) for e in self.atom.shape)
        self.steps = _reach(body, operation.a)[1] // self.k
        self.a = self._operand("a", self.shape[0] // (self.rows * m), ROWS, "i")
        self.b = self._operand("b", self.shape[1] // (self.columns * n), COLUMNS, "j")

    def _operand(self, side: Side, repeats: int, axis: int, variable: str) -> _Operand:
        count = self.atom.operand(side).count
        assert count is not None
        return _Operand(self.body.fresh(side), side, count, repeats, axis, variable)

    def warps(self, side: Side) -> tuple[Mode, Mode]:
        """Thread digits beyond the warp in an operand's coordinates."""
        if side == "a":
            return Mode(self.columns, -1, 0), Mode(self.rows, ROWS, self.shape[0] // self.rows)
        return Mode(self.columns, COLUMNS, self.shape[1] // self.columns), Mode(self.rows, -1, 0)

    def emit(self) -> None:
        a = _Supply(self, self.operation.a, self.a)
        b = _Supply(self, self.operation.b, self.b)
        out = self.body.out
        with out.block(f"KA_UNROLL for (int k = 0; k < {self.steps}; ++k)"):
            a.emit()
            b.emit()
            out.put(f"KA_UNROLL for (int i = 0; i < {self.a.repeats}; ++i)")
            with out.block(f"KA_UNROLL for (int j = 0; j < {self.b.repeats}; ++j)"):
                into = f"{self.result} + (i * {self.b.repeats} + j) * 4"
                factors = f"{self.a.name} + i * {self.a.count}, {self.b.name} + j * {self.b.count}"
                out.put(f"ka_{self.atom.name}({into}, {factors});")


class _Supply:
    """Fills the registers of one operand for the current k step; addresses are made before the loop over k."""

    def __init__(self, product: _Product, source: dev.Fragment | dev.Shared, operand: _Operand) -> None:
        self.product, self.operand, self.source = product, operand, source
        self.body = product.body
        if isinstance(source, dev.Fragment):
            self._require_layout(source)
            self.held = self.body.held(source)
            return
        buffer = self.body.kernel.buffer(source.buffer)
        k_axis = 1 if operand.side == "a" else 0
        contiguous = source.axes[k_axis] == len(buffer.shape) - 1
        wide = operand.side == "b" and operand.repeats % 2 == 0
        self.way: Fetch = fetch(product.atom, operand.side, contiguous, wide)
        self.weights = pitches(buffer, source.axes)
        self._require_rows(buffer)
        layout = self.unit()
        lanes = self.way.rows if self.way.rows else layout.lanes
        self.address = SharedAddress(
            self.body, source, (*lanes, *product.warps(operand.side)), [*self._steps(self.way), *self._elements(None)]
        )

    def unit(self) -> Distribution:
        layout = self.product.atom.operand(self.operand.side).layout
        assert layout is not None
        return layout

    def _require_layout(self, source: dev.Fragment) -> None:
        """The fragment is the atom's operand repeated over the warp's rows or columns; other warps hold copies."""
        unit = self.unit()
        inner = tiled(unit, _per_warp(source.shape, self.product, self.operand), (1, 1))
        lanes = (*unit.lanes, *self.product.warps(self.operand.side))
        wanted = Distribution(source.shape, lanes, inner.values)
        require_same(wanted, source.layout, f"operand {source.name} of {self.product.atom.name}")

    def _require_rows(self, buffer: dev.SharedBuffer) -> None:
        """ldmatrix reads rows of 16 aligned bytes."""
        if not self.way.rows:
            return
        size = min(w for w in self.weights.values())
        bad_pitch = any(w % 16 for w in self.weights.values() if w != size)
        bad_swizzle = buffer.swizzle is not None and (size << buffer.swizzle.base) % 16
        if bad_pitch or bad_swizzle or buffer.offset % 16:
            raise LayoutMismatch(f"{buffer.name}: 16-byte rows of ldmatrix are not aligned or not whole")

    def _steps(self, way: Fetch) -> list[Part]:
        """How far the k step and the repetition move."""
        operand, product = self.operand, self.product
        k_axis = 1 - operand.axis
        parts = [Part("k", product.steps, product.k * self.weights[k_axis])]
        parts.append(
            Part(operand.variable, operand.repeats // way.repeats, way.tile[operand.axis] * self.weights[operand.axis])
        )
        return [p for p in parts if p.extent > 1]

    def _elements(self, value: int | None) -> list[Part]:
        """How far element `value` of the atom's fragment lies from the thread's first, where lanes name elements."""
        if self.way.rows:
            return []
        found: list[Part] = []
        left = value
        for mode in self.unit().values:
            digit = "v" if left is None else str(left % mode.extent)
            left = None if left is None else left // mode.extent
            if digit != "0":
                found.append(Part(digit, mode.extent, mode.stride * self.weights[mode.axis]))
        return found

    def emit(self) -> None:
        operand, out = self.operand, self.body.out
        out.put(f"ka_u32 {operand.name}[{operand.repeats * operand.count}];")
        if isinstance(self.source, dev.Fragment):
            self._pack()
        elif self.way.rows:
            self._matrices()
        else:
            self._words()
        if self.product.atom.name.endswith("tf32"):
            self._round()

    def _matrices(self) -> None:
        operand = self.operand
        times = operand.repeats // self.way.repeats
        with self._repeat(times):
            to = f"{operand.name} + {operand.variable} * {operand.count * self.way.repeats}"
            self.body.out.put(f"ka_{self.way.atom}({to}, {self.address.at(self._steps(self.way))});")

    def _words(self) -> None:
        """A register from one 32-bit load, or packed from single elements."""
        operand = self.operand
        spec = self.product.atom.operand(operand.side)
        dtype = "ka_u32" if spec.per_register == 1 else CTYPES[spec.dtype]
        with self._repeat(operand.repeats):
            for register in range(operand.count):
                to = f"{operand.name}[{operand.variable} * {operand.count} + {register}]"
                names: list[str] = []
                for part in range(spec.per_register):
                    at = self.address.at([*self._steps(self.way), *self._elements(register * spec.per_register + part)])
                    names.append(self.body.fresh("e"))
                    self.body.out.put(f"{dtype} {names[-1]}; ka_lds<1>(&{names[-1]}, {at});")
                self.body.out.put(f"{to} = {_packed(names)};")

    def _pack(self) -> None:
        """Registers of a fragment that is already in the atom's layout."""
        operand, product = self.operand, self.product
        assert isinstance(self.source, dev.Fragment)
        each = product.atom.operand(operand.side).per_register
        # registers run over the fragment's values, then along the last axis, then along the first
        outer, inner = (operand.variable, "k") if operand.side == "a" else ("k", operand.variable)
        width = product.steps if operand.side == "a" else operand.repeats
        with self._repeat(operand.repeats):
            for register in range(operand.count):
                first = f"({outer} * {width} + {inner}) * {operand.count * each}"
                names = [f"{self.held}[{first} + {register * each + e}]" for e in range(each)]
                value = f"ka_raw({names[0]})" if each == 1 else _packed(names)
                self.body.out.put(f"{operand.name}[{operand.variable} * {operand.count} + {register}] = {value};")

    def _repeat(self, times: int) -> AbstractContextManager[None]:
        variable = self.operand.variable
        return self.body.out.block(f"KA_UNROLL for (int {variable} = 0; {variable} < {times}; ++{variable})")

    def _round(self) -> None:
        operand = self.operand
        with self.body.out.block(f"KA_UNROLL for (int x = 0; x < {operand.repeats * operand.count}; ++x)"):
            self.body.out.put(f"{operand.name}[x] = ka_to_tf32(ka_bits<ka_f32>({operand.name}[x]));")


def _packed(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"ka_pack{'4' if len(names) == 4 else ''}({', '.join(names)})"


def _per_warp(shape: tuple[int, ...], product: _Product, operand: _Operand) -> tuple[int, int]:
    rows, columns = shape
    return (rows // product.rows, columns) if operand.side == "a" else (rows, columns // product.columns)


def _reach(body: Body, operand: dev.Fragment | dev.Shared) -> tuple[int, int]:
    """The operand's extents."""
    if isinstance(operand, dev.Fragment):
        rows, columns = operand.shape
        return rows, columns
    shape = body.kernel.buffer(operand.buffer).shape
    rows, columns = (shape[a] for a in operand.axes)
    return rows, columns


# Products without a matrix instruction ---------------------------------------------------------------------


def _emit_fma(body: Body, operation: dev.Mma, fragment: dev.Fragment, result: str) -> None:
    """Each thread multiplies and adds its own elements: a column of a and a row of b for each k."""
    layout, a, b = fragment.layout, operation.a, operation.b
    assert layout is not None
    if isinstance(a, dev.Fragment) or isinstance(b, dev.Fragment):
        raise LayoutMismatch(f"{operation.atom}: operands in registers")
    sides = [_Lines(body, layout, a, ROWS, fragment.dtype), _Lines(body, layout, b, COLUMNS, fragment.dtype)]
    out = body.out
    out.put("#pragma unroll 4")
    with out.block(f"for (int k = 0; k < {_reach(body, a)[1]}; ++k)"):
        for side in sides:
            side.emit()
        loops = Loops(registers(fragment), [identity(registers(fragment)), *(s.index for s in sides)])
        with out.loops(loops.heads()):
            target = Place(result, identity(registers(fragment))).at(loops)
            dtype = fragment.dtype
            factors = [Place(s.name, s.index).at(loops) for s in sides]
            product = word_text("mul", factors, [dtype, dtype], dtype)
            out.put(f"{target} = {word_text('add', [target, product], [dtype, dtype], dtype)};")


class _Lines:
    """The elements of one operand that a thread needs for one k."""

    def __init__(self, body: Body, layout: Distribution, source: dev.Shared, axis: int, dtype: str) -> None:
        self.body = body
        self.layout = drop(layout, 1 - axis)
        self.index: Terms = follow(layout, self.layout, {axis: 0})
        self.name = body.fresh("x")
        buffer = body.kernel.buffer(source.buffer)
        self.held, self.dtype = buffer.dtype, dtype
        weights = pitches(buffer, source.axes)
        self.terms: Terms = coordinate_terms(self.layout, 0, weights[axis])
        self.loops = Loops(self.layout.registers, [self.terms, identity(self.layout.registers)])
        extent = _reach(body, source)[1 - axis]
        self.step = [Part("k", extent, weights[1 - axis])]
        lanes = tuple(Mode(m.extent, axis if m.axis == 0 else -1, m.stride) for m in self.layout.lanes)
        self.address = SharedAddress(body, source, lanes, [*self.step, *self.loops.parts(self.terms)])

    def emit(self) -> None:
        count, put = self.layout.registers, self.body.out.put
        put(f"{CTYPES[self.dtype]} {self.name}[{count}];")
        with self.body.out.loops(self.loops.heads()):
            at = self.address.at([*self.step, *self.loops.parts(self.terms)])
            to = self.loops.sum(identity(count))
            if self.held == self.dtype:
                put(f"ka_lds<1>({self.name} + {to}, {at});")
                return
            each = self.body.fresh("e")
            put(f"{CTYPES[self.held]} {each}; ka_lds<1>(&{each}, {at});")
            put(f"{self.name}[{to}] = {cast(each, self.held, self.dtype)};")
