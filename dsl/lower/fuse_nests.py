"""Merge nests over the same space: a chain is computed once, its reductions and stores in the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.lower.rewrite import Substitution, map_output, output_expressions

Compatible = Callable[[sch.Nest, sch.Nest], bool]


def fuse_nests(nodes: Sequence[sch.Node], compatible: Compatible) -> tuple[sch.Node, ...]:
    """Move each nest up into the nearest earlier nest over the same axes, unless something between depends on it."""
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: fuse_nests(body, compatible))
        partner = _partner(result, node, compatible) if isinstance(node, sch.Nest) else None
        if partner is None:
            result.append(node)
        else:
            earlier = result[partner]
            assert isinstance(earlier, sch.Nest)
            assert isinstance(node, sch.Nest)
            result[partner] = merged(earlier, node)
    return tuple(result)


def map_bodies(node: sch.Node, change: Callable[[tuple[sch.Node, ...]], tuple[sch.Node, ...]]) -> sch.Node:
    match node:
        case sch.Loop() | sch.InRole():
            return replace(node, body=change(node.body))
        case sch.Branch():
            return replace(node, then=change(node.then), otherwise=change(node.otherwise))
        case _:
            return node


def _partner(result: list[sch.Node], nest: sch.Nest, compatible: Compatible) -> int | None:
    reads, writes = effects(nest)
    for k in range(len(result) - 1, -1, -1):
        earlier = result[k]
        if isinstance(earlier, sch.Nest) and mergeable(earlier, nest) and compatible(earlier, nest):
            return k
        earlier_reads, earlier_writes = effects(earlier)
        if writes & (earlier_reads | earlier_writes) or reads & earlier_writes:
            return None
    return None


def same_space(a: sch.Nest, b: sch.Nest) -> bool:
    return len(a.axes) == len(b.axes) and all(
        (x.extent, x.lo, x.hi) == (y.extent, y.lo, y.hi) for x, y in zip(a.axes, b.axes, strict=True)
    )


def renaming(a: sch.Nest, b: sch.Nest) -> dict[str, Index]:
    """Symbols of b -> symbols of a."""
    return {y.symbol.name: index(x.symbol) for x, y in zip(a.axes, b.axes, strict=True)}


def mergeable(a: sch.Nest, b: sch.Nest) -> bool:
    """Whether running b's outputs right after a's, point by point, means the same as a then b."""
    if not same_space(a, b):
        return False
    rename = Substitution(renaming(a, b))
    outputs = [map_output(o, rename) for o in b.outputs]
    return all(_order_kept(x, y) for x in a.outputs for y in outputs)


def _order_kept(a: sch.Output, b: sch.Output) -> bool:
    """No hazard between an output of the first nest and one of the second, renamed to its symbols."""
    a_target, b_target = target_name(a), target_name(b)
    if a_target == b_target and not (isinstance(a, sch.WriteArray) and isinstance(b, sch.WriteArray)):
        return False
    elementwise = isinstance(a, sch.WriteBuffer)
    for e in output_expressions(b):
        if (
            isinstance(e, sch.Read)
            and e.buffer.name == a_target
            and not (elementwise and e.coordinates == a.coordinates)
        ):
            return False
        if isinstance(e, sch.Fetch) and e.array == a_target:
            return False
    return _reads_before_overwrite(a, b, b_target)


def _reads_before_overwrite(a: sch.Output, b: sch.Output, b_target: str) -> bool:
    if isinstance(b, sch.Prefetch):
        return True
    for e in output_expressions(a):
        if isinstance(e, sch.Read) and e.buffer.name == b_target:
            if isinstance(b, sch.ReduceBuffer) or e.coordinates != b.coordinates:
                return False
        elif isinstance(e, sch.Fetch) and e.array == b_target and e.coordinates != b.coordinates:
            return False
    return True


def target_name(output: sch.Output) -> str:
    """What an output writes; nothing has the name of a prefetch."""
    if isinstance(output, sch.Prefetch):
        return ""
    return output.array if isinstance(output, sch.WriteArray | sch.WritePairs) else output.buffer.name


def merged(a: sch.Nest, b: sch.Nest) -> sch.Nest:
    """a's outputs, then b's; reads of what a writes become the written expressions."""
    written = {(o.buffer.name, o.coordinates): o.value for o in a.outputs if isinstance(o, sch.WriteBuffer)}
    rename = Substitution(renaming(a, b), lambda read: written.get((read.buffer.name, read.coordinates)))
    return replace(a, outputs=(*a.outputs, *(map_output(o, rename) for o in b.outputs)))


def effects(node: sch.Node) -> tuple[set[str], set[str]]:
    """Names of the buffers and arrays that a node reads and writes."""
    reads: set[str] = set()
    writes: set[str] = set()
    for part in sch.walk((node,)):
        match part:
            case sch.Nest(outputs=outputs):
                for output in outputs:
                    writes.add(target_name(output))
                    reads |= _names_read(output)
            case sch.Invoke(operands=operands, accumulate=accumulate):
                reads |= {r.base for r in (operands if accumulate else operands[:-1])}
                writes.add(operands[-1].base)
            case sch.Scan() | sch.ArgReduce():
                reads |= _names_read(sch.WriteBuffer(part.target, (), part.source))
                writes.add(part.target.name)
            case sch.Branch(condition=condition) if isinstance(
                condition, sch.Constant | sch.Read | sch.Fetch | sch.Apply
            ):
                reads |= _names_read_by(condition)
            case _:
                pass
    return reads, writes


def _names_read_by(expression: sch.Expression) -> set[str]:
    from kernelagent.dsl.lower.rewrite import walk_expression

    found: set[str] = set()
    for e in walk_expression(expression):
        if isinstance(e, sch.Read):
            found.add(e.buffer.name)
        elif isinstance(e, sch.Fetch):
            found.add(e.array)
    return found


def _names_read(output: sch.Output) -> set[str]:
    found: set[str] = set()
    for e in output_expressions(output):
        if isinstance(e, sch.Read):
            found.add(e.buffer.name)
        elif isinstance(e, sch.Fetch):
            found.add(e.array)
    return found


def drop_dead_buffers(nodes: tuple[sch.Node, ...]) -> tuple[sch.Node, ...]:
    """Remove writes of buffers that nothing reads, to a fixed point."""
    while True:
        read: set[str] = set()
        for node in nodes:
            read |= effects(node)[0]
        kept = _without_dead(nodes, read)
        if kept == nodes:
            return nodes
        nodes = kept


def _is_dead(output: sch.Output, read: set[str]) -> bool:
    return isinstance(output, sch.WriteBuffer | sch.ReduceBuffer) and output.buffer.name not in read


def _without_dead(nodes: tuple[sch.Node, ...], read: set[str]) -> tuple[sch.Node, ...]:
    kept: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: _without_dead(body, read))
        if isinstance(node, sch.Nest):
            outputs = tuple(o for o in node.outputs if not _is_dead(o, read))
            if not outputs:
                continue
            node = node if outputs == node.outputs else replace(node, outputs=outputs)
        kept.append(node)
    return tuple(kept)


def set_unroll(nodes: tuple[sch.Node, ...], factor: int) -> tuple[sch.Node, ...]:
    """Policy `unroll`: copies of the vector body of every nest that is long enough."""
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: set_unroll(body, factor))
        result.append(replace(node, unroll=factor) if isinstance(node, sch.Nest) else node)
    return tuple(result)
