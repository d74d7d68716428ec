"""Kernels with roles: the prologue of all threads, then for each role its threads, counters and walk over the tiles."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.level2.traverse import runs_alone
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.targets.cuda.arrivals import unordered_arrivals
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_grid import EmitStatements, emit_grid
from kernelagent.dsl.targets.cuda.emit_index import Range, symbol_name

ENDLESS = index(2**31 - 1)
INDENT = "    "


def emit_roles(kernel: dev.DeviceKernel, prologue: Body, statements: EmitStatements) -> list[str]:
    """The lines behind the kernel's head."""
    statements(prologue, kernel.prologue)
    lines = [*prologue.header(), *prologue.out.lines]
    for number, role in enumerate(kernel.roles):
        last = role.first_warp * 32 + role.threads
        head = f"if (ka_thread() < {last}) {{" if number + 1 < len(kernel.roles) else "{"
        lines += [f"{INDENT}{'} else ' if number else ''}{head}", *_role(kernel, role, statements)]
    return [*lines, f"{INDENT}}}"]


def _role(kernel: dev.DeviceKernel, role: dev.Role, statements: EmitStatements) -> list[str]:
    """Threads are counted from the role's first; a role that only fills rings runs in one of them."""
    part = replace(kernel, threads=role.threads, grid=role.grid, roles=(), prologue=())
    body = Body(part, uses_of=kernel)
    counters = _counters(role)
    for symbol in counters:
        body.texts.ranges[symbol] = Range(index(0), ENDLESS, index(1))
    emit_grid(body, role.grid, statements)
    tiles = len(body.out.lines)
    body.out.forget()  # the brace that may be put here moves the lines behind it
    body.unordered |= unordered_arrivals(role.after, apart=True)
    statements(body, role.after)
    alone = runs_alone(role)
    first = role.first_warp * 32
    start = f"ka_thread() - {first}" if first else "ka_thread()"
    lines = [f"// role {role.name}: {role.warps} warps", *_registers(kernel, role), f"const int tid = {start};"]
    lines += ["if (tid == 0) {"] if alone else []
    lines += [line.strip() for line in body.hoisted_lines()]
    lines += [f"if (tid >= 128) ka_named_arrive<{n}>({role.threads});" for n in _turns(role)]
    lines += [f"int {symbol_name(symbol)} = 0;" for symbol in counters]
    inner = [_indented(line, 2) for line in lines]
    moved = [_indented(line, 1) for line in body.out.lines]
    return [*inner, *moved[:tiles], *([f"{INDENT * 2}}}"] if alone else []), *moved[tiles:]]


def _indented(line: str, depth: int) -> str:
    return line if line.startswith("#") else f"{INDENT * depth}{line}"


def _registers(kernel: dev.DeviceKernel, role: dev.Role) -> list[str]:
    """Registers are given back before others ask for more. The launch gives each thread an equal share."""
    if role.registers is None:
        return []
    share = 65536 // kernel.threads // 8 * 8
    word = "less" if role.registers < share else "more"
    return [f'#line {role.grid.origin.span.line} "kernel"', f"ka_registers_{word}<{role.registers}>();"]


def _turns(role: dev.Role) -> list[int]:
    """Numbers of the turns that its warpgroups take: the second one passes before the first may begin."""
    taken = (s.number for s in dev.walk(innermost(role.grid).body) if isinstance(s, dev.Turn))
    return list(dict.fromkeys(taken))


def _counters(role: dev.Role) -> list[Symbol]:
    grid = innermost(role.grid)
    found = [grid.counter] if grid.counter else []
    found += [s.counter for s in dev.walk(grid.body) if isinstance(s, dev.For) and s.counter]
    return list(dict.fromkeys(found))


__all__ = ["emit_roles"]
