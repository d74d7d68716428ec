"""Small sizes for test runs, taken from the kernel: around its tile extents, within what it assumes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Index,
    Mod,
    Symbol,
    condition_indices,
    evaluate_condition,
)  # fmt: skip
from kernelagent.dsl.ir import Assume, For, If, Kernel, Module, Program, Statement

MOST_ELEMENTS = 1 << 23
"""Of all arrays of one test run."""
_SEARCHED = 4000
"""Combinations of sizes that are looked at for ones that the assumptions allow."""


def sizes(module: Module, tunables: Mapping[str, int | bool]) -> Iterator[dict[str, int]]:
    """Sizes of the entry's dims, most telling first: off the tile by one, below it, several tiles, aligned, one.

    Every result satisfies the entry's assumptions on sizes.
    """
    yield from _possible(module, tunables, lambda choices: itertools.islice(_combinations(choices), _SEARCHED))


def orders(module: Module, tunables: Mapping[str, int | bool]) -> Iterator[dict[str, int]]:
    """Sizes of which each dim in turn is the largest, by more than a tile: of every two dims, both orders.

    One dim taken for another shows only where it is the smaller one, or only where it is the larger.
    """
    yield from _possible(module, tunables, _each_largest)


def _each_largest(choices: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    least = [min(c) for c in choices]
    for axis in range(len(choices)) if len(choices) > 1 else ():
        others = max(n for a, n in enumerate(least) if a != axis)
        yield (*least[:axis], 2 * others + 3, *least[axis + 1 :])


def _possible(
    module: Module,
    tunables: Mapping[str, int | bool],
    combined: Callable[[Sequence[Sequence[int]]], Iterator[tuple[int, ...]]],
) -> Iterator[dict[str, int]]:
    """What is combined of the candidates of each dim, put right and within what the entry assumes, each once."""
    entry = module.entry
    conditions = _conditions(module)
    derived = _derived(conditions, entry.dims)
    free = [d for d in entry.dims if d not in derived]
    extents = _extents(module, tunables)
    extents |= _of_distinct(entry, extents)
    unknown = extents.get("", 1)  # no loop ends at it, but one with a literal end may cut it into tiles
    choices = [_candidates(d, extents.get(d, unknown), conditions) for d in free]
    whole = {d: max([_factor(c, d) for c in conditions], default=1) for d in free}
    seen: set[tuple[int, ...]] = set()
    for chosen in combined(choices):
        picked = [-(-n // whole[d]) * whole[d] for d, n in zip(free, chosen, strict=True)]
        found = _complete(dict(zip(free, picked, strict=True)), derived, tunables)
        if found is None or tuple(found.values()) in seen or not _allowed(found, conditions, tunables):
            continue
        if not has_data(entry, found) or _elements(entry, found) > MOST_ELEMENTS:
            continue
        seen.add(tuple(found.values()))
        yield found


def _elements(entry: Kernel | Program, found: Mapping[str, int]) -> int:
    """Of all arrays; those whose extents sizes alone do not give count as one."""
    total = 0
    for array in entry.arrays:
        try:
            total += prod(d.evaluate(found) for d in array.dims)
        except LookupError:
            total += 1
    return total


def members(module: Module, dim: str) -> list[int]:
    """Values that the entry's assumptions list for a dim: `D in (64, 128)`."""
    return sorted({m for c in _conditions(module) for m in _members(c, dim)})


