"""Loops of two products, the second fed by the first (attention): each step's second product runs under the next
step's work.

A step computes scores S = A B, something of them (softmax), and adds P V to its sums. Turned by half a step, it
begins S of its own step and P V of the step before, waits for S alone, and computes on S while P V still runs; then
what becomes of the sums (their scaling) waits for P V. One step goes before the loop and one P V behind it, as loops of
at most one turn, since there may be no step at all. Both operands have rings of their own: B's stage is given back
while V's of the same step is not yet read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index, Symbol, index, minimum
from kernelagent.dsl.lanes import same
from kernelagent.dsl.lower.device.build import Ring, Scope, live_along
from kernelagent.dsl.lower.device.hopper.consumers import FREE_REGISTERS
from kernelagent.dsl.lower.device.hopper.pingpong import TURN_BARRIER
from kernelagent.dsl.lower.device.hopper.staging import Staging
from kernelagent.dsl.lower.device.stage import Staged
from kernelagent.dsl.lower.rewrite import operands

Entered = list[tuple[dev.Fragment, dev.Fragment]]
"""Of each carried name the value in front of a loop, and that at the top of its body."""


class Apart(Exception):
    """Why a loop's products run one after the other; the text goes into the report."""


@dataclass(frozen=True)
class Halves:
    """The body of a step around its two products. `early` needs no sums and includes `scores`; `late` are the sums'
    own statements and the conversion of the left operand, which waits until the earlier one has been read."""

    scores: ir.Let
    product: ir.Let
    carried: ir.Carried
    kept: ir.Value  # what the product is added to
    early: tuple[ir.Let, ...]
    late: tuple[ir.Let, ...]

    @property
    def left(self) -> ir.Value:
        return _mma(self.product).a


def halves(builder: Staging, loop: ir.For, registers: int) -> Halves:
    """The loop's two halves, for consumers of so many registers a thread. Raises Apart."""
    lets = [s for s in loop.body if isinstance(s, ir.Let)]
    if len(loop.variables) > 1 or len(lets) != len(loop.body):
        raise Apart("the loop's body branches or loops")
    products = [s for s in lets if isinstance(s.operation, ir.Mma)]
    if len(products) != 2:
        raise Apart(f"{len(products)} products in a step; two are overlapped")
    scores, second = products
    if scores.value.number in builder.deferred or second.value.number not in builder.deferred:
        raise Apart("the second product alone must be added to sums")
    carried, total = _sums(loop, lets, second)
    kept = next(x for x in operands(total.operation) if x.number != second.value.number)
    _require_register_operand(builder, second)
    behind = _reached(lets, {carried.inside.number})
    ends = {c.end.number for c in loop.carried if c is not carried}
    if (ends | {scores.value.number, _mma(second).a.number}) & behind:
        raise Apart("something of a step is computed from the sums")
    _require_room(builder, scores, second, registers)
    late = behind | _only_for(_mma(second).a, lets)
    rest = [s for s in lets if s not in (second, total)]
    early = tuple(s for s in rest if s.value.number not in late)
    return Halves(scores, second, carried, kept, early, tuple(s for s in rest if s.value.number in late))


def _mma(let: ir.Let) -> ir.Mma:
    assert isinstance(let.operation, ir.Mma)
    return let.operation


def _sums(loop: ir.For, lets: Sequence[ir.Let], second: ir.Let) -> tuple[ir.Carried, ir.Let]:
    """The carried name that the product is added to, and that addition."""
    total = next(s for s in lets if second.value in operands(s.operation))
    readers = sum(total.value in operands(s.operation) for s in lets)
    found = [c for c in loop.carried if c.end.number == total.value.number]
    if readers or len(found) != 1:
        raise Apart("the step reads its own sums")
    return found[0], total


def _require_register_operand(builder: Staging, second: ir.Let) -> None:
    product, plan = _mma(second), builder.plan
    left = plan.products[second.value.number].left
    home = plan.homes.get(product.a.number)
    if left is None or home is None or not same(home, left) or product.b.number not in plan.operands:
        raise Apart("the second product takes registers on its left and a staged tile on its right")


def _require_room(builder: Staging, scores: ir.Let, second: ir.Let, registers: int) -> None:
    """Scores, the left operand in flight and the sums live at the same time."""
    tiles = [builder.plan.products[let.value.number].result.registers for let in (scores, second)]
    needed = sum(tiles) + tiles[0] // 2 + FREE_REGISTERS
    if needed > registers:
        raise Apart(f"about {needed} registers a thread where there are {registers}")


def _reached(lets: Sequence[ir.Let], start: set[int]) -> set[int]:
    """Values computed from those of `start`, directly or not."""
    found: set[int] = set()
    for let in lets:
        if any(x.number in start | found for x in operands(let.operation)):
            found.add(let.value.number)
    return found


