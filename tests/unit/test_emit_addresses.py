"""Shared addresses as emitted, evaluated for every thread and register, against the definition of a buffer."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import DTYPES
from kernelagent.dsl.index import index
from kernelagent.dsl.lanes import Distribution, striped
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_shared import SharedAddress, pitches, tile_terms
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch, Loops
from support.device_kernels import Maker

FAST = settings(max_examples=60)
THREADS = 64


def defined(buffer: dev.SharedBuffer, stage: int, at: tuple[int, ...]) -> int:
    """Byte address by the words of the record."""
    offset = 0
    for axis, coordinate in enumerate(at):
        extent = buffer.shape[axis] + (buffer.pad if axis == len(at) - 1 else 0)
        offset = offset * extent + coordinate
    if s := buffer.swizzle:
        offset ^= (offset >> s.shift) & ((2**s.bits - 1) << s.base)
    return buffer.offset + stage * dev.stage_bytes(buffer) + offset * DTYPES[buffer.dtype].bits // 8


def evaluated(body: Body, text: str, thread: int, names: dict[str, int]) -> int:
    """C integer expressions of the emitted subset mean the same in Python, but for division."""
    scope = {"tid": thread, **names}
    for line in [*body.header(), *body.out.lines]:
        name, value = re.fullmatch(r"\s*const \w+ (\w+) = (.*);", line).groups()  # type: ignore[union-attr]
        scope[name] = eval(value.replace("/", "//"), {}, scope)
    return int(eval(text.replace("/", "//"), {}, scope))


def check(buffer: dev.SharedBuffer, layout: Distribution, axes: tuple[int, ...], stage: int = 0) -> SharedAddress:
    maker = Maker(THREADS)
    maker.buffers.append(buffer)
    body = Body(maker.kernel())
    shared = dev.Shared(buffer.name, index(stage), axes)
    terms = tile_terms(layout, pitches(buffer, axes, layout.shape))
    loops = Loops(layout.registers, [terms])
    address = SharedAddress(body, shared, layout.lanes, loops.parts(terms), layout.shape)
    text = address.at(loops.parts(terms))
    for thread in range(THREADS):
        for digits in itertools.product(*(range(e) for _, e, _ in loops.variables)):
            variables = {name: d for (_, _, name), d in zip(loops.variables, digits, strict=True)}
            register = sum(d * v for (d, _, _), v in zip(loops.variables, digits, strict=True))
            here = layout.coordinates(thread, register)
            at = [0] * len(axes)
            for j, axis in enumerate(axes):
                at[axis] = here[j]
            assert evaluated(body, text, thread, variables) == defined(buffer, stage, tuple(at)), text
    return address


@FAST
@given(
    st.sampled_from([(16, 32), (8, 64), (32, 24), (12, 16)]),
    st.sampled_from(["bf16", "f32", "i8"]),
    st.sampled_from([None, dev.Swizzle(2, 3, 3), dev.Swizzle(3, 3, 3), dev.Swizzle(1, 2, 4), dev.Swizzle(2, 4, 2)]),
    st.sampled_from([0, 8]),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 2),
)
def test_addresses_of_tiles(
    shape: tuple[int, int],
    dtype: str,
    swizzle: dev.Swizzle | None,
    pad: int,
    turned: bool,
    vector: int,
    stage: int,
) -> None:
    buffer = dev.SharedBuffer("tile", dtype, shape, 3, swizzle, pad, offset=256)
    axes = (1, 0) if turned else (0, 1)
    seen = (shape[1], shape[0]) if turned else shape
    check(buffer, striped(seen, THREADS, vector), axes, stage)


def test_threads_swizzle_once_where_digits_touch_different_bits() -> None:
    buffer = dev.SharedBuffer("tile", "bf16", (64, 64), 1, dev.Swizzle(3, 3, 3))
    assert check(buffer, striped((64, 64), THREADS, 8), (0, 1)).split
    odd = dev.SharedBuffer("tile", "bf16", (64, 64), 1, dev.Swizzle(3, 3, 3), pad=8)
    assert not check(odd, striped((64, 64), THREADS, 8), (0, 1)).split


def test_rows_may_be_split_but_not_cut() -> None:
    buffer = dev.SharedBuffer("tile", "bf16", (32, 16), 1, None, pad=8)
    assert pitches(buffer, (0, 1), (4, 8, 16)) == {0: 384, 1: 48, 2: 2}
    with pytest.raises(LayoutMismatch, match="tile"):
        pitches(buffer, (0, 1), (64, 8))
