"""The top of a level-two kernel: schedule, shape class, distributions, shared buffers."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from math import lcm

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.claims import claim_of
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.elaborate.operands import Poison, source_text
from kernelagent.dsl.index import index, symbol
from kernelagent.dsl.lanes import Distribution, Mode
from kernelagent.dsl.level2 import resources, roles, rules
from kernelagent.dsl.level2.calls import Matched, match
from kernelagent.dsl.level2.expressions import integer, integers
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.rules import Machine
from kernelagent.dsl.level2.state import Phased, State, placed
from kernelagent.dsl.level2.statements import check_bindable
from kernelagent.dsl.level2.words import GUARDS
from kernelagent.dsl.schedule import Guard, ShapeClass
from kernelagent.dsl.syntax import Fault, fault, span_of

_GENERAL = ShapeClass("general")


@dataclass
class Header:
    """What stands in front of the grid, and where."""

    target: str = ""
    threads: int = 0
    min_blocks: int = 1
    dims: tuple[str, ...] = ()
    shape_class: ShapeClass = _GENERAL
    together: tuple[int, int] = (1, 1)  # tiles of a cluster
    buffers: list[dev.SharedBuffer] = field(default_factory=list)
    barriers: list[dev.MBarrier] = field(default_factory=list)
    claims: list[ir.Claim] = field(default_factory=list)
    nodes: dict[str, ast.expr] = field(default_factory=dict)  # of `schedule`
    places: dict[str, tuple[ast.expr, dict[str, ast.expr]]] = field(default_factory=dict)  # of buffers, barriers, roles

    @property
    def cluster(self) -> int:
        return self.together[0] * self.together[1]


@dataclass(frozen=True)
class Sections:
    """A kernel's statements: its header, then one grid, or what all threads do first and the roles."""

    header: list[ast.stmt]
    prologue: list[ast.stmt]
    roles: list[ast.With]
    grid: ast.For | None


def split_body(node: ast.FunctionDef) -> Sections:
    """Raises Fault where the grid or the roles do not come last."""
    body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    roles = [s for s in body if isinstance(s, ast.With)]
    if roles:
        first = body.index(roles[0])
        behind = [s for s in body[first:] if not isinstance(s, ast.With)]
        if behind:
            hint = "put it in front of the roles, or into one behind its grid"
            raise fault("roles", "roles are the last statements of a kernel", behind[0], hint)
        count = max((n for n, s in enumerate(body[:first], 1) if _declares(s)), default=0)
        return Sections(body[:count], body[count:first], roles, None)
    *header, last = body or [ast.Pass()]
    if not isinstance(last, ast.For):
        hint = "end the kernel with `for i, j in tiles((M, N), (128, 128)):`"
        raise fault("no-tiles", f"the kernel `{node.name}` does not end with its grid", last if body else node, hint)
    return Sections(header, [], [], last)


_DECLARATIONS = ("schedule", "shape_class", "claim", "distribution", "shared", "mbarrier")


def _declares(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=word))) | ast.Assign(value=ast.Call(func=ast.Name(id=word))):
            return word in _DECLARATIONS
    return False


def read_header(k: State, header: Header, statements: list[ast.stmt]) -> None:
    """Read every line; the first one is `schedule`. Faults are recorded."""
    for n, statement in enumerate(statements):
        complete = False
        with k.recovering():
            _line(k, header, statement, first=n == 0)
            complete = True
        if n == 0 and not complete:
            break  # everything below is judged against the target and the threads
        if not complete and isinstance(statement, ast.Assign):
            k.names |= {t.id: Poison() for t in statement.targets if isinstance(t, ast.Name)}
    if not header.target and not k.diagnostics:
        where = statements[0] if statements else ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=1)
        k.report(_no_schedule(where))


def _no_schedule(where: ast.AST) -> Fault:
    hint = "begin the kernel with `schedule(sm_80, threads=128)`"
    return fault("schedule-missing", "the kernel does not say its target and threads", where, hint)


