"""A schedule as text: what was decided and why, where everything lives, and the order of work."""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import AllOf, AnyOf, Compare, Condition, Index, Negation


def schedule_text(schedule: sch.Schedule) -> str:
    """The whole schedule; each node ends with the line of the kernel text that it comes from."""
    guards = ", ".join(f"{g.kind}({g.subject})" for g in schedule.shape_class.guards)
    lines = [f"schedule {schedule.name} for {schedule.target}, class {schedule.shape_class.name} [{guards}]"]
    lines += [f"  # {choice}" for choice in schedule.choices]
    lines += [f"  {_buffer(b)}" for b in schedule.buffers]
    lines += [f"  before the grid: {_panels(s)}" for s in schedule.shared]
    lines += [f"  {line}" for node in schedule.body for line in _node(node)]
    return "\n".join(lines)


def report(schedule: sch.Schedule) -> tuple[str, ...]:
    """One line for each choice."""
    return tuple(str(choice) for choice in schedule.choices)


def _buffer(buffer: sch.Buffer) -> str:
    stages = f" x {buffer.stages} stages" if buffer.stages > 1 else ""
    return f"{buffer.name}: {buffer.dtype} {buffer.layout} in {buffer.space}{stages}"


def _panels(shared: sch.SharedPanels) -> str:
    names = ", ".join(v.name for v in shared.variables)
    return f"{shared.atom.name} {_region(shared.source)} for each {names} if {shared.reuse} > 1"


def _node(node: sch.Node) -> Iterator[str]:
    match node:
        case sch.Nest():
            yield f"for {', '.join(map(_axis, node.axes)) or 'once'}:{_at(node.origin)}"
            yield from (f"  {_output(output)}" for output in node.outputs)
        case sch.Pipelined(_, steady, last):
            yield f"one tile late:{_at(node.origin)}"
            yield from (f"  {line}" for line in _node(steady))
            yield "  after a thread's last tile:"
            yield from (f"    {line}" for line in _node(last))
        case sch.RowGroup(axis, nests, origin):
            yield f"by row {_axis(axis)}:{_at(origin)}"
            yield from (f"  {line}" for nest in nests for line in _node(nest))
        case sch.Invoke():
            sign = "+=" if node.accumulate and node.atom.kind == "mma" else "="
            *sources, target = map(_region, node.operands)
            shared = f" unless shared {node.shared.slot}" if node.shared else ""
            yield f"{target} {sign} {node.atom.name}({', '.join(sources)}){shared}{_at(node.origin)}"
        case sch.Scan(word, target, source, axes, axis, origin) | sch.ArgReduce(
            word, target, source, axes, axis, origin
        ):
            spaces = ", ".join(map(_axis, axes))
            of = f"{word} of {expression_text(source)} along {axes[axis].symbol}"
            yield f"{target.name} = {of} for {spaces}{_at(origin)}"
        case sch.Loop():
            yield f"{'parallel' if node.parallel else 'loop'} {_ranges(node)}:{_at(node.origin)}"
            yield from (f"  {line}" for inner in node.body for line in _node(inner))
        case sch.Branch():
            yield f"if {_condition(node.condition)}:{_at(node.origin)}"
            yield from (f"  {line}" for inner in node.then for line in _node(inner))
            yield "else:"
            yield from (f"  {line}" for inner in node.otherwise for line in _node(inner))
        case sch.Wait(token, pending):
            yield f"wait {token.name} pending {pending}"
        case sch.Arrive(barrier):
            yield f"arrive {barrier}"
        case sch.InRole(role, body):
            yield f"role {role.name} ({role.participants.count} {role.participants.scope}):"
            yield from (f"  {line}" for inner in body for line in _node(inner))


def _at(origin: object) -> str:
    span = getattr(origin, "span", None)
    return f"  # line {span.line}" if span else ""


def _axis(axis: sch.Axis) -> str:
    return f"{axis.symbol} in {axis.lo}..{axis.hi}" + ("" if axis.full else f" of {axis.extent}")


def _ranges(loop: sch.Loop) -> str:
    parts = zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True)
    return ", ".join(f"{v} in {lo}..{hi} step {step}" for v, lo, hi, step in parts) or "once"


def _region(region: sch.Region) -> str:
    return f"{region.base}[{region.offset}; {region.rows} by {region.row}, {region.columns} by {region.column}]"


def _output(output: sch.Output) -> str:
    at = ", ".join(str(c) if isinstance(c, Index) else expression_text(c) for c in output.coordinates)
    match output:
        case sch.WriteBuffer(buffer, _, value):
            return f"{buffer.name}[{at}] = {expression_text(value)}"
        case sch.ReduceBuffer(buffer, _, word, value):
            return f"{buffer.name}[{at}] = {word} of {expression_text(value)}"
        case sch.WriteArray(array, _, value):
            how = "add" if output.add else output.via
            return f"{array}[{at}] <- {expression_text(value)} ({how})"
        case sch.WritePairs(array, _, (even, odd)):
            return f"{array}[{at}] <- {expression_text(even)} | {expression_text(odd)}"
        case sch.Prefetch(array):
            return f"prefetch {array}[{at}]"


def expression_text(expression: sch.Expression) -> str:
    match expression:
        case sch.Constant(value):
            return str(value)
        case sch.Position(position):
            return f"({position})"
        case sch.Truth(condition):
            return f"({_condition(condition)})"
        case sch.Parameter(name):
            return name
        case sch.Read(buffer, coordinates):
            return f"{buffer.name}[{', '.join(map(str, coordinates))}]"
        case sch.Fetch(array, coordinates, _, inside, fill):
            at = ", ".join(str(c) if isinstance(c, Index) else expression_text(c) for c in coordinates)
            return f"{array}[{at}]" + (f" else {fill}" if inside else "")
        case sch.Apply(word, arguments):
            return f"{word}({', '.join(map(expression_text, arguments))})"


def _condition(condition: object) -> str:
    if isinstance(condition, Compare | AllOf | AnyOf | Negation):
        known: Condition = condition
        return str(known)
    return expression_text(condition)  # type: ignore[arg-type]
