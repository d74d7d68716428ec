"""The static gate: machine code that spills, or whose asynchronous products wait for each other, is no kernel to run.

What the compiler remarks names a function at best; the machine code's line information leads to the line of the text
that is behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.dsl.targets.cuda import ptxas
from kernelagent.dsl.targets.cuda.artifact import Binary, CudaArtifact
from kernelagent.dsl.targets.cuda.compiler import KERNEL_TEXT
from kernelagent.dsl.targets.cuda.sass import Instruction, read_sass
from kernelagent.dsl.targets.cuda.tools import MissingTool

MOST_WARPS = 16
"""Of a block whose threads may have 128 registers: more warps would spill the more."""
PRODUCTS = frozenset({"HGMMA", "QGMMA", "IGMMA"})
_WAIT = "WARPGROUP.DEPBAR"
_LEAVES = frozenset({"BRA", "EXIT", "RET", "BRX", "CALL"})
_REGISTER = re.compile(r"\bR(\d+)\b")
_SHAPE = re.compile(r"\.64x(\d+)x\d+")
_WORDY = re.compile(r"Potential Performance Loss: | in (the )?function '[^']*'")
_TOUCHED = re.compile(r"(reading|defining) accumulator registers")


def faults(artifact: CudaArtifact, module: ir.Module) -> Iterator[Diagnostic]:
    """Errors of every binary, at the lines behind them; at the kernel's head where no tool reads machine code."""
    for binary in artifact.binaries():
        notes = ptxas.serialising(binary.notes)
        if not (binary.resources.spills or notes):
            continue
        kernel, code = module.kernel(binary.kernel).span, _code(binary)
        if binary.resources.spills:
            yield _spill(binary, artifact.arch, _span(spill_line(code), kernel, module.text))
        for note in notes:
            yield _serialised(binary, artifact.arch, note, _span(serial_line(code, note), kernel, module.text))


def _code(binary: Binary) -> Sequence[Instruction]:
    try:
        return read_sass(Path(binary.cubin_path).read_bytes(), binary.function).instructions
    except MissingTool:
        return ()


def _span(line: int | None, kernel: Span, text: str) -> Span:
    """The statement on a line of the text; the kernel's head where no line is known."""
    if line is None:
        return kernel
    lines = text.splitlines()
    shown = lines[line - 1].rstrip() if line <= len(lines) else ""
    column = len(shown) - len(shown.lstrip()) + 1
    return Span(line, column, line, max(len(shown), column) + 1)


# Diagnostics -----------------------------------------------------------------------------------------


def _spill(binary: Binary, arch: str, span: Span) -> Diagnostic:
    used = binary.resources
    message = (
        f"{binary.name} spills on {arch}: {used.spill_store_bytes} bytes stored and {used.spill_load_bytes} loaded a "
        f"thread, with {used.registers} registers"
    )
    facts = {"kernel": binary.kernel, "class": binary.shape_class, "threads": binary.threads, **asdict(used)}
    warps = binary.threads // 32
    alike = warps & (warps - 1) == 0 and warps < MOST_WARPS  # with roles a block has some other number
    more = f"more warps (there are {warps}: `warps={2 * warps}` in `on(...)`)" if alike else "more warps"
    hint = f"use smaller tiles or {more}, so that each thread holds fewer elements"
    return Diagnostic("cuda-spills", message, span, "error", hint, facts)


def _serialised(binary: Binary, arch: str, note: str, span: Span) -> Diagnostic:
    why = _WORDY.sub("", note)
    message = f"{binary.name} on {arch}: asynchronous products do not overlap: {why}"
    facts = {
        "kernel": binary.kernel,
        "class": binary.shape_class,
        "note": note,
        "registers": binary.resources.registers,
    }
    return Diagnostic("wgmma-serialised", message, span, "error", _hint(note), facts)


def _hint(note: str) -> str:
    if "insufficient register" in note:
        return "use smaller tiles or one warpgroup more, so that the sums fit into its registers"
    return "leave a product's sums and operands alone from its fence until the wait that completes it"


# Lines -----------------------------------------------------------------------------------------------


def spill_line(code: Sequence[Instruction]) -> int | None:
    """The line of the text with most accesses to local memory."""
    lines = Counter(i.line for i in code if i.family in ("LDL", "STL") and i.line is not None)
    return lines.most_common(1)[0][0] if lines else None


def serial_line(code: Sequence[Instruction], note: str) -> int | None:
    """The line that makes products wait: of the code that touches the sums in flight, else of the products.

    A wait that the compiler put in lies at the line of what needed it; one of the text's own lies in the prelude.
    """
    injected = [n for n, i in enumerate(code) if i.is_a(_WAIT) and i.places and i.places[0].file == KERNEL_TEXT]
    products = [n for n, i in enumerate(code) if i.family in PRODUCTS]
    if "warpgroup.wait is injected" in note and injected:
        return code[injected[0]].line
    if not products:
        return None
    found = _touches(code, products) if _TOUCHED.search(note) else None
    return code[products[0] if found is None else found].line


def _touches(code: Sequence[Instruction], products: Sequence[int]) -> int | None:
    """The nearest instruction behind a product, else in front of one, that has its sums among its operands."""
    for way in (1, -1):
        for start in reversed(products):
            sums = _sums(code[start])
            for n in range(start + way, len(code) if way > 0 else -1, way):
                if code[n].family in _LEAVES:
                    break
                if code[n].family not in PRODUCTS and code[n].line and sums & _registers(code[n]):
                    return n
    return None


def _sums(product: Instruction) -> frozenset[int]:
    """Registers that a product adds to; sums of 32 bits."""
    first, shape = _REGISTER.match(product.operands), _SHAPE.search(product.opcode)
    if first is None or shape is None:
        return frozenset()
    return frozenset(range(int(first[1]), int(first[1]) + int(shape[1]) // 2))


def _registers(instruction: Instruction) -> frozenset[int]:
    return frozenset(int(number) for number in _REGISTER.findall(instruction.operands))