def _line(k: State, header: Header, statement: ast.stmt, first: bool) -> None:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="schedule")) as node) if first:
            _schedule(k, header, match(k, node))
        case _ if first:
            raise _no_schedule(statement)
        case ast.Expr(value=ast.Call(func=ast.Name(id="shape_class")) as node):
            header.shape_class = _shape_class(k, match(k, node))
        case ast.Expr(value=ast.Call(func=ast.Name(id="claim")) as node):
            for argument in (*node.args, *node.keywords):
                with k.recovering():
                    header.claims.append(claim_of(argument))
        case ast.Assign(targets=[ast.Name() as target], value=ast.Call(func=ast.Name(id="distribution")) as node):
            check_bindable(k, target)
            k.names[target.id] = _distribution(k, match(k, node))
        case ast.Assign(targets=[ast.Name() as target], value=ast.Call(func=ast.Name(id="shared")) as node):
            check_bindable(k, target)
            _shared(k, header, target.id, match(k, node))
        case ast.Assign(targets=[ast.Name() as target], value=ast.Call(func=ast.Name(id="mbarrier")) as node):
            check_bindable(k, target)
            _barrier(k, header, target.id, match(k, node))
        case _:
            hint = "here stand schedule, shape_class, claim, and names of `distribution`, `shared` and `mbarrier`"
            text = source_text(statement).splitlines()[0]
            raise fault("header-late", f"`{text}` cannot stand in front of declarations or the grid", statement, hint)


def _schedule(k: State, header: Header, call: Matched) -> None:
    header.target, header.threads = call.name("target"), integer(k, call.nodes["threads"])
    header.min_blocks, header.together, header.nodes = call.count("min_blocks", 1), _cluster(k, call), call.nodes
    if "dims" in call.nodes:
        header.dims = _dims(k, call.nodes["dims"], header.dims)
    widths = k.machine.widths | {header.threads}
    k.machine = replace(
        k.machine, target=header.target, threads=header.threads, cluster=header.cluster, together=header.together,
        widths=widths,
    )  # fmt: skip
    kernel_like = dev.DeviceKernel(
        "", header.target, ShapeClass(""), header.threads, (), (), (), (), NO_GRID, cluster=header.cluster
    )
    with placed(call.node, call.nodes):
        resources.check_schedule(kernel_like)


NO_GRID = dev.Grid((), (), (), (), (), ir.Origin(span_of(ast.Pass(lineno=1, col_offset=0))))


def _cluster(k: State, call: Matched) -> tuple[int, int]:
    """`cluster=n`: n rows of tiles; `cluster=(rows, columns)`."""
    node = call.nodes.get("cluster")
    if not isinstance(node, ast.Tuple):
        return call.count("cluster", 1), 1
    found = integers(k, node)
    if len(found) != 2:
        raise fault("cluster", f"`{source_text(node)}` is not rows and columns of tiles", node, "write cluster=(1, 2)")
    return found[0], found[1]


def _dims(k: State, node: ast.expr, plain: tuple[str, ...]) -> tuple[str, ...]:
    """All dims in their order, with those that no array names by itself."""
    entries = node.elts if isinstance(node, ast.Tuple) else [node]
    names = tuple(e.id for e in entries if isinstance(e, ast.Name))
    if len(names) != len(entries) or not set(plain) <= set(names) or len(set(names)) != len(names):
        raise fault("dim-unbound", f"`{source_text(node)}` does not name each dim once", node, f"among them {plain}")
    for name in names:
        if name not in plain:
            k.base.bind(name, symbol(name, "dim"), node, "dim")
    return names


# Shape class -----------------------------------------------------------------------------------------


def _shape_class(k: State, call: Matched) -> ShapeClass:
    guards = tuple(_guard(k, g) for g in call.rest)
    for guard, node in zip(guards, call.rest, strict=True):
        _check_taken(guard, guards, node)
    return ShapeClass(call.name("name"), guards)


def _check_taken(guard: Guard, guards: tuple[Guard, ...], node: ast.expr) -> None:
    """Raises Fault where no call with any element in it is dispatched here: everything would be proved of nothing."""
    steps = [g.value for g in guards if g.kind == "divides" and g.subject == guard.subject]
    least = lcm(*steps) if steps else 1
    if guard.kind == "range" and guard.value < least:
        text = source_text(node)
        also = f" and divides({guard.subject}, {least})" if steps else ""
        message = f"no {guard.subject} above 0 satisfies {text}{also}"
        hint = f"write range({guard.subject}, {least}) or more, or drop one of them: no call would come here"
        raise fault("assume-contradiction", message, node, hint, least=least)


def _guard(k: State, node: ast.expr) -> Guard:
    match node:
        case ast.Call(func=ast.Name(id=kind), args=[ast.Name(id=subject), *rest], keywords=[]) if len(rest) <= 1:
            if kind not in GUARDS:
                raise _unknown_guard(node, kind)
            if subject not in k.base.names:
                raise k.unknown(node.args[0])  # type: ignore[arg-type]  # a Name by the pattern
            value = integer(k, rest[0]) if rest else 0
            if kind in ("aligned", "divides") and value < 1:
                raise fault("guard", f"`{source_text(node)}` divides by {value}", node, "write 1 or more")
            return Guard(kind, subject, value)  # type: ignore[arg-type]
    raise _unknown_guard(node, source_text(node))


