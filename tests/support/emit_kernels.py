"""Two schedules written by hand for the emitter's tests: an elementwise tile and a product in a ring."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.ir import Scalar
from kernelagent.dsl.lanes import striped, tiled
from kernelagent.dsl.schedule import Guard
from support.device_kernels import Maker, dim, origin

ROW, COLUMN, STEP = Symbol("i", "loop"), Symbol("j", "loop"), Symbol("k", "loop")


def scaled_sum() -> dev.DeviceKernel:
    """y = x * scale + z on tiles of 8 x 128, wide accesses, rows that may be cut."""
    maker = Maker(128, "scaled_sum", (Guard("unit_stride", "x"), Guard("divides", "N", 128)))
    layout = striped((8, 128), 128, 4)
    maker.scalars.append(Scalar("scale", "f32", None, Span(1, 1, 1, 2)))
    x, z, y = (maker.array(n, "f32", ["M", "N"], r) for n, r in (("x", "In"), ("z", "In"), ("y", "Out")))
    scale = maker.let(dev.Stretch(maker.let(dev.Parameter("scale"), "f32", None)), "f32", layout)
    product = maker.word("mul", maker.load(x, layout, (index(ROW), index(COLUMN)), 4), scale)
    total = maker.word("add", product, maker.load(z, layout, (index(ROW), index(COLUMN)), 4))
    maker.store(y, total, (index(ROW), index(COLUMN)), 4)
    grid = dev.Grid(
        (ROW, COLUMN), (index(0),) * 2, (dim("M"), dim("N")), (index(8), index(128)), tuple(maker.bodies[-1]), origin(1)
    )
    return maker.kernel(grid)


def gemm() -> dev.DeviceKernel:
    """A ring of two stages, operands swizzled, four warps of 64 x 64."""
    maker = Maker(128, "gemm", tuple(Guard("unit_stride", n) for n in "abc"))
    a, b, c = (maker.array(n, "bf16", d, r) for n, d, r in (("a", "MK", "In"), ("b", "NK", "In"), ("c", "MN", "Out")))
    swizzle = dev.Swizzle(2, 3, 3)
    maker.buffers += [
        dev.SharedBuffer(f"{n}_s", "bf16", (128, 32), 2, swizzle, 0, at) for n, at in (("a", 0), ("b", 16384))
    ]
    unit = atom("mma_m16n8k16_bf16").operand("d").layout
    assert unit is not None
    layout = tiled(unit, (128, 128), (2, 2))

    def fetch(k: object, stage: object) -> None:
        for name, view, row in (("a", a, ROW), ("b", b, COLUMN)):
            target = dev.Shared(f"{name}_s", index(stage), (0, 1))  # type: ignore[arg-type]
            start = (index(row), index(k))  # type: ignore[arg-type]
            maker.add(dev.Copy(target, view, start, striped((128, 32), 128, 8), 8, True, maker.here()))
        maker.add(dev.Commit(maker.here()))

    fetch(0, 0)
    zero = maker.let(dev.Constant(0), "f32", layout, "acc")
    inside = maker.fragment("f32", layout, "acc")
    maker.bodies.append([])
    fetch(index(STEP) + 32, (index(STEP) // 32 + 1) % 2)
    maker.add(dev.WaitGroup(1, maker.here()))
    maker.add(dev.BlockBarrier(maker.here()))
    stage = index(STEP) // 32 % 2
    factors = dev.Shared("a_s", stage, (0, 1)), dev.Shared("b_s", stage, (1, 0))
    end = maker.let(dev.Mma("mma_m16n8k16_bf16", *factors, inside), "f32", layout, "acc")
    maker.add(dev.BlockBarrier(maker.here()))
    body = maker.bodies.pop()
    result = maker.fragment("f32", layout, "acc")
    carried = dev.Carried(zero, inside, end, result)
    maker.add(dev.For((STEP,), (index(0),), (dim("K"),), (index(32),), (carried,), tuple(body), maker.here()))
    maker.store(c, maker.let(dev.Pointwise("cast", (result,)), "bf16", layout), (index(ROW), index(COLUMN)), 2)
    grid = dev.Grid(
        (ROW, COLUMN),
        (index(0),) * 2,
        (dim("M"), dim("N")),
        (index(128),) * 2,
        tuple(maker.bodies[-1]),
        origin(1),
        "grouped",
    )
    return maker.kernel(grid)
