"""Level three as text: which lane holds which element, then the statements of one thread. Printed only."""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import Mode, normal
from kernelagent.dsl.targets.cuda.body import fragment_name
from kernelagent.dsl.targets.cuda.emit import emit


def lane_text(kernel: dev.DeviceKernel) -> str:
    """Every fragment's distribution and the emitted body without line marks.

    A distribution reads `extent:axis*stride` digit by digit, fastest first; `copies` are threads that hold the same.
    Raises what `emit` raises.
    """
    body = "".join(line for line in emit(kernel).splitlines(keepends=True) if not line.startswith("#line"))
    return "\n".join(_table(kernel)) + "\n" + body


def _table(kernel: dev.DeviceKernel) -> Iterator[str]:
    yield "// fragment: dtype, shape; digits of the thread; digits of the register"
    for fragment in _fragments(kernel):
        layout = fragment.layout
        if layout is None:
            continue
        shape = "x".join(map(str, fragment.shape)) or "scalar"
        held = f"thread {_digits(layout.lanes)}; register {_digits(layout.values)}"
        yield f"// {fragment_name(fragment)}: {fragment.dtype}, {shape}; {held}"


def _fragments(kernel: dev.DeviceKernel) -> Iterator[dev.Fragment]:
    """In the order in which they come to be."""
    for statement in dev.statements(kernel):
        match statement:
            case dev.Let(fragment, _):
                yield fragment
            case dev.For(carried=carried):
                for c in carried:
                    yield from (c.inside, c.result)
            case dev.If(merged=merged):
                yield from (m.result for m in merged)
            case _:
                pass


def _digits(modes: tuple[Mode, ...]) -> str:
    texts = [f"{m.extent}:copies" if m.axis < 0 else f"{m.extent}:{m.axis}*{m.stride}" for m in normal(modes)]
    return " ".join(texts) or "-"
