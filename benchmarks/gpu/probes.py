"""Hopper's atoms, each in a kernel of its own: what the kernel is given, and what the atom's numpy reference leaves.

The same text runs on a device and in the emulator: it is written in the calls of emitted bodies, behind whose prelude
the atoms are. All values are exact: products add small integers. A probe that never ends is as wrong as one that
leaves something else: a barrier's phase did not complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from kernelagent.dsl import boxes
from kernelagent.dsl.atoms import Atom, Descriptor, atom, atoms, descriptor
from kernelagent.dsl.atoms.shared_operand import Major, Side
from kernelagent.dsl.dtypes import bits, from_numpy, numpy_dtype
from kernelagent.dsl.tensor_map import TensorMapSpec, swizzle_of
from oracles import Array

ARCH = "sm_90a"
THREADS = 128
Role = Literal["in", "out", "inout"]


@dataclass(frozen=True)
class Probe:
    """A kernel that calls `atoms`. `arrays` are its first parameters (data and role), then `maps`; `expected` is what
    the arrays that are written hold afterwards."""

    name: str
    atoms: tuple[str, ...]
    body: str
    arrays: Mapping[str, tuple[Array, Role]]
    expected: Mapping[str, Array]
    maps: tuple[TensorMapSpec, ...] = ()
    threads: int = THREADS
    cluster: int = 1
    shared_bytes: int = 1024

    @property
    def source(self) -> str:
        """The kernel `NAME`, without a prelude."""
        head = f"{self.name}, {self.threads}, 1"
        word = f"KA_KERNEL({head})" if self.cluster == 1 else f"KA_CLUSTER_KERNEL({head}, {self.cluster})"
        given = [f"ka_array<ka_{from_numpy(a.dtype)}, {a.ndim}> {name}" for name, (a, _) in self.arrays.items()]
        given += [f"KA_MAP map_{k}" for k in range(len(self.maps))]
        return f'#line 1 "kernel"\n{word}({", ".join(given)}) {{\n    KA_PROLOGUE\n    {HEAD}{self.body}\n}}\n'

    def faults(self, found: Mapping[str, Array]) -> list[str]:
        """What a run left against the reference: a sentence for each array that differs."""
        told = []
        for name, want in self.expected.items():
            wrong = np.argwhere(found[name] != want)
            if len(wrong):
                at = tuple(int(i) for i in wrong[0])
                how = f"first {at}: {found[name][at]}, not {want[at]}"
                told.append(f"{name}: {len(wrong)} of {want.size} differ, {how}")
        return told


HEAD = "const int tid = ka_thread(), warp = tid / 32, lane = tid % 32;\n    (void)warp, (void)lane;\n"


@cache
def probes() -> tuple[Probe, ...]:
    """Every probe, products first."""
    return (
        *_products(), *_loads(), *_stores(), _multicast(), *_stmatrices(), _phases(), _remote(), _named(), _handed(),
        _registers(), _identity(),
    )  # fmt: skip


def probed() -> frozenset[str]:
    """Names of the atoms that some probe tests."""
    return frozenset(name for probe in probes() for name in probe.atoms)


def unprobed(arch: str) -> tuple[Atom, ...]:
    """Products of other widths than those that are tested."""
    tested = probed()
    return tuple(a for a in atoms("wgmma", arch) if a.name not in tested)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng([*name.encode()])


def _words_in(array: str, count: int) -> str:
    """`count` words of an array into shared memory from its start."""
    step = f"ka_i32 w; ka_ldg<1>(&w, ka_at({array}, i), true, 0); ka_sts<1>(i * 4, &w);"
    return f"    for (int i = tid; i < {count}; i += {THREADS}) {{ {step} }}\n"


def _words_out(array: str, count: int, *where: str) -> str:
    at = ", ".join((array, *where, "i"))
    step = f"ka_i32 w; ka_lds<1>(&w, i * 4); ka_stg<1>(ka_at({at}), &w, true);"
    return f"    for (int i = tid; i < {count}; i += {THREADS}) {{ {step} }}\n"


# Products ----------------------------------------------------------------------------------------------

PLACE_B = 32768
KINDS = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32}
GROUPS = ("wgmma_fence", "wgmma_commit", "wgmma_wait")


def _products() -> Iterator[Probe]:
    """Each kind with narrow, odd and the widest results, from shared memory and from registers; all forms of
    descriptors on one."""
    for kind, k in KINDS.items():
        for n in (8, 24, 64, 256):
            yield _product(atom(f"wgmma_m64n{n}k{k}_{kind}"), ("K", "K"), 64, 2)
            yield _product(atom(f"wgmma_m64n{n}k{k}_{kind}_ra"), ("K", "K"), 32, 1)
    for swizzle in (0, 32, 64, 128):
        for majors in (("K", "MN"), ("MN", "K"), ("MN", "MN")):
            yield _product(atom("wgmma_m64n128k16_bf16"), majors, swizzle, 4)  # type: ignore[arg-type]


def _product(record: Atom, majors: tuple[Major, Major], swizzle: int, steps: int) -> Probe:
    form = f"{record.name}_{''.join(majors).lower()}_{swizzle}".replace("kk_", "")
    random, n, k = _random(form), int(record.shape[1]), int(record.shape[2]) * steps
    dtype, sums = numpy_dtype(record.operand("b").dtype), numpy_dtype(record.operand("d").dtype)
    a, b = (random.integers(-4, 5, shape).astype(dtype) for shape in ((64, k), (k, n)))
    c = random.integers(-9, 10, (THREADS, n // 2)).astype(sums)
    plain = atom(record.name.removesuffix("_ra"))
    right = descriptor(plain, "b", (k, n), majors[1], swizzle)
    shared, ra = np.zeros(2 * PLACE_B, np.uint8), np.zeros((THREADS, 4), np.int32)
    shared[PLACE_B:] = _placed(b, right, "b")
    if record is plain:
        left = descriptor(plain, "a", (64, k), majors[0], swizzle)
        shared[:PLACE_B] = _placed(a, left, "a")
        firsts = [_described(left, 0, step) for step in range(steps)]
    else:
        ra, firsts = np.ascontiguousarray(_fragment(a, record)).view(np.int32), ["a"]
    turns = [int(major == "MN") for major in majors][0 if record is plain else 1 :]
    suffix = f"<{', '.join(map(str, turns))}>" if bits(record.operand("b").dtype) == 16 else ""
    calls = [
        f"    ka_{record.name}{suffix}(d, {first}, {_described(right, PLACE_B, step)});"
        for step, first in enumerate(firsts)
    ]
    assert plain.reference is not None
    want = plain.reference(a.astype(sums), b.astype(sums), c)
    return Probe(
        form, (record.name, *GROUPS), _PRODUCT % {"n": n // 2, "type": f"ka_{record.operand('d').dtype}", "calls":
        "\n".join(calls)}, {"bytes": (shared.view(np.int32), "in"), "ra": (ra, "in"), "c": (c, "inout")}, {"c": want},
        shared_bytes=2 * PLACE_B,
    )  # fmt: skip


_PRODUCT = (
    _words_in("bytes", PLACE_B // 2)
    + """    %(type)s d[%(n)s];
    KA_UNROLL for (int v = 0; v < %(n)s; v += 4) ka_ldg<4>(&d[v], ka_at(c, tid, v), true, (%(type)s)0);
    ka_u32 a[4];
    KA_UNROLL for (int i = 0; i < 4; i++) ka_ldg<1>((ka_i32*)&a[i], ka_at(ra, tid, i), true, 0);
    ka_fence_async();
    ka_barrier();
    ka_wgmma_settle<%(n)s>(d);
    ka_wgmma_settle<4>(a);
    ka_wgmma_fence();
