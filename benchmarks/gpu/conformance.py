"""Each atom of the CUDA prelude against its numpy reference: kernels, inputs with edge cases, and the comparison.

All values travel as 32-bit words, a row a register, a column a lane; addresses are byte offsets into one global and one
shared range (a copy of the latter for each block of a warp). Only running the kernels needs a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from kernelagent.dsl.atoms import Atom, Operand, atoms
from kernelagent.dsl.dtypes import DTYPES, bits, is_float, numpy_dtype
from oracles import Array

WARPS = 16
LANES = 32 * WARPS
SHARED = 2048
"""Bytes of shared memory of a block."""
ROOM = 32
"""Bytes of global memory that belong to a lane."""

KINDS = ("mma", "fma", "ldmatrix", "stmatrix", "load", "store", "shuffle", "atomic", "convert", "elementwise")
SPACES = {"register", "shared", "global"}


def covered(arch: str) -> tuple[Atom, ...]:
    """Atoms that the comparison knows. cp.async is among them, with its commit and wait."""
    return tuple(a for a in atoms(arch=arch) if _is_covered(a))


def left_out(arch: str) -> tuple[Atom, ...]:
    """The others: barriers and the like compute nothing; the asynchronous proxy needs kernels of its own."""
    return tuple(a for a in atoms(arch=arch) if not _is_covered(a))


def _is_covered(atom: Atom) -> bool:
    known = atom.kind in KINDS or atom.name.startswith("cp_async_")
    return known and atom.reference is not None and {o.space for o in atom.operands} <= SPACES


@dataclass(frozen=True)
class State:
    """What a kernel is given, or leaves: `words` (rows, LANES), `memory` bytes, `shared` bytes (WARPS, SHARED)."""

    words: Array
    memory: Array
    shared: Array


# Kernels ------------------------------------------------------------------------------------------------


def kernel(atom: Atom) -> str:
    """`test_NAME(words, out, memory, shared)`: one block a warp, each lane calls the atom once."""
    declared, arguments, stored = [], [], []
    result, row, out_row = "", 0, 0
    for o in atom.operands:
        dtype = f"ka_{o.register_dtype}"
        if o.direction != "out" or o.space != "register":
            declared.append(_read(o, dtype, row))
            row += rows(o)
        elif o.count is not None:
            declared.append(f"{dtype} {o.name}[{o.count}];")
        if o.space == "register" and o.direction != "in":
            stored.append(_write(o, out_row))
            out_row += rows(o)
        if o.space == "register" and o.direction == "out" and o.count is None:
            result = f"{dtype} {o.name} = "
        else:
            arguments.append(o.name)
    after = "ka_commit(); ka_wait_group<0>();" if atom.completion == "group" else ""
    call = f"{result}ka_{atom.name}({', '.join(arguments)});"
    lines = (*declared, "ka_barrier();", call, after, "ka_barrier();", *stored)
    return _FRAME.replace("NAME", atom.name).replace("BODY", "\n    ".join(line for line in lines if line))


_FRAME = f"""
KA_KERNEL(test_NAME, 32, 1)(const ka_u32* words, ka_u32* out, char* memory, unsigned char* shared) {{
    const int lanes = ka_blocks() * 32, lane = ka_block() * 32 + ka_thread();
    for (int i = ka_thread(); i < {SHARED}; i += 32) ka_shared[i] = shared[ka_block() * {SHARED} + i];
    BODY
    for (int i = ka_thread(); i < {SHARED}; i += 32) shared[ka_block() * {SHARED} + i] = ka_shared[i];
}}
"""


def rows(operand: Operand) -> int:
    """Words a lane has for an operand."""
    return (operand.count or 1) * (bits(operand.register_dtype) // 64 + 1 if operand.space == "register" else 1)


def _read(o: Operand, dtype: str, row: int) -> str:
    if o.space == "global":
        return f"char* {o.name} = memory + {_word(row)};"
    if o.space == "shared":
        return f"ka_u32 {o.name} = {_word(row)};"
    if o.dtype == "bool":
        return f"bool {o.name} = {_word(row)} != 0;"
    if bits(o.register_dtype) == 64:
        return f"{dtype} {o.name} = ka_bits<{dtype}>((ka_u64){_word(row)} | (ka_u64){_word(row + 1)} << 32);"
    if o.count is None:
        return f"{dtype} {o.name} = ka_bits<{dtype}>({_word(row)});"
    values = ", ".join(f"ka_bits<{dtype}>({_word(row + i)})" for i in range(o.count))
    return f"{dtype} {o.name}[{o.count}] = {{{values}}};"


def _write(o: Operand, row: int) -> str:
    if o.count is not None:
        return " ".join(f"out[{row + i} * lanes + lane] = ka_raw({o.name}[{i}]);" for i in range(o.count))
    if bits(o.register_dtype) == 64:
        high = f"out[{row + 1} * lanes + lane] = (ka_u32)(ka_raw({o.name}) >> 32);"
        return f"out[{row} * lanes + lane] = (ka_u32)ka_raw({o.name}); {high}"
    return f"out[{row} * lanes + lane] = ka_raw({o.name});"


def _word(row: int) -> str:
    return f"words[{row} * lanes + lane]"


def out_rows(atom: Atom) -> int:
    return sum(rows(o) for o in atom.operands if o.space == "register" and o.direction != "in")


# Inputs -------------------------------------------------------------------------------------------------


def inputs(atom: Atom, seed: int = 0) -> State:
    """Random values, and edge cases in the first warps: zeros, infinities, NaN, subnormals, the largest."""
    generator = np.random.default_rng([seed, *atom.name.encode()])
    parts = [_input(atom, o, generator) for o in atom.operands if o.direction != "out" or o.space != "register"]
    words = np.concatenate(parts) if parts else np.zeros((0, LANES), np.uint32)
    memory = _memory(atom, generator)
    if atom.name == "swap_if_16":  # every second lane expects what is there
        words[1, ::2] = memory.view(np.uint16)[:: ROOM // 2][::2]
    return State(words, memory, generator.integers(0, 256, (WARPS, SHARED), np.uint8))


def _memory(atom: Atom, generator: np.random.Generator) -> Array:
    at = next((o for o in atom.operands if o.space == "global"), None)
    if atom.kind != "atomic" or at is None or not is_float(at.dtype):
        return generator.integers(0, 256, LANES * ROOM, np.uint8)
    size = bits(at.dtype) // 8
    room = np.zeros((LANES, ROOM), np.uint8)
    room[:, :size] = _floats(at.dtype, (LANES,), generator).view(np.uint8).reshape(LANES, size)
    return room.reshape(-1)


def _input(atom: Atom, o: Operand, generator: np.random.Generator) -> Array:
    lanes = np.arange(LANES, dtype=np.uint32)[None]
    if o.space == "global":
        return lanes * ROOM
    if o.space == "shared":
        return _shared_places(atom, generator)
    if o.dtype == "bool":
        return generator.integers(0, 2, (1, LANES), np.uint32)
    if atom.kind == "shuffle" and o.name == "by":
        return np.repeat(generator.integers(0, 32, WARPS, np.uint32), 32)[None]
    return _words(o, _values(atom, o, generator))


def _shared_places(atom: Atom, generator: np.random.Generator) -> Array:
    """Aligned places, none twice in a block."""
    step = max(atom.alignment, 16)
    places = [generator.permutation(SHARED // step)[:32] * step for _ in range(WARPS)]
    return np.concatenate(places)[None].astype(np.uint32)


def _values(atom: Atom, o: Operand, generator: np.random.Generator) -> Array:
    """(LANES, elements) of the operand's dtype."""
    shape = (LANES, (o.count or 1) * o.per_register)
    if not is_float(o.dtype):
        width = bits(o.dtype)
        return generator.integers(0, 2**width, shape, np.uint64).astype(f"u{width // 8}").view(numpy_dtype(o.dtype))
    if atom.kind == "mma":
        return _factors(o, shape, generator)
    return _floats(o.dtype, shape, generator)