def _unknown_guard(node: ast.expr, kind: str) -> Fault:
    close = nearest(kind, list(GUARDS))
    hint = (
        f"did you mean `{close}`?" if close else "guards are unit_stride(x), aligned(x, 16), divides(K, 8), range(K, n)"
    )
    return fault("guard", f"`{kind}` is not a guard", node, hint, nearest=close)


# Distributions and buffers ---------------------------------------------------------------------------


def _distribution(k: State, call: Matched) -> Distribution:
    made = Distribution(
        integers(k, call.nodes["shape"]), _modes(k, call.nodes["lanes"]), _modes(k, call.nodes["values"])
    )
    with placed(call.node, call.nodes):
        rules.check_layout(k.machine, made)
    return tidy(made) or made


def _modes(k: State, node: ast.expr) -> tuple[Mode, ...]:
    entries = [integers(k, e) for e in node.elts] if isinstance(node, ast.Tuple) else []
    if not isinstance(node, ast.Tuple) or any(len(e) != 3 for e in entries):
        hint = "write a tuple of (extent, axis, stride), first fastest: `((4, 1, 2), (8, 0, 1))`"
        raise fault("layout-mode", f"`{source_text(node)}` is no tuple of modes", node, hint)
    return tuple(Mode(*e) for e in entries)


def _shared(k: State, header: Header, name: str, call: Matched) -> None:
    swizzle = None
    if "swizzle" in call.nodes:
        parts = integers(k, call.nodes["swizzle"])
        if len(parts) != 3:
            raise fault("swizzle", "a swizzle is (bits, base, shift)", call.nodes["swizzle"], "write e.g. (3, 3, 3)")
        with placed(call.node, call.nodes):
            swizzle = resources.swizzle(*parts)
    buffer = dev.SharedBuffer(
        name, call.dtype(), integers(k, call.nodes["shape"]), call.count("stages", 1), swizzle, call.count("pad", 0),
        call.count("offset", 0), call.origin, call.count("panel", 0),
    )  # fmt: skip
    with placed(call.node, call.nodes):
        resources.check_buffer(buffer)
    header.buffers.append(buffer)
    header.places[name] = (call.node, call.nodes)
    k.machine = replace(k.machine, buffers={**k.machine.buffers, name: buffer})
    k.names[name] = dev.Shared(name, index(0), tuple(range(len(buffer.shape))))


def _barrier(k: State, header: Header, name: str, call: Matched) -> None:
    barrier = dev.MBarrier(
        name, integer(k, call.nodes["arrivals"]), call.count("stages", 1), call.count("offset", 0), call.origin
    )
    with placed(call.node, call.nodes):
        roles.check_barrier(k.machine.target, barrier)
    header.barriers.append(barrier)
    header.places[name] = (call.node, call.nodes)
    k.machine = replace(k.machine, barriers={**k.machine.barriers, name: barrier})
    k.names[name] = Phased(name, None)


# Roles -------------------------------------------------------------------------------------------------


def read_roles(k: State, header: Header, nodes: list[ast.With]) -> list[dev.Role]:
    """The heads of all roles, in front of everything else: distributions are over their threads."""
    found: list[dev.Role] = []
    for node in nodes:
        with k.recovering():
            found.append(_role(k, header, node))
    k.machine = replace(k.machine, widths=frozenset(r.threads for r in found))
    return found


def _role(k: State, header: Header, node: ast.With) -> dev.Role:
    match node.items:
        case [ast.withitem(context_expr=ast.Call(func=ast.Name(id="role")) as head, optional_vars=None)]:
            call = match(k, head)
        case _:
            hint = 'write `with role("producer", warps=(0, 4)):`'
            raise fault("roles", "only a role stands behind `with`", node.items[0].context_expr, hint)
    name, warps = call.name("name"), integers(k, call.nodes["warps"])
    if len(warps) != 2 or not 0 <= warps[0] < warps[1]:
        hint = "write the first warp and the one behind the last: `warps=(0, 4)`"
        raise fault("roles", f"`{source_text(call.nodes['warps'])}` is no range of warps", call.nodes["warps"], hint)
    if f"role {name}" in header.places:
        raise fault("duplicate-name", f"there is a role `{name}` already", call.nodes["name"], "choose another name")
    header.places[f"role {name}"] = (head, call.nodes)
    registers = integer(k, call.nodes["registers"]) if "registers" in call.nodes else None
    return dev.Role(name, warps[0], warps[1] - warps[0], NO_GRID, registers)


def state_for(base: Context) -> State:
    return State(base, Machine("", 0, dict(base.arrays), {}, dict(base.scalars)))