%(calls)s
    ka_wgmma_commit();
    ka_wgmma_wait<0>();
    ka_wgmma_settle<%(n)s>(d);
    KA_UNROLL for (int v = 0; v < %(n)s; v += 4) ka_stg<4>(ka_at(c, tid, v), &d[v], true);"""
)


def _placed(tile: Array, form: Descriptor, side: Side) -> Array:
    """The bytes of an operand (m, k) or (k, n) where its descriptor looks for them."""
    mn_k, out = tile if side == "a" else tile.T, np.zeros(PLACE_B, np.uint8)
    mn, k = np.indices(mn_k.shape)
    offsets = np.vectorize(lambda i, j: swizzle_of(form.swizzle)(form.panels.offset(i, j)))(mn, k)
    raw = np.ascontiguousarray(mn_k).view(np.uint8).reshape(*mn_k.shape, -1)
    out[offsets[..., None] + np.arange(raw.shape[-1])] = raw
    return out


def _fragment(tile: Array, record: Atom) -> Array:
    """The left operand's elements as (threads, values)."""
    layout = record.operand("a").layout
    assert layout is not None
    return np.array([[tile[layout.coordinates(t, v)] for v in range(layout.registers)] for t in range(THREADS)])


def _described(form: Descriptor, place: int, step: int) -> str:
    return f"ka_descriptor<{form.swizzle}>({place + form.start(step)}, {form.lbo}, {form.sbo})"


