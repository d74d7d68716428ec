"""Ask for rows before they are needed, into L2.

The first pass over a tile waits for memory and the later ones compute; asking for the next tile's lines from a later
pass overlaps the two. A pass that only stores has little to overlap with, so the first pass then also asks for its own
lines, as that of a tile of one pass does: some way ahead, past the page where the machine's prefetcher stops. Only
straight-line tiles whose arrays are read in long rows take part; where a tile chooses between two forms (a fast path
for rows that fit, say) each arm is such a tile or not, and the next tile is taken to choose as this one did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lower.classify import SLOW, TRANSCENDENTAL
from kernelagent.dsl.lower.fuse_nests import same_space
from kernelagent.dsl.lower.rewrite import output_expressions

LEAST_ROW = 256
"""Elements of a row worth asking for; the machine's own prefetcher needs a few lines to notice a stream."""
AHEAD = 1024
"""Elements between a pass and the prefetches of its own lines: one page."""
LARGEST_TILE = 1 << 17
"""Elements of an array's tile that may be asked for ahead: half of L2."""


def prefetch_next(
    body: tuple[sch.Node, ...], policy: Mapping[str, object], choices: list[sch.Choice]
) -> tuple[sch.Node, ...]:
    """Add prefetches to the grid's nests. Policy `stages=n` asks n - 1 tiles (or pages) ahead: 1 turns it off."""
    loop = body[0]
    assert isinstance(loop, sch.Loop)
    if not loop.parallel:
        inner = prefetch_next(loop.body, policy, choices)
        return (replace(loop, body=inner),)
    stages = policy.get("stages", 2)
    if not isinstance(stages, int) or stages <= 1 or not loop.variables:
        return body
    return (replace(loop, body=_in_tile(loop.body, loop, stages, choices)),)


def _in_tile(
    body: tuple[sch.Node, ...], loop: sch.Loop, stages: int, choices: list[sch.Choice]
) -> tuple[sch.Node, ...]:
    match body:
        case (sch.Branch(then=then, otherwise=otherwise) as branch,):
            arms = [_in_tile(arm, loop, stages, choices) for arm in (then, otherwise)]
            return (replace(branch, then=arms[0], otherwise=arms[1]),)
    nests = [n for n in body if isinstance(n, sch.Nest)]
    if len(nests) != len(body):
        return body
    changed = list(nests)
    for first, fetch in _first_fetches(nests).values():
        carrier = _carrier(nests, first)
        if carrier is None:
            _within_rows(changed, first, fetch, loop, (stages - 1) * AHEAD, choices)
        else:
            _next_tile(changed, first, carrier, fetch, loop, stages - 1, choices)
            if not same_space(nests[carrier], nests[first]):
                _within_rows(changed, first, fetch, loop, (stages - 1) * AHEAD, choices)
    return tuple(changed)


def _within_rows(
    nests: list[sch.Nest], first: int, fetch: sch.Fetch, loop: sch.Loop, ahead: int, choices: list[sch.Choice]
) -> None:
    """Prefetch ahead in the same pass, for arrays that every iteration of the grid reads elsewhere."""
    used = {s for c in fetch.coordinates if isinstance(c, Index) for s in c.symbols()}
    if not used >= set(loop.variables):
        return
    row = nests[first].axes[-1].symbol
    step = {row.name: index(row) + ahead}
    _add(nests, first, _prefetch(fetch, nests[first], nests[first], step))
    reason = f"{ahead} elements ahead of the pass"
    choices.append(sch.Choice(f"rows of {fetch.array}", "prefetched", reason, nests[first].origin))


def _next_tile(
    nests: list[sch.Nest],
    first: int,
    carrier: int,
    fetch: sch.Fetch,
    loop: sch.Loop,
    tiles: int,
    choices: list[sch.Choice],
) -> None:
    """Prefetch the next tile's rows in a later pass."""
    step = {v.name: index(v) + s * tiles for v, s in _moving(loop, fetch)}
    if step:
        _add(nests, carrier, _prefetch(fetch, nests[first], nests[carrier], step))
        reason = f"asked for during line {nests[carrier].origin.span.line}"
        choices.append(sch.Choice(f"next tile of {fetch.array}", "prefetched", reason, nests[first].origin))


def _add(nests: list[sch.Nest], at: int, prefetch: sch.Prefetch) -> None:
    nests[at] = replace(nests[at], outputs=(*nests[at].outputs, prefetch))


def _first_fetches(nests: Sequence[sch.Nest]) -> dict[str, tuple[int, sch.Fetch]]:
    """Per array, the first nest that reads long contiguous rows of it, and that read."""
    found: dict[str, tuple[int, sch.Fetch]] = {}
    for k, nest in enumerate(nests):
        if not nest.axes or nest.axes[-1].extent < LEAST_ROW or _size(nest) > LARGEST_TILE:
            continue
        for output in nest.outputs:
            for e in output_expressions(output):
                if isinstance(e, sch.Fetch) and e.array not in found and _is_row(e, nest.axes[-1].symbol):
                    found[e.array] = (k, e)
    return found


def _size(nest: sch.Nest) -> int:
    size = 1
    for axis in nest.axes:
        size *= axis.extent
    return size


def _is_row(fetch: sch.Fetch, symbol: Symbol) -> bool:
    last = fetch.coordinates[-1] if fetch.coordinates else None
    affine = last.affine(symbol) if isinstance(last, Index) else None
    plain = all(isinstance(c, Index) for c in fetch.coordinates)
    return plain and affine is not None and affine[0].constant == 1


def _moving(loop: sch.Loop, fetch: sch.Fetch) -> list[tuple[Symbol, Index]]:
    """The fastest grid variable, if the array's position follows it."""
    variable, step = loop.variables[-1], loop.step[-1]
    used = {s for c in fetch.coordinates if isinstance(c, Index) for s in c.symbols()}
    return [(variable, step)] if variable in used else []


def _carrier(nests: Sequence[sch.Nest], first: int) -> int | None:
    """The later nest over the same space that computes most, else one over the same rows that stores them."""
    later = range(first + 1, len(nests))
    found = [k for k in later if same_space(nests[k], nests[first])]
    found = found or [k for k in later if _same_rows(nests[k], nests[first])]
    return max(found, key=lambda k: _work(nests[k]), default=None)


def _same_rows(a: sch.Nest, b: sch.Nest) -> bool:
    """Equal tiles whose last axes run equally far; one may leave out rows beyond the array's end."""
    if [x.extent for x in a.axes] != [x.extent for x in b.axes]:
        return False
    return same_space(replace(a, axes=a.axes[-1:]), replace(b, axes=b.axes[-1:]))


def _work(nest: sch.Nest) -> int:
    seen: set[int] = set()
    total = 0
    for output in nest.outputs:
        for e in output_expressions(output):
            if isinstance(e, sch.Apply) and id(e) not in seen:
                seen.add(id(e))
                total += 12 if e.word in TRANSCENDENTAL else 6 if e.word in SLOW else 1
    return total


def _prefetch(fetch: sch.Fetch, source: sch.Nest, carrier: sch.Nest, step: Mapping[str, Index]) -> sch.Prefetch:
    rename = {a.symbol.name: index(b.symbol) for a, b in zip(source.axes, carrier.axes, strict=True)}
    coordinates = tuple(c.substitute(rename).substitute(step) for c in fetch.coordinates if isinstance(c, Index))
    return sch.Prefetch(fetch.array, coordinates)
