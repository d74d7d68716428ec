"""The PTX prelude: what the calls of an emitted body mean on the GPU.

One text in front of every body: types, a wrapper generated from the PTX of each atom that the architecture has, then
the parts written by hand, which know elements where the wrappers know registers.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from kernelagent.dsl import atoms
from kernelagent.dsl.atoms import Atom, Operand
from kernelagent.dsl.dtypes import bits, is_float

_CONSTRAINTS = {"f32": "f", "f64": "d"}
_SPACES = {"shared": "r", "global": "l", "immediate": "n", "descriptor": "l", "tensor_map": "l"}
_BEFORE, _AFTER = ["types"], ["registers", "convert", "memory", "math"]
_CLUSTER_BEFORE, _CLUSTER_AFTER = ["cluster_types"], ["cluster"]
_PRODUCT = re.compile(r"\bka_(wgmma_m64\w+)")


def prelude(arch: str, body: str = "") -> str:
    """CUDA C++ that gives every call of an emitted body its meaning on `arch` ("sm_80" and later).

    Of the warpgroup products only those are there that `body` calls: there are hundreds.
    """
    return _prelude(arch, frozenset(_PRODUCT.findall(body)))


@cache
def _prelude(arch: str, products: frozenset[str]) -> str:
    found = (a for a in atoms.atoms(arch=arch) if a.ptx and (a.kind != "wgmma" or a.name in products))
    wrappers = [wrapper(a) for a in found]
    clusters = atoms.atom("cluster_barrier").runs_on(arch)
    before = _BEFORE + _CLUSTER_BEFORE * clusters
    after = _AFTER + _CLUSTER_AFTER * clusters
    return "\n".join([_switches(arch), *map(_part, before), *wrappers, *map(_part, after)])


def _switches(arch: str) -> str:
    """What hand-written parts ask of the architecture: whether it has an atom."""
    named = {"KA_HAS_F8": "f32_to_f8e4m3x2", "KA_HAS_BF16_RED": "red_add_bf16"}
    return "".join(f"#define {macro} {int(atoms.atom(name).runs_on(arch))}\n" for macro, name in named.items())


def _part(name: str) -> str:
    return files("kernelagent.dsl.targets.cuda").joinpath("prelude", f"{name}.cuh").read_text(encoding="utf-8")


# Wrappers ---------------------------------------------------------------------------------------------------


def wrapper(atom: Atom) -> str:
    """The `__device__` function `ka_NAME` around an atom's PTX.

    Registers are passed as a pointer where an operand has several, by value where it has one; a lone output by value
    is returned. Shared addresses are byte offsets into the dynamic shared memory of the block.
    """
    result = next((o for o in atom.operands if _returned(o)), None)
    parameters = ", ".join(_parameter(o) for o in atom.operands if o is not result and o.space != "immediate")
    immediates = [_immediate(o) for o in atom.operands if o.space == "immediate"]
    head = f"template <{', '.join(immediates)}> " if immediates else ""
    returns = f"ka_{result.register_dtype}" if result else "void"
    body = f"    {_statement(atom)}\n"
    if result:
        body = f"    {returns} {result.name};\n{body}    return {result.name};\n"
    return f"{head}KA_DEVICE {returns} ka_{atom.name}({parameters}) {{\n{body}}}\n"


def _immediate(operand: Operand) -> str:
    return f"int {operand.name}" if operand.usual is None else f"int {operand.name} = {operand.usual}"


def _returned(operand: Operand) -> bool:
    return operand.space == "register" and operand.direction == "out" and operand.count is None


def _parameter(operand: Operand) -> str:
    if operand.space == "shared":
        return f"ka_u32 {operand.name}"
    if operand.space == "tensor_map":
        return f"const ka_tensor_map& {operand.name}"
    if operand.space == "global":
        return f"{'const ' if operand.direction == 'in' else ''}void* {operand.name}"
    if operand.count is None:
        return f"ka_{operand.register_dtype} {operand.name}"
    return f"{'const ' if operand.direction == 'in' else ''}ka_{operand.register_dtype}* {operand.name}"


def _statement(atom: Atom) -> str:
    """The asm statement. Outputs are numbered first, as the compiler wants them."""
    written = [o for o in atom.operands if o.space == "register" and o.direction != "in"]
    read = [o for o in atom.operands if o not in written]
    numbers: dict[str, str] = {}
    bound: list[list[str]] = [[], []]
    for side, operands in enumerate((written, read)):
        for operand in operands:
            first = len(bound[0]) + len(bound[1])
            bound[side] += _bindings(operand)
            numbers[operand.name] = _numbered(operand, first)
    text = re.sub(r"\$(\w+)", lambda m: numbers[m[1]], atom.ptx)
    volatile = " volatile" if atom.orders_memory or atom.scope != "lane" else ""
    clobber = ' : "memory"' if atom.orders_memory else ""
    return f'asm{volatile}("{text}" : {", ".join(bound[0])} : {", ".join(bound[1])}{clobber});'


def _numbered(operand: Operand, first: int) -> str:
    if operand.count is None:
        return f"%{first}"
    return "{" + ", ".join(f"%{first + i}" for i in range(operand.count)) + "}"


def _bindings(operand: Operand) -> list[str]:
    mode = {"in": "", "out": "=", "inout": "+"}[operand.direction] if operand.space == "register" else ""
    constraint = f'"{mode}{_constraint(operand)}"'
    if operand.count is None:
        return [f"{constraint}({_value(operand)})"]
    return [f"{constraint}({operand.name}[{i}])" for i in range(operand.count)]


def _constraint(operand: Operand) -> str:
    if operand.space != "register":
        return _SPACES[operand.space]
    dtype = operand.register_dtype
    by_width = {64: "l", 16: "h"}.get(bits(dtype), "r")
    return _CONSTRAINTS.get(dtype, by_width) if is_float(dtype) else by_width


def _value(operand: Operand) -> str:
    if operand.space == "shared":
        return f"ka_shared_base() + {operand.name}"
    if operand.space == "tensor_map":
        return f"&{operand.name}"
    return f"(int){operand.name}" if operand.dtype == "bool" else operand.name