# Boxes -------------------------------------------------------------------------------------------------

BOXES: tuple[tuple[TensorMapSpec, tuple[int, ...], tuple[int, ...]], ...] = (
    (TensorMapSpec("x", "f32", (0,), (64,)), (200,), (160,)),
    (TensorMapSpec("x", "bf16", (1, 0), (64, 32), 128), (50, 72), (40, -5)),
    (TensorMapSpec("x", "f16", (1, 0), (32, 8), 64), (20, 40), (-8, 3)),
    (TensorMapSpec("x", "bf16", (1, 0), (16, 16), 32), (33, 24), (8, 30)),
    (TensorMapSpec("x", "i32", (2, 1, 0), (8, 4, 3), 32), (5, 7, 12), (-4, 5, 4)),
    (TensorMapSpec("x", "bf16", (3, 2, 1, 0), (8, 2, 3, 2)), (3, 4, 5, 16), (8, 4, -1, 2)),
    (TensorMapSpec("x", "f32", (4, 3, 2, 1, 0), (4, 2, 2, 2, 2)), (3, 3, 2, 3, 8), (4, 2, 1, -1, 2)),
)
"""Maps of every rank and swizzle, the array's shape, and a corner from which the box reaches beyond the array."""


def _elements(name: str, spec: TensorMapSpec, shape: tuple[int, ...]) -> Array:
    return _random(name).integers(-40, 41, shape).astype(numpy_dtype(spec.dtype))


def _named_box(word: str, spec: TensorMapSpec) -> str:
    return f"{word}_{spec.rank}d_{spec.dtype}_{spec.swizzle}"


def _loads() -> Iterator[Probe]:
    for spec, shape, corner in BOXES:
        name = _named_box("tma_load", spec)
        x, size = _elements(name, spec, shape), spec.box_bytes
        at = ", ".join(map(str, corner))
        body = f"""    if (tid == 0) {{ ka_mbar_init({size}, 1); ka_mbar_fence_init(); }}
    ka_barrier();
    if (tid == 0) {{ ka_mbar_expect({size}, {size}); ka_tma_load<{spec.rank}>(0, map_0, {size}, {at}); }}
    ka_mbar_wait({size}, 0);
{_words_out("out", size // 4)}"""
        found = boxes.load(spec, x, corner).view(np.int32)
        yield Probe(
            name, (f"tma_load_{spec.rank}d", "mbar_init", "mbar_fence_init", "mbar_expect", "mbar_wait"), body,
            {"x": (x, "in"), "out": (np.zeros_like(found), "out")}, {"out": found}, (spec,), shared_bytes=size + 16,
        )  # fmt: skip


def _stores() -> Iterator[Probe]:
    """Stores and additions are clipped to the array."""
    for word, reference in (("tma_store", boxes.store), ("tma_add", boxes.add)):
        for spec, shape, corner in BOXES:
            name = _named_box(word, spec)
            x, values = _elements(name, spec, shape), _elements(f"{name} values", spec, spec.box)
            given = values.reshape(-1).view(np.uint8)
            at = ", ".join(map(str, corner))
            body = f"""{_words_in("bytes", spec.box_bytes // 4)}    ka_fence_async();
    ka_barrier();
    if (tid == 0) {{ ka_{word}<{spec.rank}>(map_0, 0, {at}); ka_tma_commit(); ka_tma_wait<0>(); }}"""
            yield Probe(
                name, (f"{word}_{spec.rank}d", "tma_commit", "tma_wait", "fence_async"), body,
                {"x": (x, "inout"), "bytes": (given.view(np.int32), "in")}, {"x": reference(spec, x, corner, given)},
                (spec,), shared_bytes=spec.box_bytes,
            )  # fmt: skip


