"""Level-two text -> device kernel: read with `ast`, never executed, every operand's type and place checked."""

from __future__ import annotations

import ast
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import MAX_DIAGNOSTICS, Diagnostic, KernelError, Span
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.elaborate.signature import Signature, read_signature
from kernelagent.dsl.level2 import resources, roles
from kernelagent.dsl.level2.accesses import check_guards
from kernelagent.dsl.level2.expectations import without_expectations
from kernelagent.dsl.level2.header import NO_GRID, Header, Sections, read_header, read_roles, split_body, state_for
from kernelagent.dsl.level2.normal import normal_form, only_tiles
from kernelagent.dsl.level2.rules import Broken
from kernelagent.dsl.level2.spec import wide_accesses
from kernelagent.dsl.level2.state import State, placed
from kernelagent.dsl.level2.statements import run_grid, run_prologue, run_role
from kernelagent.dsl.syntax import MAX_CHARACTERS, Fault, Source, fault, level_of, read, span_of


def is_level_two(text: str) -> bool:
    """Whether the text says `level(2)`; False for text that is not even Python, or too large to be read."""
    if len(text) > MAX_CHARACTERS:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `syntax`
            tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return any(level_of(statement) == 2 for statement in tree.body)


def parse_schedule(text: str) -> dev.DeviceKernel:
    """Check a level-two text. Origins are its own lines. Raises KernelError with every diagnostic that was found."""
    if not is_level_two(text):
        read(text, 2)  # a mistake of syntax comes first
        hint = "write the line `level(2)` behind `edition(1)`, or parse it as a level-one text"
        raise KernelError([Diagnostic("level-missing", "the text does not say level(2)", Span(1, 1, 1, 2), hint=hint)])
    source = read(text, 2)
    try:
        base, signature, node = _signature(source)
        k = state_for(base)
        sections = split_body(node)
    except Fault as problem:
        raise KernelError([problem.diagnostic]) from None
    header = Header(dims=tuple(signature.dims))
    heads = read_roles(k, header, sections.roles)
    read_header(k, header, sections.header)
    _refuse(k, base)
    work = _work(k, sections, heads)
    _refuse(k, base)
    kernel = _kernel(node, signature, header, work)
    _check_kernel(k, without_expectations(kernel), header)
    _refuse(k, base)
    return replace(normal_form(kernel), choices=())


@dataclass
class _Work:
    grid: dev.Grid
    prologue: tuple[dev.Statement, ...] = ()
    roles: tuple[dev.Role, ...] = ()


def _work(k: State, sections: Sections, heads: list[dev.Role]) -> _Work:
    """What the threads do. Faults are recorded, and the result is then of no use."""
    k.machine = replace(k.machine, widths=frozenset())
    if sections.grid is not None:
        with k.recovering():
            return _Work(run_grid(k, sections.grid))
    prologue = run_prologue(k, sections.prologue)
    made: list[dev.Role] = []
    for node, head in zip(sections.roles, heads, strict=False):
        with k.recovering():
            made.append(run_role(k, node, head))
    return _Work(only_tiles(made[0].grid) if made else NO_GRID, prologue, tuple(made))


def _refuse(k: State, base: Context) -> None:
    found = [d for d in (*base.diagnostics, *k.diagnostics) if d.severity == "error"]
    if found:
        raise KernelError(sorted(found, key=lambda d: d.span or Span(0, 0, 0, 0))[:MAX_DIAGNOSTICS])


def _signature(source: Source) -> tuple[Context, Signature, ast.FunctionDef]:
    functions = [f.node for f in source.functions.values()]
    if len(functions) != 1 or next(iter(source.functions.values())).role != "kernel" or source.constants:
        others = [*source.constants.values(), *functions[1:], *functions]
        extra = span_of(others[0])
        hint = "put other kernels, constants and @inline functions into level-one texts"
        raise fault("level-one-kernel", "a level-two text holds one @kernel and nothing else", extra, hint)
    base = Context(source, {}, Facts())
    signature = read_signature(base, functions[0], frozenset())
    generic: list[ir.Tunable | ir.Scalar] = [*signature.tunables]
    generic += [s for s in signature.scalars if s.dtype == "const"]
    if generic:
        name = generic[0].name
        message = f"`{name}` is chosen when the schedule is made, so level two has no such parameter"
        raise fault("level-one-parameter", message, generic[0].span, "write its value where it is used")
    if signature.dtype_variables:
        name = signature.dtype_variables[0]
        where = next(a.span for a in signature.arrays if a.dtype == name)
        raise fault("level-one-parameter", f"`{name}` is a dtype variable", where, "write the dtype: f32, bf16 ...")
    return base, signature, functions[0]


def _kernel(node: ast.FunctionDef, signature: Signature, header: Header, work: _Work) -> dev.DeviceKernel:
    return dev.DeviceKernel(
        name=node.name,
        target=header.target,
        shape_class=header.shape_class,
        threads=header.threads,
        arrays=tuple(signature.arrays),
        scalars=tuple(signature.scalars),
        dims=header.dims,
        buffers=tuple(header.buffers),
        grid=work.grid,
        min_blocks=header.min_blocks,
        barriers=tuple(header.barriers),
        roles=work.roles,
        prologue=work.prologue,
        cluster=header.cluster,
        claims=tuple(header.claims),
    )


def _check_kernel(k: State, kernel: dev.DeviceKernel, header: Header) -> None:
    """Rules that need the whole kernel: shared memory, buffers that share bytes, what dispatch has checked."""
    machine = resources.check_schedule(kernel)
    buffers = {b.name: b for b in kernel.buffers}
    with k.recovering(), placed(header.nodes.get("cluster", header.nodes["target"]), header.nodes):
        resources.check_together(kernel)
    with k.recovering(), placed(_largest(kernel, header), header.nodes):
        resources.check_shared_limit(kernel, machine)
    for a, b in resources.overlapping(kernel):
        node, nodes = header.places[b.name]
        with k.recovering(), placed(node, nodes):
            resources.check_overlap(kernel, buffers[a.name], b)
    for where, broken in roles.broken_rules(kernel):
        with k.recovering(), _at(where, header):
            raise broken
    for statement in dev.statements(kernel):
        for view, vector in wide_accesses(statement):
            span = statement.fragment.origin.span if isinstance(statement, dev.Let) else statement.origin.span
            try:
                check_guards(kernel, view, vector)
            except Broken as broken:
                k.report(fault(broken.code, broken.message, span, broken.hint, **broken.facts))


def _at(where: roles.Where, header: Header) -> AbstractContextManager[None]:
    """The place of a declaration, or of a statement."""
    return placed(*header.places[where]) if isinstance(where, str) else placed(where.span, {})


def _largest(kernel: dev.DeviceKernel, header: Header) -> ast.AST | Span:
    """The declaration of the buffer that takes most."""
    if not kernel.buffers:
        return span_of(next(iter(header.nodes.values())))
    largest = max(kernel.buffers, key=lambda b: dev.stage_bytes(b) * b.stages)
    return header.places[largest.name][0]
