"""The driver's rules for tensor maps, and what boxes do with bytes: zeros outside, clipping, swizzle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl import boxes
from kernelagent.dsl.catalogue import entries
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.tensor_map import SWIZZLES, TensorMapSpec, alignment_of, swizzle_of
from numpy.typing import NDArray

Values = NDArray[Any]


def spec(**changed: Any) -> TensorMapSpec:
    fields: dict[str, Any] = {"array": "a", "dtype": "bf16", "axes": (1, 0), "box": (64, 128), "swizzle": 128}
    return TensorMapSpec(**fields | changed)


def complaint(caught: pytest.ExceptionInfo[KernelError]) -> Diagnostic:
    (found,) = caught.value.diagnostics
    assert found.code == "tensor-map"
    assert found.code in entries()
    return found


@pytest.mark.parametrize(
    ("changed", "says", "hint"),
    [
        ({"box": (64, 8, 1, 1, 1, 1), "axes": (5, 4, 3, 2, 1, 0)}, "rank 6", "merge axes"),
        ({"box": (), "axes": ()}, "rank 0", "merge axes"),
        ({"dtype": "u4"}, "not whole bytes", "u8"),
        ({"axes": (0,)}, "2 box extents", "one axis"),
        ({"element_strides": (1,)}, "2 box extents", "one element stride"),
        ({"box": (64, 300)}, "300 elements along axis 1; the limit is 256", "2 boxes of 150"),
        ({"box": (64, 0)}, "0 elements along axis 1", "at least 1"),
        ({"box": (64, 128), "element_strides": (1, 9)}, "element stride 9 along axis 1; the limit is 8", "take 8"),
        ({"box": (128, 8), "element_strides": (2, 1)}, "element stride 2 along axis 0; the limit is 1", "take 1"),
        ({"swizzle": 100}, "swizzle over 100 bytes", "take 128"),
        ({"box": (128, 64)}, "256 bytes, the swizzle spans 128", "64 elements along axis 0"),
        ({"box": (32, 64)}, "64 bytes, the swizzle spans 128", "swizzle=64"),
        ({"box": (20, 64), "swizzle": 0}, "40 bytes, no multiple of 16", "24 elements"),
        ({"promotion": 100}, "promotion of 100", "take 128"),
    ],
)
def test_no_array_makes_these_legal(changed: dict[str, Any], says: str, hint: str) -> None:
    with pytest.raises(KernelError) as caught:
        spec(**changed)
    found = complaint(caught)
    assert says in found.message
    assert found.hint is not None
    assert hint in found.hint


@pytest.mark.parametrize(
    ("address", "shape", "strides", "says", "hint"),
    [
        (0x1008, (100, 200), (200, 1), "0x1008 is no multiple of 16", "8 bytes earlier"),
        (0x1000, (0, 200), (200, 1), "axis 1 has 0 elements", "no launch"),
        (0x1000, (2**32 + 1, 8), (8, 1), "4294967297 elements", "2**32"),
        (0x1000, (100, 200), (16, 104), "104 apart", "stride 1"),
        (0x1000, (100, 201), (201, 1), "402 bytes, no multiple of 16", "416 bytes"),
        (0x1000, (100, 200), (-200, 1), "-400 bytes", "positive"),
        (0x1000, (100, 200), (0, 1), "stride of 0 bytes", "positive"),
        (0x1000, (2, 8), (2**39, 1), "the limit is 2**40", "a part"),
    ],
)
def test_arrays_that_the_driver_refuses(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], says: str, hint: str
) -> None:
    with pytest.raises(KernelError) as caught:
        spec().bind(address, shape, strides)
    found = complaint(caught)
    assert says in found.message + str(found.hint)
    assert hint in found.message + str(found.hint)


def test_maps_count_axes_from_the_innermost() -> None:
    """An array [m, k] whose rows are padded, and its transpose stored [k, m]."""
    plain = spec().bind(0x1000, (100, 200), (208, 1))
    assert (plain.dims, plain.strides) == ((200, 100), (2, 416))
    turned = spec(axes=(0, 1)).bind(0x1000, (200, 100), (1, 208))
    assert (turned.dims, turned.strides) == (plain.dims, plain.strides)
    assert (plain.spec.box_bytes, plain.spec.row_bytes, plain.spec.alignment) == (16384, 128, 1024)


@pytest.mark.parametrize(
    ("span", "chunk"), [(32, lambda r: r // 4 % 2), (64, lambda r: r // 2 % 4), (128, lambda r: r % 8)]
)
def test_chunks_of_a_row_change_places(span: int, chunk: Any) -> None:
    """Chunk c of row r lies at c ^ (r mod 8), c ^ (r / 2 mod 4), c ^ (r / 4 mod 2)."""
    for row, place in np.ndindex(32, span // 16):
        assert swizzle_of(span)(row * span + 16 * place + 5) == row * span + 16 * (place ^ chunk(row)) + 5


def test_the_stride_of_a_single_row_does_not_matter() -> None:
    """Libraries put anything there."""
    assert spec().bind(0x1000, (1, 64), (1, 1)).strides == (2, 16)
    assert spec().bind(0x1000, (8, 1), (64, 7)).strides == (2, 128)


def test_alignments() -> None:
    assert [alignment_of(span) for span in SWIZZLES] == [128, 256, 512, 1024]


# Boxes ---------------------------------------------------------------------------------------------------------


def numbered(dtype: str, shape: tuple[int, ...]) -> Values:
    raw = np.arange(1, np.prod(shape) + 1).astype(f"u{numpy_dtype(dtype).itemsize}")
    return raw.reshape(shape).view(numpy_dtype(dtype))


@st.composite
def cases(draw: st.DrawFn) -> tuple[TensorMapSpec, Values, tuple[int, ...]]:
    """A map, an array of its own (its innermost axis last), and a corner that may lie outside."""
    dtype = draw(st.sampled_from(["u8", "bf16", "f32", "f64"]))
    each = numpy_dtype(dtype).itemsize
    swizzle = draw(st.sampled_from(SWIZZLES))
    row = swizzle // each if swizzle else draw(st.sampled_from([16, 48, 160])) // each
    outer = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
    steps = (1, *(draw(st.integers(1, 3)) for _ in outer))
    shape = tuple(draw(st.integers(1, 20)) for _ in (row, *outer))
    corner = tuple(draw(st.integers(-12, 22)) for _ in shape)
    box = (row, *outer)
    return (
        TensorMapSpec("a", dtype, tuple(range(len(box))), box, swizzle, steps),
        numbered(dtype, tuple(reversed(shape))),
        corner,
    )


def element(array: Values, at: tuple[int, ...]) -> int:
    """Raw bits at innermost-first coordinates, 0 outside."""
    place = tuple(reversed(at))
    inside = all(0 <= p < extent for p, extent in zip(place, array.shape, strict=True))
    return int(array[place].view(f"u{array.itemsize}")) if inside else 0


@given(cases())
def test_a_box_holds_its_elements_and_zeros(case: tuple[TensorMapSpec, Values, tuple[int, ...]]) -> None:
    """Element by element: coordinates step along the box, the innermost fastest; then chunks change places."""
    found, array, corner = case
    image = boxes.load(found, array, corner)
    assert image.size == found.box_bytes
    for number, place in enumerate(np.ndindex(*reversed(found.counts))):
        steps = zip(corner, reversed(place), found.element_strides, strict=True)
        wanted = element(array, tuple(start + count * step for start, count, step in steps))
        linear = number * found.element_bytes
        at = linear ^ (linear >> 7 & {0: 0, 32: 1, 64: 3, 128: 7}[found.swizzle]) << 4
        assert int.from_bytes(image[at : at + found.element_bytes].tobytes(), "little") == wanted


@given(cases())
def test_stores_put_back_what_loads_took(case: tuple[TensorMapSpec, Values, tuple[int, ...]]) -> None:
    found, array, corner = case
    image = boxes.load(found, array, corner)
    blank = np.zeros_like(array)
    stored = boxes.store(found, blank, corner, image)
    assert not blank.any()
    again = boxes.load(found, stored, corner)
    assert (again == image).all()
    untouched = stored.view(f"u{array.itemsize}") == 0
    assert (stored.view(np.uint8) == array.view(np.uint8))[np.repeat(~untouched, array.itemsize, axis=-1)].all()


def test_additions_round_and_wrap() -> None:
    for dtype, start, amount, result in (("i32", 2**31 - 1, 1, -(2**31)), ("bf16", 256, 1, 256), ("f32", 1.5, 2, 3.5)):
        kind = numpy_dtype(dtype)
        found = TensorMapSpec("c", dtype, (0,), (16 // kind.itemsize * 2,), 0)
        image = np.full(found.counts, amount, kind).view(np.uint8)
        added = boxes.add(found, np.full(5, start, kind), (3,), image)
        assert added.tolist() == np.array([start] * 3 + [result] * 2).astype(kind).tolist()
