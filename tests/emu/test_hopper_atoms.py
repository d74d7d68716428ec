"""Warpgroup products, stmatrix and the elected thread against the atoms' references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.atoms.record import Atom
from kernelagent.dsl.atoms.shared_operand import Descriptor, descriptor
from kernelagent.dsl.dtypes import bits, numpy_dtype
from kernelagent.dsl.swizzle import Swizzle
from kernelagent.dsl.targets.emulator import ArrayArgument
from kernelagent.dsl.tensor_map import swizzle_of
from numpy.typing import NDArray
from support.hopper_bodies import hopper

PLACE_B = 32768


def in_shared(tile: NDArray[Any], d: Descriptor, side: str) -> NDArray[np.uint8]:
    """The bytes of an operand tile (m, k) or (k, n) where its descriptor looks for them."""
    mn_k = tile if side == "a" else tile.T
    size = mn_k.dtype.itemsize
    out = np.zeros(PLACE_B, np.uint8)
    swizzle: Swizzle = swizzle_of(d.swizzle)
    for (mn, k), value in np.ndenumerate(mn_k):
        at = swizzle(d.panels.offset(mn, k))
        out[at : at + size] = np.frombuffer(value.tobytes(), np.uint8)
    return out


def fragment(tile: NDArray[Any], record: Atom, name: str) -> NDArray[Any]:
    """A tile's elements as (128 threads, values)."""
    layout = record.operand(name).layout
    assert layout is not None
    return np.array([[tile[layout.coordinates(t, v)] for v in range(layout.registers)] for t in range(128)])


PRODUCT = """ka_i32 word;
    for (int i = tid; i < 16384; i += 128) {{ ka_ldg<1>(&word, ka_at(bytes, i), true, 0); ka_sts<1>(i * 4, &word); }}
    {ctype} d[{values}];
    for (int v = 0; v < {values}; v++) ka_ldg<1>(&d[v], ka_at(c, tid, v), true, ({ctype})0);
    ka_u32 a[4];
    for (int i = 0; i < 4; i++) ka_ldg<1>((ka_i32 *)&a[i], ka_at(ra, tid, i), true, 0);
    ka_fence_async();
    ka_barrier();
    ka_wgmma_fence();
{products}
    ka_wgmma_commit();
    ka_wgmma_wait<0>();
    for (int v = 0; v < {values}; v++) ka_stg<1>(ka_at(c, tid, v), &d[v], true);"""


def described(d: Descriptor, place: int, step: int) -> str:
    """The descriptor of a step of k."""
    return f"ka_descriptor<{d.swizzle}>({place + d.start(step)}, {d.lbo}, {d.sbo})"


def run_product(record: Atom, call: str, swizzles: tuple[int, int], majors: tuple[str, str], steps: int) -> None:
    random = np.random.default_rng(3)
    k = int(record.shape[2]) * steps
    n = int(record.shape[1])
    dtype, sums = numpy_dtype(record.operand("b").dtype), numpy_dtype(record.operand("d").dtype)
    a, b = (random.integers(-4, 5, shape).astype(dtype) for shape in ((64, k), (k, n)))
    c = random.integers(-9, 9, (128, n // 2)).astype(sums)
    from_registers = record.name.endswith("_ra")
    plain = atom(record.name.removesuffix("_ra"))
    side_b = descriptor(plain, "b", (k, n), majors[1], swizzles[1])  # type: ignore[arg-type]
    shared = np.zeros(2 * PLACE_B, np.uint8)
    a_words = ["a"] * steps
    shared[PLACE_B:] = in_shared(b, side_b, "b")
    ra = np.zeros((128, 4), np.int32)
    if from_registers:
        ra = np.ascontiguousarray(fragment(a, record, "a")).view(np.int32)
    else:
        side_a = descriptor(plain, "a", (64, k), majors[0], swizzles[0])  # type: ignore[arg-type]
        shared[:PLACE_B] = in_shared(a, side_a, "a")
        a_words = [described(side_a, 0, step) for step in range(steps)]
    reference = plain.reference
    assert reference is not None
    want = reference(a.astype(sums), b.astype(sums), c)
    b_words = [described(side_b, PLACE_B, step) for step in range(steps)]
    products = "\n".join(f"ka_{call}(d, {x}, {y});" for x, y in zip(a_words, b_words, strict=True))
    body = PRODUCT.format(ctype=f"ka_{record.operand('d').dtype}", values=n // 2, products=products)
    arrays = [ArrayArgument("bytes", shared.view(np.int32)), ArrayArgument("ra", ra), ArrayArgument("c", c, "inout")]
    report = hopper(body, arrays, shared_bytes=2 * PLACE_B)
    assert report.kinds() <= {"torn-matrix"}, report.findings  # the bytes come from one long row
    np.testing.assert_array_equal(c, want)


KINDS = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32}


@pytest.mark.parametrize("n", [8, 24, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_shared_operands_are_those_of_the_atoms(kind: str, n: int) -> None:
    record = atom(f"wgmma_m64n{n}k{KINDS[kind]}_{kind}")
    turns = "<0, 0>" if bits(record.operand("b").dtype) == 16 else ""
    run_product(record, record.name + turns, (64, 32), ("K", "K"), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_registers_are_those_of_the_atoms(kind: str) -> None:
    record = atom(f"wgmma_m64n64k{KINDS[kind]}_{kind}_ra")
    turns = "<0>" if bits(record.operand("b").dtype) == 16 else ""
    run_product(record, record.name + turns, (0, 32), ("K", "K"), 1)


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize("majors", [("K", "K"), ("MN", "K"), ("K", "MN"), ("MN", "MN")])
def test_descriptors_of_every_form_are_decoded(majors: tuple[str, str], swizzle: int) -> None:
    record = atom("wgmma_m64n128k16_bf16")
    turns = ", ".join(str(int(m == "MN")) for m in majors)
    run_product(record, f"{record.name}<{turns}>", (swizzle, swizzle), majors, 4)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("suffix", ["", "_trans"])
def test_stmatrix_is_undone_by_ldmatrix(count: int, suffix: str) -> None:
    got = np.zeros((128, count), np.int32)
    body = f"""ka_u32 r[{count}], s[{count}];
        for (int i = 0; i < {count}; i++) r[i] = tid << 16 | i;
        const ka_u32 at = tid / 32 * 512 + (tid * 5 % 32) * 16;
        ka_stmatrix_x{count}{suffix}(at, r);
        ka_barrier();
        ka_ldmatrix_x{count}{suffix}(s, at);
        for (int i = 0; i < {count}; i++) ka_stg<1>(ka_at(got, tid, i), (ka_i32 *)&s[i], true);"""
    report = hopper(body, [ArrayArgument("got", got, "out")])
    assert report.ok, report.findings
    np.testing.assert_array_equal(got, (np.arange(128)[:, None] << 16) | np.arange(count))


@pytest.mark.parametrize("completion", ["late", "early", "random"])
def test_one_thread_of_each_warp_is_elected_and_always_the_same(completion: Any) -> None:
    y = np.zeros((64, 64), np.float32)
    body = "bool first = ka_elect();\nbool again = ka_elect();\n" + (
        "ka_atomic_add(ka_at(y, tid / 32, 0), 1.0f, first && again); ka_atomic_add(ka_at(y, tid / 32, 1), 1.0f, first);"
    )
    assert hopper(body, [ArrayArgument("y", y, "inout")], completion=completion).ok
    np.testing.assert_array_equal(y[:4, :2], 1)
