"""Boxes of tensor maps: what the driver and the swizzle ask of addresses, for every array that the class takes.

Source: CUDA driver API, `cuTensorMapEncodeTiled` (base and strides in multiples of 16 bytes, elements of the innermost
axis side by side); PTX ISA 9.0, "Tensors: swizzling modes" (address of the box in shared memory).
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl import device as dev
from kernelagent.dsl.fragments import stage_bytes
from kernelagent.dsl.targets.cuda.emit_hopper import swizzle_bytes
from kernelagent.dsl.tensor_map import ADDRESS_UNIT, alignment_of
from kernelagent.dsl.verify.records import Obligation

Box = tuple[str, str]
"""Array and buffer."""


def prove_boxes(kernel: dev.DeviceKernel, subject: str) -> list[Obligation]:
    """One obligation for each array and buffer that boxes go between, at the first such line."""
    lines: dict[Box, int] = {}
    for s in dev.statements(kernel):
        match s:
            case dev.CopyBulk(target=shared, view=view) | dev.StoreBulk(source=shared, view=view):
                lines.setdefault((view.array, shared.buffer), s.origin.span.line)
    return [_prove(kernel, box, line, f"{subject}: {box[0]}") for box, line in lines.items()]


def _prove(kernel: dev.DeviceKernel, box: Box, line: int, where: str) -> Obligation:
    lacks = [*_global(kernel, box[0]), *_shared(kernel.buffer(box[1]))]
    if lacks:
        return Obligation("alignment", "REFUTED", line, f"boxes: {'; '.join(lacks)}", where)
    unit = alignment_of(swizzle_bytes(kernel.buffer(box[1])))
    detail = (
        f"boxes: rows of {box[0]} begin at multiples of {ADDRESS_UNIT} bytes in every array that the class takes, "
        f"those in {box[1]} at multiples of {unit}"
    )
    return Obligation("alignment", "PROVED", line, detail, where)


def _global(kernel: dev.DeviceKernel, array: str) -> Iterator[str]:
    guards = [g for g in kernel.shape_class.guards if g.subject == array]
    if not any(g.kind == "aligned" and g.value % ADDRESS_UNIT == 0 for g in guards):
        yield f"the shape class does not ask that rows of {array} begin at multiples of {ADDRESS_UNIT} bytes"
    if not any(g.kind == "unit_stride" for g in guards):
        yield f"the shape class does not ask for unit stride of {array}"


def _shared(buffer: dev.SharedBuffer) -> Iterator[str]:
    unit = alignment_of(swizzle_bytes(buffer))
    if buffer.offset % unit:
        yield f"{buffer.name} starts at byte {buffer.offset}, no multiple of {unit}"
    if buffer.stages > 1 and stage_bytes(buffer) % unit:
        yield f"{buffer.name} has stages of {stage_bytes(buffer)} bytes, no multiple of {unit}"


__all__ = ["prove_boxes"]
