"""Operations on registers of one thread: pointwise words, renamings, positions, values from indices."""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.targets.cuda.body import (
    Body,
    Place,
    fragment_name,
    operation_reads,
    registers,
    require_same,
)
from kernelagent.dsl.targets.cuda.emit_global import Access
from kernelagent.dsl.targets.cuda.emit_index import scalar_name
from kernelagent.dsl.targets.cuda.emit_words import CTYPES, cast, literal, word_text
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    coordinate_terms,
    follow,
    identity,
    plus,
)


def emit_scalar(body: Body, let: dev.Let) -> None:
    """A rank-0 value from scalars."""
    fragment, operation = let.fragment, let.operation
    match operation:
        case dev.Parameter(name):
            body.places[fragment.number] = Place(scalar_name(name), None)
        case dev.FromIndex(index):
            source = "i64" if body.texts.wide(index) else "i32"
            body.declare(fragment, f" = {cast(body.texts.text(index), source, fragment.dtype)}")
        case dev.FromCondition(condition):
            body.declare(fragment, f" = {body.texts.condition(condition)}")
        case dev.Pointwise(word, arguments):
            for argument in arguments:
                require_same(None, argument.layout, f"{fragment.name} = {word}")
            texts = [body.place(a).text for a in arguments]
            body.declare(fragment, f" = {word_text(word, texts, [a.dtype for a in arguments], fragment.dtype)}")
        case _:
            raise LayoutMismatch(f"{type(operation).__name__} makes no scalar")


# Groups of pointwise statements ------------------------------------------------------------------------


def fusable(statement: dev.Statement) -> bool:
    """Whether a statement only renames, makes a scalar or works register by register: a load of single elements in
    the loop that uses them needs no registers for those that wait."""
    match statement:
        case dev.Let(_, dev.Reindex(kind="stack")):
            return False
        case dev.Let(fragment, dev.Load(vector=1)):
            return fragment.layout is not None and fragment.dtype != "u4"
        case dev.Let(_, operation):
            return isinstance(operation, _RENAMING | _SCALAR | dev.Pointwise)
        case _:
            return False


_RENAMING = dev.Constant | dev.Stretch | dev.Reindex
_SCALAR = dev.FromIndex | dev.FromCondition | dev.Parameter


def emit_pointwise(body: Body, lets: Sequence[dev.Let]) -> None:
    """Consecutive statements in as few register loops as their registers allow; renamings cost nothing.

    Scalars depend on no register of the group in front of them, so they are emitted at once.
    """
    group: list[dev.Let] = []
    for let in lets:
        if isinstance(let.operation, _RENAMING):
            emit_renaming(body, let)
        elif let.fragment.layout is None:
            body.out.at(let.fragment.origin)
            emit_scalar(body, let)
        else:
            if group and not _joins(body, group, let):
                _emit_group(body, group)
                group = []
            _announce(body, let)
            group.append(let)
    if group:
        _emit_group(body, group)


def _joins(body: Body, group: list[dev.Let], let: dev.Let) -> bool:
    """Whether a statement can run in the same loop: equal registers, and it reads of the group only the current one."""
    if registers(group[0].fragment) != registers(let.fragment):
        return False
    own = identity(registers(let.fragment))
    names = {body.place(g.fragment).text for g in group}
    sources = [body.place(f) for f in operation_reads(let.operation)]
    return all(s.text not in names or (s.terms == own and s.offset == 0) for s in sources)


def _announce(body: Body, let: dev.Let) -> None:
    """Name the array of a group's member, so that later members can refer to it."""
    if isinstance(let.operation, dev.Pointwise):
        for argument in let.operation.arguments:
            if argument.layout is not None:
                require_same(let.fragment.layout, argument.layout, f"{let.fragment.name} = {let.operation.word}")
    body.own(let.fragment, fragment_name(let.fragment))