def whole_rows(module: Module, found: Mapping[str, int], multiple: int) -> dict[str, int] | None:
    """The sizes with the dims that are the last of an array at a multiple; None if the entry does not allow them."""
    last = {s.name for a in module.entry.arrays if a.dims for s in a.dims[-1].symbols()}
    return completed(module, {d: -(-n // multiple) * multiple if d in last else n for d, n in found.items()})


def completed(module: Module, found: Mapping[str, int]) -> dict[str, int] | None:
    """The sizes with dims that follow from others put right; None if the entry does not allow them."""
    conditions = _conditions(module)
    derived = _derived(conditions, module.entry.dims)
    complete = _complete({d: n for d, n in found.items() if d not in derived}, derived, {})
    fine = complete is not None and _allowed(complete, conditions, {}) and has_data(module.entry, complete)
    return complete if fine else None


def deepened(
    module: Module, found: Mapping[str, int], tunables: Mapping[str, int | bool], iterations: int
) -> dict[str, int] | None:
    """The sizes with `iterations` - 1 more tiles along every dim at which a sequential loop ends: rings come around.

    None if the entry does not allow them.
    """
    conditions = _conditions(module)
    steps = _extents(module, tunables, sequential=True)
    listed = {d for d in found if any(_members(c, d) for c in conditions)}
    more = {d: n + (iterations - 1) * steps.get(d, 0) for d, n in found.items() if d not in listed}
    whole = {d: max([_factor(c, d) for c in conditions], default=1) for d in more}
    return completed(module, {**found, **{d: -(-n // whole[d]) * whole[d] for d, n in more.items()}})


def emptied(module: Module, found: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The sizes with each dim 0 alone, then all of them, where the entry allows it and data can be as it assumes.

    Zero dims are legal: loops of no iteration store what they began with, grids of no tile store nothing.
    """
    seen: list[dict[str, int]] = []
    for gone in (*((d,) for d in found), tuple(found)):
        empty = completed(module, {d: 0 if d in gone else n for d, n in found.items()})
        if empty is not None and 0 in empty.values() and empty not in seen:
            seen.append(empty)
            yield empty


def has_data(entry: Kernel | Program, found: Mapping[str, int]) -> bool:
    """Whether integer arrays of these sizes can hold what the entry assumes of them: no label lies below 0."""
    if all(a.data is None for a in entry.assumes):
        return True
    counts = {a.name: prod(d.evaluate(found) for d in a.dims) for a in entry.arrays}
    ranges = {a.data[1]: a.data[2] for a in entry.assumes if a.data is not None and a.data[0] == "range"}
    for assume in entry.assumes:
        match assume.data:
            case ("range", array, (lo, hi)):
                if counts[array] and hi.evaluate(found) <= lo.evaluate(found):
                    return False
            case ("partition", array, (total,)):
                if counts[array] < (2 if total.evaluate(found) else 1):
                    return False
            case ("distinct", array, _) if array in ranges:
                lo, hi = ranges[array]
                if counts[array] > hi.evaluate(found) - lo.evaluate(found):
                    return False
    return True


def _of_distinct(entry: Kernel | Program, extents: Mapping[str, int]) -> dict[str, int]:
    """`distinct(rows)` with `rows < P`: P is about as large as what cuts the rows."""
    tops = {a.data[1]: _name(a.data[2][1]) for a in entry.assumes if a.data is not None and a.data[0] == "range"}
    distinct = {a.data[1] for a in entry.assumes if a.data is not None and a.data[0] == "distinct"}
    found: dict[str, int] = {}
    for array in entry.arrays:
        top = tops.get(array.name)
        if array.name in distinct and top is not None and top not in extents:
            names = [s.name for d in array.dims for s in d.symbols()]
            found[top] = max((extents.get(n, 1) for n in names), default=1)
    return found


def _combinations(choices: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Every dim one past its tile, then diagonals, so that few runs see every candidate of every dim; then the rest."""
    longest = max((len(c) for c in choices), default=1)
    yield tuple(c[0] for c in choices)
    for shift in range(longest):
        yield tuple(c[(shift + axis) % len(c)] for axis, c in enumerate(choices))
        yield tuple(c[min(longest - 1 - shift, len(c) - 1)] for c in choices)
    yield from itertools.product(*choices)


def _candidates(dim: str, tile: int, conditions: Sequence[Condition]) -> list[int]:
    members = [m for c in conditions for m in _members(c, dim)]
    if members:
        return sorted(set(members))
    plain = [tile + 1, max(tile - 1, 1), 2 * tile + 3, tile] if tile > 1 else [2, 3, 4, 1]
    factor = max([_factor(c, dim) for c in conditions], default=1)
    return list(dict.fromkeys(-(-n // factor) * factor for n in plain))


def _members(condition: Condition, dim: str) -> list[int]:
    """`D in (64, 128)` is a disjunction of equalities; `D == 64` is one equality."""
    match condition:
        case AnyOf(parts):
            found = [_members(p, dim) for p in parts]
            return [m for f in found for m in f] if all(found) else []
        case Compare("==", a, b) if _name(a) == dim and b.constant is not None:
            return [b.constant]
        case Compare("==", a, b) if _name(b) == dim and a.constant is not None:
            return [a.constant]
    return []


def _factor(condition: Condition, dim: str) -> int:
    """The constant that must divide the dim."""
    match condition:
        case Compare("==", Index(terms=(((Mod(a, b),), 1),)), zero) if zero.constant == 0 and _name(a) == dim:
            return b.constant or 1
    return 1


def _name(value: Index) -> str | None:
    match value.terms:
        case (((Symbol(name, _),), 1),):
            return name
    return None


def _conditions(module: Module) -> list[Condition]:
    """The entry's assumptions on sizes, conjunctions taken apart."""
    return list(_flat(module.entry.assumes))


def _flat(assumes: Sequence[Assume]) -> Iterator[Condition]:
    pending = [a.condition for a in assumes if a.condition is not None]
    while pending:
        condition = pending.pop(0)
        if isinstance(condition, AllOf):
            pending = [*condition.parts, *pending]
        else:
            yield condition


def _derived(conditions: Sequence[Condition], dims: Sequence[str]) -> dict[str, Index]:
    """Dims that an equality gives in terms of others: `P == (H + 1) // 2`."""
    found: dict[str, Index] = {}
    for condition in conditions:
        if not isinstance(condition, Compare) or condition.relation != "==":
            continue
        for side, other in ((condition.a, condition.b), (condition.b, condition.a)):
            name = _name(side)
            free = name is not None and name in dims and name not in found and other.constant is None
            if free and name not in {s.name for s in other.symbols()} and not _depends(other, found):
                found[str(name)] = other
                break
    return found


def _depends(value: Index, derived: Mapping[str, Index]) -> bool:
    return any(s.name in derived for s in value.symbols())


def _complete(
    found: dict[str, int], derived: Mapping[str, Index], tunables: Mapping[str, int | bool]
) -> dict[str, int] | None:
    environment = {**_integers(tunables), **found}
    try:
        return found | {name: value.evaluate(environment) for name, value in derived.items()}
    except (ZeroDivisionError, KeyError):
        return None


def _allowed(found: Mapping[str, int], conditions: Sequence[Condition], tunables: Mapping[str, int | bool]) -> bool:
    environment = {**_integers(tunables), **found}
    if any(n < 0 for n in found.values()):
        return False
    try:
        return all(evaluate_condition(c, environment) for c in conditions if _sized(c, environment))
    except ZeroDivisionError:
        return False


def _sized(condition: Condition, environment: Mapping[str, int]) -> bool:
    """Whether a condition speaks of dims and tunables only (a runtime scalar is the caller's to choose)."""
    return all(s.name in environment for i in condition_indices(condition) for s in i.symbols())


def _integers(tunables: Mapping[str, int | bool]) -> dict[str, int]:
    return {name: int(value) for name, value in tunables.items()}


# Tile extents --------------------------------------------------------------------------------


def _extents(module: Module, tunables: Mapping[str, int | bool], sequential: bool = False) -> dict[str, int]:
    """For each dim of the entry, the largest step of a loop that ends at it; "" for loops with literal ends.

    `sequential`: loops over tiles left out.
    """
    entry = module.entry
    if isinstance(entry, Kernel):
        return _kernel_extents(entry, tunables, sequential)
    return _program_extents(module, entry, tunables, sequential)


def _program_extents(
    module: Module, program: Program, tunables: Mapping[str, int | bool], sequential: bool
) -> dict[str, int]:
    found: dict[str, int] = {}
    chosen = {t.name: int(tunables.get(t.name, t.default)) for t in program.tunables}
    for call in program.calls:
        given = {name: value.evaluate(chosen) for name, value in call.tunables}
        inner = _kernel_extents(module.kernel(call.kernel), given, sequential)
        for dim, value in call.dims:
            name = _name(value)
            if name is not None and dim in inner:
                found[name] = max(found.get(name, 1), inner[dim])
    return found


def _kernel_extents(kernel: Kernel, tunables: Mapping[str, int | bool], sequential: bool) -> dict[str, int]:
    environment = {t.name: int(tunables.get(t.name, t.default)) for t in kernel.tunables}
    found: dict[str, int] = {}
    for loop in _loops(kernel.body):
        if sequential and loop.kind == "tiles":
            continue
        for hi, step in zip(loop.hi, loop.step, strict=True):
            if not all(s.name in environment for s in step.symbols()):
                continue
            dims = [s.name for s in hi.symbols() if s.kind == "dim"]
            for name in dims or [""]:
                found[name] = max(found.get(name, 1), step.evaluate(environment))
    return found


def _loops(statements: Sequence[Statement]) -> Iterator[For]:
    for statement in statements:
        if isinstance(statement, For):
            yield statement
            yield from _loops(statement.body)
        elif isinstance(statement, If):
            yield from _loops((*statement.then, *statement.otherwise))
