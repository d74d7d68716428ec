"""A device schedule as a C++ body: the text between a prelude and the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby

from kernelagent.dsl import device as dev
from kernelagent.dsl.targets.cuda.body import Body, Place, fragment_name, require_same
from kernelagent.dsl.targets.cuda.emit_global import emit_load, emit_store
from kernelagent.dsl.targets.cuda.emit_grid import emit_grid, launch_blocks, loop_head
from kernelagent.dsl.targets.cuda.emit_hopper import emit_hopper, fenced_products, map_parameters, settle_before
from kernelagent.dsl.targets.cuda.emit_index import array_name, plain, scalar_name, symbol_name
from kernelagent.dsl.targets.cuda.emit_mma import emit_mma
from kernelagent.dsl.targets.cuda.emit_reduce import emit_arg_reduce, emit_reduce, emit_scan
from kernelagent.dsl.targets.cuda.emit_roles import emit_roles
from kernelagent.dsl.targets.cuda.emit_shared import emit_copy, emit_load_shared, emit_store_shared
from kernelagent.dsl.targets.cuda.emit_values import emit_pointwise, emit_positions, emit_renaming, fusable
from kernelagent.dsl.targets.cuda.emit_words import CTYPES

__all__ = ["emit", "entry_name", "launch_blocks"]


def emit(kernel: dev.DeviceKernel) -> str:
    """The body of a kernel, without a prelude. Deterministic.

    Raises LayoutMismatch for a schedule whose distributions do not fit its operations, Unsupported for what the
    target has no code for.
    """
    body = Body(kernel)
    if kernel.roles:
        inside = emit_roles(kernel, body, emit_statements)
    else:
        emit_grid(body, kernel.grid, emit_statements)
        inside = [*body.header(), *body.out.lines]
    lines = [
        *(f"// {choice}" for choice in kernel.choices),
        *(f"// {fact}" for fact in _facts(kernel)),
        f'#line {kernel.grid.origin.span.line} "kernel"',
        f"{_head(kernel)}({_parameters(kernel)}) {{",
        "    KA_PROLOGUE",
        "    const int tid = ka_thread();",
        *inside,
        "}",
    ]
    return "\n".join(lines) + "\n"


def entry_name(kernel: dev.DeviceKernel) -> str:
    """The C name of the kernel's function."""
    return f"k_{plain(kernel.name)}"


def _head(kernel: dev.DeviceKernel) -> str:
    facts = f"{entry_name(kernel)}, {kernel.threads}, {kernel.min_blocks}"
    return f"KA_KERNEL({facts})" if kernel.cluster == 1 else f"KA_CLUSTER_KERNEL({facts}, {kernel.cluster})"


def _facts(kernel: dev.DeviceKernel) -> list[str]:
    shape = f"shapes: {kernel.shape_class.name}"
    return [f"{kernel.target}, {shape}, {kernel.threads} threads, {kernel.shared_bytes} bytes of shared memory"]


def _parameters(kernel: dev.DeviceKernel) -> str:
    arrays = [f"ka_array<{CTYPES[a.dtype]}, {max(1, len(a.dims))}> {array_name(a.name)}" for a in kernel.arrays]
    dims = [f"int d_{plain(d)}" for d in kernel.dims]
    scalars = [f"{CTYPES[s.dtype]} {scalar_name(s.name)}" for s in kernel.scalars if s.dtype != "const"]
    return ", ".join([*arrays, *dims, *scalars, *map_parameters(kernel)])


# Statements ------------------------------------------------------------------------------------------------


def emit_statements(body: Body, statements: Sequence[dev.Statement]) -> None:
    body.fenced |= fenced_products(statements)
    for together, group in groupby(statements, fusable):
        if together:
            emit_pointwise(body, [s for s in group if isinstance(s, dev.Let)])
            continue
        for statement in group:
            emit_statement(body, statement)