def _emit_group(body: Body, group: list[dev.Let]) -> None:
    local, count = _locals(body, group), registers(group[0].fragment)
    accesses: dict[int, Access] = {}
    for let in group:
        if isinstance(let.operation, dev.Load):
            body.out.at(let.fragment.origin)
            accesses[let.fragment.number] = Access(body, let.operation.view, let.operation.start, let.fragment.layout)
        if let.fragment.number not in local:
            body.out.put(f"{CTYPES[let.fragment.dtype]} {body.place(let.fragment).text}[{count}];")
    functions = [body.place(f).terms or () for let in group for f in operation_reads(let.operation)]
    functions += [f for access in accesses.values() for f in access.functions()]
    loops = Loops(count, [*functions, identity(count)])
    with body.out.loops(loops.heads()):
        for let in group:
            body.out.at(let.fragment.origin)
            if isinstance(let.operation, dev.Load):
                _load_member(body, let, loops, accesses[let.fragment.number], let.fragment.number in local)
            else:
                body.out.put(_member(body, let, loops, local))


def _load_member(body: Body, let: dev.Let, loops: Loops, access: Access, local: bool) -> None:
    assert isinstance(let.operation, dev.Load)
    target, dtype = body.place(let.fragment), let.fragment.dtype
    if local:
        body.out.put(f"{CTYPES[dtype]} {target.text};")
    fill = literal(let.operation.fill, dtype)
    body.out.put(f"ka_ldg<1>({target.address(loops)}, {access.at(loops)}, {access.inside(loops)}, {fill});")


def _locals(body: Body, group: list[dev.Let]) -> set[int]:
    """Fragments that are read in the group only, register by register: they need no array."""
    inside = [f.number for let in group for f in operation_reads(let.operation)]
    made = {let.fragment.number for let in group}
    found = {n for n in made if inside.count(n) == body.uses[n]}
    for number in found:
        body.places[number] = Place(body.places[number].text, None)
    return found


def _member(body: Body, let: dev.Let, loops: Loops, local: set[int]) -> str:
    assert isinstance(let.operation, dev.Pointwise)
    arguments = let.operation.arguments
    texts = [body.place(a).at(loops) for a in arguments]
    value = word_text(let.operation.word, texts, [a.dtype for a in arguments], let.fragment.dtype)
    target = body.place(let.fragment)
    declared = f"const {CTYPES[let.fragment.dtype]} " if let.fragment.number in local else ""
    return f"{declared}{target.at(loops)} = {value};"


# Renamings -----------------------------------------------------------------------------------------------


def emit_renaming(body: Body, let: dev.Let) -> None:
    """Constants, broadcasts and reindexing: the place of other registers, except that `stack` moves."""
    fragment = let.fragment
    match let.operation:
        case dev.Constant(value):
            body.constant(fragment, value)
        case dev.Stretch(x):
            body.places[fragment.number] = _stretched(body, fragment, x)
        case dev.Reindex("stack", parts, _):
            _emit_stack(body, fragment, parts)
        case dev.Reindex(kind, parts, arguments):
            body.places[fragment.number] = _reindexed(body, fragment, kind, parts[0], arguments)
        case other:
            raise LayoutMismatch(f"{type(other).__name__} renames nothing")


def _stretched(body: Body, fragment: dev.Fragment, x: dev.Fragment) -> Place:
    if x.layout is None:
        return body.place(x)
    target = _layout(fragment)
    axes = {a: a for a in range(len(x.shape)) if x.shape[a] == target.shape[a]}
    return body.place(x).renamed(follow(target, x.layout, axes))


def _reindexed(body: Body, fragment: dev.Fragment, kind: str, x: dev.Fragment, arguments: tuple[int, ...]) -> Place:
    if x.layout is None or fragment.layout is None:
        if registers(x) != registers(fragment):
            raise LayoutMismatch(f"{kind} of {x.name}: a tile and a scalar")
        return _first(body.place(x))
    target, source, place = fragment.layout, x.layout, body.place(x)
    match kind:
        case "expand":
            kept = [a for a in range(len(target.shape)) if a not in arguments]
            return place.renamed(follow(target, source, {a: k for k, a in enumerate(kept)}))
        case "permute":
            return place.renamed(follow(target, source, dict(enumerate(arguments))))
        case "take":
            rest = {a: a for a in range(len(target.shape))}
            return place.renamed(follow(target, source, rest), _register_of(source, arguments[0]))
        case _:
            _require_order(target, source)
            return place