def _factors(o: Operand, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Operands of products: moderate values, special ones in the first two warps only, for they spread."""
    values = generator.standard_normal(shape, np.float32)
    values[32:64] *= np.float32(2.0) ** generator.integers(-6, 7, (32, shape[1]))
    share = [0.3, 0.1, 0.29, 0.29, 0.01, 0.01]
    values[:32] = generator.choice([0.0, -0.0, 1.0, -1.0, np.inf, np.nan], (32, shape[1]), p=share)
    if o.dtype == "f32" and o.carrier:  # tf32: as rounded before
        values = ((values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return values.astype(numpy_dtype(o.dtype))


def _floats(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Values of every magnitude; the first of each row of lanes are edges."""
    kind = numpy_dtype(dtype)
    wide = generator.standard_normal(shape) * 2.0 ** generator.integers(-20, 20, shape)
    near = generator.uniform(-100, 100, shape)
    with np.errstate(over="ignore"):
        values = np.where(generator.random(shape) < 0.5, wide, near).astype(kind)
        edges = np.array(_edges(dtype), np.float64).astype(kind)
    count = 2 * len(edges)
    columns = np.repeat(np.resize(edges, count)[:, None], int(np.prod(shape[1:])), axis=1)
    values[:count] = generator.permuted(columns, axis=0).reshape(count, *shape[1:])
    return np.asarray(values)


_SMALLEST = {
    "f64": 2.0**-1074, "f32": 2.0**-149, "f16": 2.0**-24, "bf16": 2.0**-133, "f8e4m3": 2.0**-9, "f8e5m2": 2.0**-16,
}  # fmt: skip
"""The smallest positive numbers."""


def _edges(dtype: str) -> list[float]:
    largest, smallest = DTYPES[dtype].largest, _SMALLEST[dtype]
    some = [0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 0.1, np.pi, largest, largest / 2, smallest, 3 * smallest, np.inf]
    return [*some, *(-x for x in some), np.nan]


def _words(o: Operand, values: Array) -> Array:
    """(rows, LANES) of u32: registers one after the other, below 32 bits in the low half."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(LANES, -1)
    if bits(o.register_dtype) == 16:
        raw = np.concatenate([raw, np.zeros((LANES, 2), np.uint8)], axis=1)
    return np.ascontiguousarray(raw.view(np.uint32).T)


# What should come out ---------------------------------------------------------------------------------------


def expected(atom: Atom, given: State) -> tuple[State, Array | None]:
    """The state that the reference leaves, floats as words of f32 (f64 where they are), and for approximate results
    the allowed absolute error as an array like the values (None: bits must agree, any NaN for a NaN)."""
    return _EXPECT[atom.kind](atom, given)


def _operands(atom: Atom, given: State) -> dict[str, Array]:
    """Each input as (LANES, elements) of its dtype; addresses and conditions as integers (LANES,)."""
    found, row = {}, 0
    for o in atom.operands:
        if o.space == "register" and o.direction == "out":
            continue
        raw = np.ascontiguousarray(given.words[row : row + rows(o)].T)
        row += rows(o)
        found[o.name] = raw[:, 0] if o.space != "register" or o.dtype == "bool" else _typed(o, raw)
    return found


def _typed(o: Operand, raw: Array) -> Array:
    if bits(o.register_dtype) == 16:
        raw = raw.astype(np.uint16)
    return np.ascontiguousarray(raw).view(numpy_dtype(o.dtype)).reshape(LANES, -1)


def _leaves(given: State, words: Array, memory: Array | None = None, shared: Array | None = None) -> State:
    return State(words, given.memory if memory is None else memory, given.shared if shared is None else shared)


def _by_warps(function: Callable[[int, slice], Array]) -> Array:
    """Rows of results (LANES, registers) of all warps, as words (registers, LANES)."""
    parts = [function(w, slice(32 * w, 32 * w + 32)) for w in range(WARPS)]
    return np.ascontiguousarray(np.concatenate(parts).T)


def _mma(atom: Atom, given: State) -> tuple[State, Array | None]:
    assert atom.reference is not None
    x, k = _operands(atom, given), int(atom.shape[2])
    whole = atom.accumulator == "i32"
    wide = {n: v.astype(np.int64 if whole else np.float64) for n, v in x.items()}
    with np.errstate(all="ignore"):
        exact = _each_warp(atom, wide)
        if whole:
            return _leaves(given, np.ascontiguousarray(exact.T).astype(np.int32).view(np.uint32)), None
        size = _each_warp(atom, {n: np.abs(v) for n, v in wide.items()})
        unit = 2.0**-11 if bits(atom.operand("a").dtype) == 8 else 2.0**-22
        words = np.ascontiguousarray(exact.T).astype(np.float32).view(np.uint32)
    return _leaves(given, words), np.ascontiguousarray((k * unit * size).T)


def _each_warp(atom: Atom, x: dict[str, Array]) -> Array:
    assert atom.reference is not None
    slices = [slice(32 * w, 32 * w + 32) for w in range(WARPS)]
    return np.concatenate([atom.reference(x["a"][s], x["b"][s], x["d"][s]) for s in slices])


def _lanes(atom: Atom, given: State) -> tuple[State, Array | None]:
    """Functions of one lane's values."""
    assert atom.reference is not None
    x = list(_operands(atom, given).values())
    with np.errstate(all="ignore"):
        if atom.kind == "convert":
            return _leaves(given, _converted(atom, x)), None
        values = np.asarray(atom.reference(*(v[:, 0] for v in x)))
        result = atom.operand("d").dtype
        words = _words(atom.operand("d"), values.astype(numpy_dtype(result)).reshape(LANES, 1))
        if atom.precision == "exact":
            return _leaves(given, words), None
        allowed = _allowed(atom, x[0][:, 0].astype(np.float64), values.astype(np.float64))
    return _leaves(given, words), allowed[None]


def _converted(atom: Atom, x: list[Array]) -> Array:
    """Raw bits; sources that are packed go in as raw bits too."""
    assert atom.reference is not None
    source, result = atom.operands[1], atom.operand("d")
    sources = [v if o.carrier else v[:, 0] for o, v in zip(atom.operands[1:], x, strict=True)]
    if source.carrier:
        sources = [sources[0].view(f"u{bits(source.dtype) // 8}")]
    found = np.asarray(atom.reference(*sources)).reshape(LANES, -1)
    if found.dtype.kind == "u" and found.shape[1] == 1:
        return found.astype(np.uint32).T
    return _words(result, found)


def _allowed(atom: Atom, x: Array, y: Array) -> Array:
    """Absolute error; subnormals may count as zero."""
    size = np.abs(y)
    if atom.kind == "fma":  # the reference rounds twice
        return size * 2.0**-23 + 2.0**-149 if atom.accumulator == "f32" else size * 2.0**-52 + 2.0**-1074
    if atom.name == "exp":
        return (2.0**-21.5 + np.abs(x) * 2.0**-23.5) * size + 2.0**-126
    return (4 * 2.0**-23 + 2.0**-22) * size + 2.0**-126


def _shuffle(atom: Atom, given: State) -> tuple[State, Array | None]:
    x = _operands(atom, given)

    def one(warp: int, lanes: slice) -> Array:
        assert atom.reference is not None
        return np.asarray(atom.reference(x["x"][lanes, 0], int(x["by"][lanes][0, 0]))).reshape(32, 1)

    return _leaves(given, _by_warps(one)), None


def _ldmatrix(atom: Atom, given: State) -> tuple[State, Array | None]:
    at = _operands(atom, given)["at"].astype(np.int64)

    def one(warp: int, lanes: slice) -> Array:
        assert atom.reference is not None
        return np.asarray(atom.reference(given.shared[warp], at[lanes]))

    return _leaves(given, _by_warps(one)), None


def _stmatrix(atom: Atom, given: State) -> tuple[State, Array | None]:
    assert atom.reference is not None
    x, shared = _operands(atom, given), given.shared.copy()
    for warp in range(WARPS):
        lanes = slice(32 * warp, 32 * warp + 32)
        shared[warp] = atom.reference(shared[warp], x["at"][lanes].astype(np.int64), x["r"][lanes])
    return _leaves(given, given.words[:0], shared=shared), None


def _access(atom: Atom, given: State) -> tuple[State, Array | None]:
    """Loads and stores of single lanes."""
    assert atom.reference is not None
    x, at = _operands(atom, given), atom.operand("at")
    memory, shared = given.memory.copy(), given.shared.copy()
    found = []
    for lane in range(LANES):
        place = int(x["at"][lane])
        where = memory if at.space == "global" else shared[lane // 32]
        inside = bool(x["inside"][lane]) if "inside" in x else True
        registers = x["r"][lane] if "r" in x else np.zeros(atom.operand("r").count or 1, np.uint32)
        result = atom.reference(where, place, registers, inside)
        if atom.kind == "store":
            where[...] = result
        else:
            found.append(result)
    words = np.ascontiguousarray(np.stack(found).T) if found else given.words[:0]
    return _leaves(given, words, memory, shared), None


def _async_copy(atom: Atom, given: State) -> tuple[State, Array | None]:
    assert atom.reference is not None
    x, shared = _operands(atom, given), given.shared.copy()
    for lane in range(LANES):
        place, source = int(x["at"][lane]), given.memory[int(x["source"][lane]) :]
        shared[lane // 32] = atom.reference(shared[lane // 32], place, source, bool(x["inside"][lane]))
    return _leaves(given, given.words[:0], shared=shared), None


def _atomic(atom: Atom, given: State) -> tuple[State, Array | None]:
    assert atom.reference is not None
    x, at = _operands(atom, given), atom.operand("at")
    kind = numpy_dtype(at.dtype)
    memory, before = given.memory.copy(), []
    for lane in range(LANES):
        place = slice(int(x["at"][lane]), int(x["at"][lane]) + kind.itemsize)
        old = memory[place].view(kind)[0]
        before.append(old)
        if atom.name == "swap_if_16":
            new = atom.reference(old, x["expected"][lane, 0], x["desired"][lane, 0])
        elif x["inside"][lane]:
            with np.errstate(all="ignore"):
                new = atom.reference(old, x["x"][lane, 0])
        else:
            continue
        memory[place] = np.asarray(new, kind).reshape(1).view(np.uint8)
    words = given.words[:0]
    if atom.name == "swap_if_16":
        words = np.array(before, kind).view(np.uint16).astype(np.uint32)[None]
    return _leaves(given, words, memory), None


_EXPECT: dict[str, Callable[[Atom, State], tuple[State, Array | None]]] = {
    "mma": _mma, "fma": _lanes, "elementwise": _lanes, "convert": _lanes, "shuffle": _shuffle, "ldmatrix": _ldmatrix,
    "stmatrix": _stmatrix, "load": _access, "store": _access, "async_copy": _async_copy, "atomic": _atomic,
}  # fmt: skip


# The comparison ------------------------------------------------------------------------------------------------


def faults(atom: Atom, given: State, found: State) -> list[str]:
    """What a device left against the reference: one sentence for each kind of difference."""
    want, allowed = expected(atom, given)
    told = list(_memory_faults(atom, want, found))
    if want.words.shape != found.words.shape:
        return [*told, f"{found.words.shape} words, not {want.words.shape}"]
    wrong = _wrong(atom, want.words, found.words, allowed)
    if atom.kind == "elementwise" and allowed is not None:  # subnormal arguments may count as zero
        flushed, allowed = expected(atom, State(_flushed(given.words), given.memory, given.shared))
        wrong &= _wrong(atom, flushed.words, found.words, allowed)
    if wrong.any():
        row, lane = (int(i) for i in np.argwhere(wrong)[0])
        told.append(
            f"{int(wrong.sum())} of {wrong.size} results differ, first in row {row}, lane {lane}: "
            f"{int(found.words[row, lane]):#x}, not {int(want.words[row, lane]):#x}"
        )
    return told


def _flushed(words: Array) -> Array:
    """f32 words, subnormal ones as zeros of their sign."""
    return np.where(words & np.uint32(0x7F800000), words, words & np.uint32(0x80000000))


def _memory_faults(atom: Atom, want: State, found: State) -> Iterator[str]:
    at = next((o for o in atom.operands if o.space == "global"), None)
    kind = at.dtype if at is not None and atom.kind == "atomic" else "u8"
    for name, mine, theirs in (("global", want.memory, found.memory), ("shared", want.shared, found.shared)):
        wrong = _differ(mine.view(numpy_dtype(kind)), theirs.view(numpy_dtype(kind)), kind)
        if atom.name == "red_add_f32":  # counts subnormal numbers as zero
            with np.errstate(all="ignore"):
                wrong &= ~(np.abs(mine.view(np.float32) - theirs.view(np.float32)) < 2.0**-125)
        if wrong.any():
            first = int(np.argmax(wrong.reshape(-1)))
            yield f"{int(wrong.sum())} elements of {name} memory differ, first number {first}"


def _wrong(atom: Atom, want: Array, found: Array, allowed: Array | None) -> Array:
    """Per row and lane: a word is wrong where any element in it is, or where it is part of one."""
    o = next(o for o in atom.operands if o.space == "register" and o.direction != "in") if want.size else None
    if o is None:
        return np.zeros(want.shape, bool)
    if atom.name == "to_tf32":
        return np.asarray(_differ(want.view(np.float32), found.view(np.float32), "f32"))
    if not is_float(o.dtype):
        return want != found
    mine, theirs = _elements(o, want), _elements(o, found)
    wrong = _differ(mine, theirs, o.dtype)
    if atom.name in ("max", "min"):  # numpy may take either of two zeros
        wrong &= (mine != 0) | (theirs != 0)
    if allowed is not None:
        with np.errstate(all="ignore"):
            near = np.abs(mine.astype(np.float64) - theirs.astype(np.float64)) <= allowed.T
        wrong &= ~(near & np.isfinite(mine))
    by_lane = wrong.reshape(LANES, -1)
    if by_lane.shape[1] < len(want):  # 64 bits
        return np.repeat(by_lane.T, 2, axis=0)
    return np.asarray(by_lane.reshape(LANES, len(want), -1).any(axis=2).T)


def _elements(o: Operand, words: Array) -> Array:
    """(LANES, elements) out of words."""
    raw = np.ascontiguousarray(words.T)
    if bits(o.register_dtype) == 16:
        raw = raw.astype(np.uint16)
    return np.ascontiguousarray(raw).view(numpy_dtype(o.dtype))


def _differ(mine: Array, theirs: Array, dtype: str) -> Array:
    """Bits that differ, but any NaN for a NaN."""
    if not is_float(dtype):
        return np.asarray(mine != theirs)
    raw = f"u{bits(dtype) // 8}"
    with np.errstate(invalid="ignore"):
        both_nan = np.isnan(mine.astype(np.float64)) & np.isnan(theirs.astype(np.float64))
    return np.asarray((np.ascontiguousarray(mine).view(raw) != np.ascontiguousarray(theirs).view(raw)) & ~both_nan)