def emit_statement(body: Body, statement: dev.Statement) -> None:
    body.out.at(statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin)
    match statement:
        case dev.Let():
            _emit_let(body, statement)
        case dev.Store() | dev.Scatter():
            emit_store(body, statement)
        case dev.StoreShared():
            emit_store_shared(body, statement)
        case dev.Copy():
            emit_copy(body, statement)
        case dev.Commit():
            body.out.put("ka_commit();")
        case dev.WaitGroup(pending):
            body.out.put(f"ka_wait_group<{pending}>();")
        case dev.BlockBarrier():
            body.out.put("ka_barrier();")
        case dev.For():
            _emit_for(body, statement)
        case dev.If():
            _emit_if(body, statement)
        case _:
            emit_hopper(body, statement)


def _emit_let(body: Body, let: dev.Let) -> None:
    match let.operation:
        case dev.Load() | dev.Gather():
            emit_load(body, let)
        case dev.LoadShared():
            emit_load_shared(body, let)
        case dev.Positions():
            emit_positions(body, let)
        case dev.Reduce():
            emit_reduce(body, let)
        case dev.ArgReduce():
            emit_arg_reduce(body, let)
        case dev.Scan():
            emit_scan(body, let)
        case dev.Mma():
            emit_mma(body, let)
        case _:
            emit_renaming(body, let)


def _emit_for(body: Body, loop: dev.For) -> None:
    names = [_enter_carried(body, c) for c in loop.carried]
    settle_before(body, loop, names)
    with ExitStack() as nest:
        for k, variable in enumerate(loop.variables):
            head = loop_head(body, variable, loop.lo[k], loop.hi[k], loop.step[k])
            if k == len(loop.variables) - 1:
                body.out.put(f"#pragma unroll {loop.unroll}")
            nest.enter_context(body.out.block(head))
        nest.enter_context(body.scope())
        for carried, name in zip(loop.carried, names, strict=True):
            body.own(carried.inside, name)
        emit_statements(body, loop.body)
        body.out.at(loop.origin)
        _carry(body, loop.carried, names)
        if loop.counter is not None:
            body.out.put(f"++{symbol_name(loop.counter)};")
    for carried, name in zip(loop.carried, names, strict=True):
        body.own(carried.result, name)


def _enter_carried(body: Body, carried: dev.Carried) -> str:
    """The one array of a carried name: that of its first value where nothing else reads it."""
    for other in (carried.initial, carried.end, carried.result):
        require_same(carried.inside.layout, other.layout, f"{carried.inside.name}: carried")
    if body.ends_here(carried.initial):
        return body.place(carried.initial).text
    initial = body.place(carried.initial)
    name = body.declare(carried.inside)
    body.copy(name, carried.inside, initial)
    return name


def _carry(body: Body, carried: Sequence[dev.Carried], names: Sequence[str]) -> None:
    """All ends to the top of the body at once: what another carried name still has to read is saved first."""
    moves: list[tuple[str, dev.Fragment, Place]] = []
    for each, name in zip(carried, names, strict=True):
        source, target = body.place(each.end), body.place(each.inside)
        if source == target:
            continue
        if source.text in names:
            saved = body.fresh("saved")
            count = "" if each.end.layout is None else f"[{each.end.layout.registers}]"
            body.out.put(f"{CTYPES[each.end.dtype]} {saved}{count};")
            body.copy(saved, each.end, source)
            source = Place(saved, target.terms)
        moves.append((name, each.inside, source))
    for name, fragment, source in moves:
        body.copy(name, fragment, source)


def _emit_if(body: Body, branch: dev.If) -> None:
    for joined in branch.merged:
        for other in (joined.then, joined.otherwise):
            require_same(joined.result.layout, other.layout, f"{joined.result.name}: joined")
        body.declare(joined.result)
    condition = branch.condition
    test = body.place(condition).text if isinstance(condition, dev.Fragment) else body.texts.condition(condition)
    arms = [(f"if ({test})", branch.then, [m.then for m in branch.merged])]
    if branch.otherwise or branch.merged:
        arms.append(("else", branch.otherwise, [m.otherwise for m in branch.merged]))
    for head, statements, values in arms:
        with body.out.block(head), body.scope():
            emit_statements(body, statements)
            for joined, value in zip(branch.merged, values, strict=True):
                body.copy(fragment_name(joined.result), joined.result, body.place(value))