def _only_for(left: ir.Value, lets: Sequence[ir.Let]) -> set[int]:
    """The conversion that makes a left operand, if nothing else reads it."""
    made = next((s for s in lets if s.value.number == left.number), None)
    readers = sum(left in operands(s.operation) for s in lets)
    return {left.number} if made is not None and isinstance(made.operation, ir.Cast) and readers == 1 else set()


# Rings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """A ring of one product's operands, and its barriers."""

    full: str
    empty: str
    stages: int
    everywhere: bool
    origin: ir.Origin

    def filled(self, count: Index) -> dev.Statement:
        return dev.WaitPhase(self.full, count % self.stages, (count // self.stages) % 2, self.origin)

    def given_back(self, count: Index) -> dev.Statement:
        return dev.Arrive(self.empty, count % self.stages, self.origin, self.everywhere)


class Turned:
    """One loop, its steps turned by half."""

    def __init__(
        self, builder: Staging, loop: ir.For, staged: Sequence[Staged], parts: Halves, stages: int, turns: bool = False
    ) -> None:
        """`turns`: while one warpgroup multiplies, the other computes."""
        self.builder, self.loop, self.parts, self.stages, self.turns = builder, loop, parts, stages, turns
        self.counter = Symbol(f"{loop.variables[0].name}_count", "loop")
        self.count = index(self.counter)
        self.buffers = {s.load.value.number: builder.stage_buffer(s, stages) for s in staged}
        self.operand = builder.plan.operands[_mma(parts.product).b.number]
        self.chosen = builder.plan.products[parts.product.value.number]
        own = self.operand.staged.load.value.number
        copies: list[dev.Statement] = []
        self.first = self._side([s for s in staged if s.load.value.number != own], copies)
        self.second = self._side([s for s in staged if s.load.value.number == own], copies)
        builder.producer.append(
            dev.For(loop.variables, loop.lo, loop.hi, loop.step, (), tuple(copies), loop.origin, counter=self.counter)
        )

    def _side(self, staged: list[Staged], copies: list[dev.Statement]) -> _Side:
        """Its barriers, and what the producer does for one phase."""
        builder, origin = self.builder, self.loop.origin
        pairs = [(s, self.buffers[s.load.value.number]) for s in staged]
        blocks = max(builder.sharers(s) for s in staged)
        builder.shares |= blocks > 1
        barriers = builder.pair("_".join(name for _, name in pairs), self.stages, origin, blocks)
        builder.ringing = True
        copies += builder.fill(pairs, barriers, self.count, self.stages, origin)
        builder.ringing = False
        return _Side(*barriers, self.stages, blocks > 1, origin)

    # Loops -------------------------------------------------------------------------------------------

    def emit(self, entered: Entered) -> list[dev.Fragment]:
        """All three loops; what each carried name is behind them."""
        lo, hi, step = self.loop.lo[0], self.loop.hi[0], self.loop.step[0]
        begun = minimum(hi, lo + step)
        left, chosen = self.parts.left, self.chosen
        nothing = self.builder.let(dev.Constant(0), left, chosen.left, dtype=chosen.operand_dtype, name="weights")
        results, weights = self._steps(lo, begun, entered, nothing, leading=True)
        entered = [(result, self._again(result)) for result in results]
        results, weights = self._steps(lo + step, hi, entered, weights, leading=False)
        return self._last(lo, begun, results, weights)

    def _steps(
        self, lo: Index, hi: Index, entered: Entered, weights: dev.Fragment, leading: bool
    ) -> tuple[list[dev.Fragment], dev.Fragment]:
        """Steps from `lo` to `hi`; a leading one has no product of an earlier step to add."""
        builder, carried = self.builder, self.loop.carried
        scope = Scope(ring=Ring(self.count % self.stages, self.buffers))
        builder.scopes.append(scope)
        for c, (_, inside) in zip(carried, entered, strict=True):
            builder.remember(c.inside, inside)
        held = self._again(weights)
        builder.emit(self.first.filled(self.count))
        builder.beside = self._alone if leading else (lambda: self._with_earlier(held))
        for let in self.parts.early:
            if let is self.parts.scores:
                self._turn(begins=True)
            builder.statement(let)
        if not leading:
            builder.emit(dev.WgmmaWait(0, self.loop.origin))
            builder.emit(self.second.given_back(self.count - 1))
        for let in self.parts.late:
            builder.statement(let)
        ends = [self._end(c, inside) for c, (_, inside) in zip(carried, entered, strict=True)]
        ends.append(self._weights())
        builder.scopes.pop()
        entered = [*entered, (weights, held)]
        results = self._closed(lo, hi, entered, ends, scope, self.counter)
        return results[:-1], results[-1]

    def _last(self, lo: Index, hi: Index, results: list[dev.Fragment], weights: dev.Fragment) -> list[dev.Fragment]:
        """The product of the last step, if there was one."""
        builder, at = self.builder, self.loop.carried.index(self.parts.carried)
        inside = self._again(results[at])
        scope = Scope()
        builder.scopes.append(scope)
        builder.emit(self.second.filled(self.count - 1))
        builder.emit(dev.WgmmaFence(self.loop.origin))
        sums = self._product(weights, inside)
        builder.emit(dev.WgmmaCommit(self.loop.origin))
        builder.emit(dev.WgmmaWait(0, self.loop.origin))
        builder.emit(self.second.given_back(self.count - 1))
        builder.scopes.pop()
        (result,) = self._closed(lo, hi, [(results[at], inside)], [sums], scope, None)
        return [*results[:at], result, *results[at + 1 :]]

    def _closed(
        self, lo: Index, hi: Index, entered: Entered, ends: list[dev.Fragment], scope: Scope, counter: Symbol | None
    ) -> list[dev.Fragment]:
        """The loop around a scope is emitted; what its carried values are behind it."""
        results = [self._again(inside) for _, inside in entered]
        records = [
            dev.Carried(initial, inside, end, result)
            for (initial, inside), end, result in zip(entered, ends, results, strict=True)
        ]
        loop = self.loop
        made = dev.For(
            loop.variables, (lo,), (hi,), loop.step, tuple(records), tuple(scope.body), loop.origin, counter=counter
        )
        self.builder.emit(made)
        return results

    def _again(self, x: dev.Fragment) -> dev.Fragment:
        return self.builder.fresh(x.name, x.dtype, x.shape, x.layout, x.origin)

    # Products ----------------------------------------------------------------------------------------

    def _alone(self) -> None:
        """Behind the scores of the leading step."""
        origin = self.loop.origin
        self.builder.emit(dev.WgmmaCommit(origin))
        self._turn(begins=False)
        self.builder.emit(dev.WgmmaWait(0, origin))
        self.builder.emit(self.first.given_back(self.count))

    def _with_earlier(self, held: dev.Fragment) -> None:
        """Behind the scores: the product of the step before, which stays in flight."""
        builder, origin, carried = self.builder, self.loop.origin, self.parts.carried
        builder.emit(dev.WgmmaCommit(origin))
        builder.emit(self.second.filled(self.count - 1))
        sums = self._product(held, builder.get(carried.inside, self.chosen.result))
        builder.emit(dev.WgmmaCommit(origin))
        self._turn(begins=False)
        builder.emit(dev.WgmmaWait(1, origin))
        builder.emit(self.first.given_back(self.count))
        builder.remember(carried.inside, sums)

    def _turn(self, begins: bool) -> None:
        """Around the products of a step, if warpgroups take turns."""
        if self.turns:
            self.builder.emit(dev.Turn(TURN_BARRIER, begins, self.loop.origin))

    def _product(self, left: dev.Fragment, sums: dev.Fragment) -> dev.Fragment:
        """The sums with the product of the step before added."""
        own = self.operand.staged.load.value.number
        right = dev.Shared(self.buffers[own], (self.count - 1) % self.stages, self.operand.axes)
        operation = dev.Mma(self.chosen.atom, left, right, sums)
        return self.builder.let(operation, self.parts.product.value, self.chosen.result, name=sums.name)

    def _end(self, c: ir.Carried, inside: dev.Fragment) -> dev.Fragment:
        """What a step makes of a carried name; of the sums, what its product will be added to."""
        return self.builder.get(self.parts.kept if c is self.parts.carried else c.end, inside.layout)

    def _weights(self) -> dev.Fragment:
        """The left operand of the step's product, for the next step. What is void becomes zero before a conversion,
        where the sum of the row may have done it already."""
        builder, mma = self.builder, _mma(self.parts.product)
        counted = live_along(mma.a, 1, (mma.a.type.live[1], mma.b.type.live[0]))
        conversion = builder.definitions[mma.a.number]
        if isinstance(conversion, ir.Cast) and mma.a.type.dtype == self.chosen.operand_dtype:
            source = builder.masked(builder.get(conversion.x, self.chosen.left), counted, 0)
            return builder.let(dev.Pointwise("cast", (source,)), mma.a, self.chosen.left)
        made = builder.operand(mma.a, self.chosen, self.chosen.left, counted)
        assert isinstance(made, dev.Fragment)  # `halves` has seen to it
        return made


__all__ = ["Apart", "Halves", "Turned", "halves"]