def _multicast() -> Probe:
    """Two blocks copy half a box each to both."""
    spec = TensorMapSpec("x", "bf16", (1, 0), (64, 16), 128)
    x, half = _elements("multicast", spec, (40, 64)), spec.box_bytes
    body = f"""    const int rank = (int)ka_cluster_rank();
    if (tid == 0) {{ ka_mbar_init({2 * half}, 1); ka_mbar_fence_init(); }}
    ka_cluster_barrier();
    if (tid == 0) {{
        ka_mbar_expect({2 * half}, {2 * half});
        ka_tma_load_multicast<2>(rank * {half}, map_0, {2 * half}, 3, 0, 12 + rank * 16);
    }}
    ka_mbar_wait({2 * half}, 0);
{_words_out("out", half // 2, "rank")}    ka_cluster_barrier();"""
    both = np.concatenate([boxes.load(spec, x, (0, 12 + 16 * rank)) for rank in (0, 1)]).view(np.int32)
    want = np.stack([both, both])
    return Probe(
        "tma_load_multicast", ("tma_load_multicast_2d", "cluster_barrier", "cluster_rank"), body,
        {"x": (x, "in"), "out": (np.zeros_like(want), "out")}, {"out": want}, (spec,), cluster=2,
        shared_bytes=2 * half + 16,
    )  # fmt: skip


# Matrices from registers ---------------------------------------------------------------------------------


def _stmatrices() -> Iterator[Probe]:
    for record in atoms("stmatrix", ARCH):
        random, count = _random(record.name), record.shape[0]
        rows = np.stack([random.permutation(32) * 16 + 512 * warp for warp in range(4)]).reshape(-1)
        r = random.integers(-(2**31), 2**31, (THREADS, int(count))).astype(np.int32)
        before = random.integers(-(2**31), 2**31, 512).astype(np.int32)
        want = before.view(np.uint8)
        assert record.reference is not None
        for lanes in (slice(32 * warp, 32 * warp + 32) for warp in range(4)):
            want = record.reference(want, rows[lanes], r[lanes].view(np.uint32))
        body = f"""{_words_in("before", 512)}    ka_u32 r[{count}];
    for (int i = 0; i < {count}; i++) ka_ldg<1>((ka_i32*)&r[i], ka_at(registers, tid, i), true, 0);
    ka_i32 row;
    ka_ldg<1>(&row, ka_at(rows, tid), true, 0);
    ka_barrier();
    ka_{record.name}((ka_u32)row, r);
    ka_barrier();
{_words_out("out", 512)}"""
        arrays: dict[str, tuple[Array, Role]] = {
            "before": (before, "in"), "registers": (r, "in"), "rows": (rows.astype(np.int32), "in"),
            "out": (np.zeros(512, np.int32), "out"),
        }  # fmt: skip
        yield Probe(record.name, (record.name,), body, arrays, {"out": want.view(np.int32)}, shared_bytes=2048)


# Barriers ------------------------------------------------------------------------------------------------

NEIGHBOUR = 37
_OUT = THREADS * 4


def _exchange(place: str, mate: str) -> tuple[str, str]:
    """Write a word to shared memory; read the word of another thread."""
    write = f"ka_i32 mine = {place}; ka_sts<1>(tid * 4, &mine);"
    return write, f"ka_i32 w; ka_lds<1>(&w, ({mate}) * 4);"


