"""Inverses of layouts: from offsets back to coordinates, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from kernelagent.dsl.layout import (
    Layout,
    LayoutError,
    Leaf,
    coalesce,
    composition,
    from_leaves,
    integer,
    leaves,
    modes,
    size,
)


# Law: A(right_inverse(A)(i)) = i on its whole domain, which is all of [0, size A) if A is a bijection.
def right_inverse(a: Layout) -> Layout:
    """The offset's coordinate, for the offsets 0, 1, ... that A reaches without a gap."""
    chain: list[Leaf] = []
    reached = 1
    for stride, extent, step, _ in sorted(_steps(a)):
        if stride == reached:
            chain.append((extent, step))
            reached *= extent
    return coalesce(from_leaves(chain))


# Law: left_inverse(A)(A(i)) = i.
def left_inverse(a: Layout) -> Layout:
    """The coordinate of each offset of an injective layout, padded ones included; offsets in holes mean nothing.

    Raises LayoutError unless each stride is a multiple of the next smaller one and clears what that one covers.
    """
    found = sorted(_steps(a))
    if found and found[0][0] < 1:
        stride, extent, _, mode = found[0]
        reason = f"left_inverse: mode {mode} of {a} has extent {extent} and stride {stride}"
        raise LayoutError(reason, mode, (extent, stride))
    chain: list[Leaf] = [(found[0][0], 0)] if found else []
    for (stride, extent, step, mode), (wider, _, _, other) in pairwise(found):
        if wider < stride * extent:
            reason = f"left_inverse: modes {mode} and {other} of {a} overlap: stride {wider}, {stride * extent} covered"
            raise LayoutError(reason, other, (wider, stride * extent))
        if wider % stride:
            reason = f"left_inverse: stride {wider} of mode {other} of {a} is not a multiple of {stride}"
            raise LayoutError(reason, other, (wider, stride))
        chain.append((wider // stride, step))
    return coalesce(from_leaves([*chain, *((extent, step) for _, extent, step, _ in found[-1:])]))


def _steps(a: Layout) -> Iterator[tuple[int, int, int, int]]:
    """(stride, extent, the coordinate's own stride, mode) of each flat mode with more than one element."""
    before = 1
    for mode, (extent, stride) in enumerate(leaves(a)):
        if extent > 1:
            yield integer(stride), extent, before, mode
        before *= extent


# Law: for R = right_inverse(B) and n the result, B(R(n k + r)) = n k + r and A(R(n k + r)) = A(R(n k)) + r on all of
# R's domain, for r in [0, n), and A(R(r)) = r.
def max_common_vector(a: Layout, b: Layout) -> int:
    """How many elements are contiguous in both, in the same order: the longest vector of a copy from A to B.

    Says nothing about alignment: the other strides must be multiples of it too. Raises LayoutError if sizes differ.
    """
    if size(a) != size(b):
        raise LayoutError(f"max_common_vector: {a} has {size(a)} elements, {b} {size(b)}", None, (size(a), size(b)))
    try:
        vector = modes(coalesce(composition(a, right_inverse(b))))[0]
    except LayoutError:
        return 1  # A is not regular along B's order
    return size(vector) if vector.stride == 1 else 1