def _first(place: Place) -> Place:
    """The only register as a scalar."""
    return place if place.terms is None else Place(f"{place.text}[{place.offset}]", None)


def _register_of(source: Distribution, position: int) -> int:
    """The register that holds `position` of the last axis, which lies in registers only."""
    axis = len(source.shape) - 1
    if source.extent_of(axis, source.lanes) > 1:
        raise LayoutMismatch(f"a position of an axis that is spread over threads: {source}")
    terms = coordinate_terms(source, axis)
    return next(r for r in range(source.registers) if sum(t(r) for t in terms) == position and _alone(source, r, axis))


def _alone(source: Distribution, register: int, axis: int) -> bool:
    """Whether a register's other coordinates are the thread's first."""
    others = (a for a in range(len(source.shape)) if a != axis)
    return all(t(register) == 0 for a in others for t in coordinate_terms(source, a))


def _require_order(target: Distribution, source: Distribution) -> None:
    """Registers keep their order in a reshape: checked at the corners of the digits of threads and registers."""
    if (target.threads, target.registers) != (source.threads, source.registers):
        raise LayoutMismatch(f"reshape from {source} to {target}")
    for thread in _corners(source.threads):
        for register in _corners(source.registers):
            here = _flat(target.coordinates(thread, register), target.shape)
            if here != _flat(source.coordinates(thread, register), source.shape):
                raise LayoutMismatch(f"reshape moves thread {thread} register {register}: {source} to {target}")


def _corners(count: int) -> list[int]:
    return sorted({0, count - 1} | {1 << k for k in range(count.bit_length()) if 1 << k < count})


def _flat(coordinates: tuple[int, ...], shape: tuple[int, ...]) -> int:
    at = 0
    for coordinate, extent in zip(coordinates, shape, strict=True):
        at = at * extent + coordinate
    return at


def _emit_stack(body: Body, fragment: dev.Fragment, parts: tuple[dev.Fragment, ...]) -> None:
    if fragment.layout is None or parts[0].layout is None:
        _emit_scalar_stack(body, fragment, parts)
        return
    axis = len(fragment.shape) - 1
    body.declare(fragment)
    rest = {a: a for a in range(axis)}
    for k, part in enumerate(parts):
        if part.layout is None:
            raise LayoutMismatch(f"stack of {part.name}: a tile and a scalar")
        to = follow(part.layout, fragment.layout, rest)
        source = body.place(part)
        offset = _register_of(fragment.layout, k)
        loops = Loops(registers(part), [to, source.terms or ()])
        with body.out.loops(loops.heads()):
            body.out.put(f"{Place(body.place(fragment).text, to, offset).at(loops)} = {source.at(loops)};")


def _emit_scalar_stack(body: Body, fragment: dev.Fragment, parts: tuple[dev.Fragment, ...]) -> None:
    """Scalars side by side: every thread holds them all."""
    layout = _layout(fragment)
    name = body.declare(fragment)
    if layout.extent_of(0, layout.lanes) > 1 or len(fragment.shape) != 1:
        raise LayoutMismatch(f"a stack of scalars that is spread over threads: {layout}")
    for k, part in enumerate(parts):
        body.out.put(f"{name}[{_register_of(layout, k)}] = {body.place(part).text};")


def emit_positions(body: Body, let: dev.Let) -> None:
    fragment, operation = let.fragment, let.operation
    assert isinstance(operation, dev.Positions)
    layout = _layout(fragment)
    first = plus(body.texts.text(operation.start), body.lane_sum(layout.lanes, {0: 1}))
    wide = body.texts.wide(operation.start)  # then the sum is cut to 32 bits, not its parts
    start = body.const("ka_i64" if wide else "int", "p", first)
    body.declare(fragment)
    terms = coordinate_terms(layout, 0)
    loops = Loops(registers(fragment), [terms, identity(registers(fragment))])
    with body.out.loops(loops.heads()):
        at = plus(start, loops.sum(terms))
        body.out.put(f"{body.place(fragment).at(loops)} = {f'(int)({at})' if wide else at};")


def _layout(fragment: dev.Fragment) -> Distribution:
    if fragment.layout is None:
        raise LayoutMismatch(f"{fragment.name}: a scalar where a tile is needed")
    return fragment.layout