def _phases() -> Probe:
    """Four phases of one barrier: what a thread wrote before it arrived, another reads behind its wait. The parity of
    the phase before passes at once."""
    write, read = _exchange("tid * 8 + phase", f"(tid + {NEIGHBOUR}) % {THREADS}")
    body = f"""    if (tid == 0) {{ ka_mbar_init({_OUT}, {THREADS}); ka_mbar_fence_init(); }}
    ka_barrier();
    ka_mbar_wait({_OUT}, 1);
    for (int phase = 0; phase < 4; phase++) {{
        {write}
        ka_mbar_arrive({_OUT});
        ka_mbar_wait({_OUT}, phase & 1);
        {read}
        ka_stg<1>(ka_at(out, phase, tid), &w, true);
        ka_barrier();
    }}"""
    other = (np.arange(THREADS) + NEIGHBOUR) % THREADS
    want = (other * 8 + np.arange(4)[:, None]).astype(np.int32)
    return _barriers("mbar_phases", ("mbar_init", "mbar_arrive", "mbar_wait", "mbar_fence_init"), body, want)


def _remote() -> Probe:
    """A phase that completes only by the arrivals of both blocks of a cluster."""
    body = f"""    if (tid == 0) {{ ka_mbar_init({_OUT}, 8); ka_mbar_fence_init(); }}
    ka_cluster_barrier();
    for (int phase = 0; phase < 3; phase++) {{
        if (lane < 2) ka_mbar_arrive_at({_OUT}, lane);
        ka_mbar_wait({_OUT}, phase & 1);
    }}
    ka_i32 w = ka_cluster_rank() * 1000 + tid;
    ka_stg<1>(ka_at(out, ka_block(), tid), &w, true);
    ka_cluster_barrier();"""
    want = (np.arange(2)[:, None] * 1000 + np.arange(THREADS)).astype(np.int32)
    return _barriers("mbar_remote", ("mbar_arrive_at", "cluster_barrier", "cluster_rank"), body, want, 2)


def _named() -> Probe:
    """Two halves of a block, each with its own barrier."""
    write, read = _exchange("tid * 3", f"tid / 64 * 64 + (tid + {NEIGHBOUR}) % 64")
    body = f"""    {write}
    if (tid < 64) ka_named_barrier<1>(64); else ka_named_barrier<2>(64);
    {read}
    ka_stg<1>(ka_at(out, 0, tid), &w, true);"""
    at = np.arange(THREADS)
    want = ((at // 64 * 64 + (at + NEIGHBOUR) % 64) * 3)[None].astype(np.int32)
    return _barriers("named_barrier", ("named_barrier",), body, want)


def _handed() -> Probe:
    """One half arrives and goes on, the other waits for it."""
    write, read = _exchange("tid * 5", "tid - 64")
    body = f"""    if (tid < 64) {{
        {write}
        ka_named_arrive<3>({THREADS});
    }} else {{
        ka_named_barrier<3>({THREADS});
        {read}
        ka_stg<1>(ka_at(out, 0, tid - 64), &w, true);
    }}"""
    want = (np.arange(64) * 5)[None].astype(np.int32)
    return _barriers("named_arrive", ("named_arrive", "named_barrier"), body, want)


def _registers() -> Probe:
    """One warpgroup gives registers back, two wait for them."""
    body = """    if (tid < 128) ka_registers_less<40>(); else ka_registers_more<232>();
    ka_i32 w = tid * 7;
    ka_stg<1>(ka_at(out, 0, tid), &w, true);"""
    want = (np.arange(384) * 7)[None].astype(np.int32)
    return _barriers("registers", ("registers_less", "registers_more"), body, want, threads=384)


def _identity() -> Probe:
    """One thread of each warp is elected, the same each time."""
    body = """    const bool first = ka_elect(), again = ka_elect();
    ka_atomic_add(ka_at(out, 0, warp), 1, first && again);
    ka_atomic_add(ka_at(out, 1, warp), 1, first != again);"""
    probe = _barriers("elect", ("elect",), body, np.array([[1] * 4, [0] * 4], np.int32))
    return Probe(probe.name, probe.atoms, body, {"out": (np.zeros((2, 4), np.int32), "inout")}, probe.expected)


def _barriers(
    name: str, tested: tuple[str, ...], body: str, want: Array, cluster: int = 1, threads: int = THREADS
) -> Probe:
    out: dict[str, tuple[Any, Role]] = {"out": (np.zeros_like(want), "out")}
    return Probe(f"probe_{name}", tested, body, out, {"out": want}, threads=threads, cluster=cluster)
