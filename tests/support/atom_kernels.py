"""A kernel for each atom of the CUDA prelude: inputs come from parameters, so that little but the atom is compiled."""

from __future__ import annotations

import re

from kernelagent.dsl.atoms import Atom, Operand, atoms
from kernelagent.dsl.targets.cuda.sass import Instruction, Sass

WIDTHS = (8,)
"""Warpgroup products that are looked at: the others differ in their number of registers."""

_IMMEDIATES = {"count": 40}


def wrapped(arch: str) -> tuple[Atom, ...]:
    """Atoms that the prelude wraps on an architecture; of the warpgroup's products, those of some widths."""
    return tuple(a for a in atoms(arch=arch) if a.ptx and (a.kind != "wgmma" or a.shape[1] in WIDTHS))


def kernel(atom: Atom) -> str:
    """`extern "C"` kernel `test_NAME` that calls the wrapper once and stores what it gives."""
    parameters, before, arguments, after = [], [], [], []
    template: list[str] = []
    result = ""
    for o in atom.operands:
        dtype = f"ka_{o.register_dtype}"
        if o.space == "immediate":
            template.append(str(_IMMEDIATES.get(o.name, 1)))
        elif o.space == "tensor_map":
            parameters.append(f"KA_MAP {o.name}")
            arguments.append(o.name)
        elif o.space == "descriptor":
            parameters.append(f"{dtype} {o.name}")
            arguments.append(o.name)
        elif o.space == "shared":
            parameters.append(f"ka_u32 {o.name}")
            arguments.append(o.name)
        elif o.space == "global":
            parameters.append(f"char* {o.name}")
            arguments.append(f"{o.name} + 16 * ka_thread()")
        elif o.count is None and o.direction == "out":
            result = f"*out_{o.name} = "
            parameters.append(f"{dtype}* out_{o.name}")
        elif o.count is None:
            parameters.append(f"{'ka_i32' if o.dtype == 'bool' else dtype} {o.name}")
            varies = " + ka_thread()" if atom.scope == "warp" else ""  # the compiler drops shuffles of equal values
            arguments.append(f"{o.name} != 0" if o.dtype == "bool" else f"{o.name}{varies}")
        else:
            _registers(o, dtype, parameters, before, after)
            arguments.append(o.name)
    chosen = f"<{', '.join(template)}>" if template else ""
    call = [f"{result}ka_{atom.name}{chosen}({', '.join(arguments)});"]
    lines = [*before, *(_grouped(atom, call) if atom.kind == "wgmma" else call), *after]
    body = "".join(f"    {line}\n" for line in lines)
    threads = 128 if atom.scope == "warpgroup" else 32
    return f"KA_KERNEL(test_{atom.name}, {threads}, 1)({', '.join(parameters)}) {{\n{body}}}\n"


def _grouped(atom: Atom, call: list[str]) -> list[str]:
    """What belongs around an asynchronous product."""
    pinned = [f"ka_wgmma_settle<{o.count}>({o.name});" for o in atom.operands if o.count]
    return [*pinned, "ka_wgmma_fence();", *call, "ka_wgmma_commit();", "ka_wgmma_wait<0>();", pinned[0]]


def _registers(o: Operand, dtype: str, parameters: list[str], before: list[str], after: list[str]) -> None:
    """Several registers: values in by parameters, values out by stores."""
    assert o.count is not None
    names = [f"{o.name}{i}" for i in range(o.count)]
    if o.direction != "out":
        parameters += [f"{dtype} {name}" for name in names]
    values = f" = {{{', '.join(names)}}}" if o.direction != "out" else ""
    before.append(f"{dtype} {o.name}[{o.count}]{values};")
    if o.direction != "in":
        parameters.append(f"{dtype}* out_{o.name}")
        after += [f"out_{o.name}[{i} * 32 + ka_thread()] = {o.name}[{i}];" for i in range(o.count)]


def listing(sass: Sass) -> list[str]:
    """The kernel's code up to its exit, registers numbered in the order of their first appearance."""
    numbers: dict[str, str] = {}
    lines = [_normal(i, numbers) for i in sass.instructions]
    return lines[: lines.index("EXIT") + 1] if "EXIT" in lines else lines


def _normal(instruction: Instruction, numbers: dict[str, str]) -> str:
    def renamed(match: re.Match[str]) -> str:
        kind = match[1]
        return numbers.setdefault(match[0], f"{kind}{sum(n.startswith(kind) for n in numbers)}")

    text = f"{instruction.predicate} {instruction.opcode} {instruction.operands}".strip()
    text = re.sub(r"\b(U?[RPB])\d+\b", renamed, text)
    return re.sub(r"`\(.*?\)", "`target", text)
