"""Statements of a kernel with roles: one warp copies operands ahead, warpgroups multiply and finish the tile.

The two meet in rings of full and empty barriers (`staging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lanes import permuted, same
from kernelagent.dsl.lower.device.build import Ring, Scope, live_along
from kernelagent.dsl.lower.device.hopper.choose import Unsuited
from kernelagent.dsl.lower.device.hopper.consumers import CONSUMER_REGISTERS
from kernelagent.dsl.lower.device.hopper.overlap import Apart, Halves, Turned, halves
from kernelagent.dsl.lower.device.hopper.partial import PartialStores
from kernelagent.dsl.lower.device.hopper.staging import MOST_STAGES, TILE_COUNT
from kernelagent.dsl.lower.device.hopper.steps import begun, runs, step
from kernelagent.dsl.lower.device.stage import Staged
from kernelagent.dsl.lower.device.widen import ACCESS_BYTES


class HopperLowering(PartialStores):
    """The consumers' statements; `producer` collects those of the copying role for the same tile."""

    anew: frozenset[int] = frozenset()
    """Products that begin a sum of their own in each turn of their loop (`accumulate`)."""

    def defer_products(self, body: Sequence[ir.Statement]) -> None:
        super().defer_products(body)
        self.deferred -= self.anew

    # Rings -------------------------------------------------------------------------------------------

    def ring(self, loop: ir.For, staged: list[Staged], carried: list[tuple[dev.Fragment, dev.Fragment]]) -> None:
        if self.depth:
            raise Unsuited("operands are loaded in nested loops")
        stages = self.stage_count(loop.origin)
        parts = self.turned(loop, stages)
        if parts is not None:
            self.turn(loop, staged, carried, parts, stages)
            return
        buffers = {s.load.value.number: self.stage_buffer(s, stages) for s in staged}
        counter = Symbol(f"{'_'.join(v.name for v in loop.variables)}_count", "loop")
        count = index(counter)
        blocks = max(self.sharers(s) for s in staged)
        self.shares |= blocks > 1
        barriers = self.pair("_".join(v.name for v in loop.variables), stages, loop.origin, blocks)
        pairs = [(s, buffers[s.load.value.number]) for s in staged]
        self.ringing = True
        copies = tuple(self.fill(pairs, barriers, count, stages, loop.origin))
        self.ringing = False
        self.producer.append(
            dev.For(loop.variables, loop.lo, loop.hi, loop.step, (), copies, loop.origin, counter=counter)
        )
        scope = Scope(ring=Ring(count % stages, buffers))
        self.scopes.append(scope)
        self.depth += 1
        self.emit(dev.WaitPhase(barriers[0], count % stages, (count // stages) % 2, loop.origin))
        self.overlapped = stages > 1 and self.only_accumulates(loop)
        for statement in loop.body:
            self.statement(statement)
        if self.overlapped:
            self.release_earlier(loop, barriers[1], count, stages, blocks > 1)
        else:
            given_back = dev.Arrive(barriers[1], count % stages, loop.origin, blocks > 1)
            scope.body = step(scope.body, given_back, buffers.values())
        made = self.closed(loop, loop.variables, loop.lo, loop.hi, loop.step, scope, carried)
        self.depth -= 1
        self.emit(replace(made, counter=counter))
        if self.overlapped:
            self.emit(dev.WgmmaWait(0, loop.origin))
            last = dev.Arrive(barriers[1], (count - 1) % stages, loop.origin, blocks > 1)
            self.emit(dev.If(runs(loop), (last,), (), (), loop.origin))
        self.overlapped = False

    def turned(self, loop: ir.For, stages: int) -> Halves | None:
        """The two halves of a step whose second product may run under the next step's work."""
        if sum(isinstance(s, ir.Let) and isinstance(s.operation, ir.Mma) for s in loop.body) < 2:
            return None
        try:
            if self.plan.policy.get("roles") == "cooperative":
                raise Apart("policy")
            if stages < 2:
                raise Apart("one stage")
            if self.groups == 1 and self.plan.policy.get("roles") is None:
                raise Apart("one consumer warpgroup: ptxas serialises products that overlap there (C7520)")
            parts = halves(self, loop, CONSUMER_REGISTERS[self.groups] or 255)
        except Apart as why:
            self.note("products", "one after the other", str(why), loop.origin)
            if self.plan.policy.get("roles") in ("overlapped", "pingpong"):
                hint = "remove `roles`, or write a step as s = mma(...), then acc = acc * r + mma(p, v) with two stages"
                self.plan.choices.append(self.plan.policy.drop("roles", str(why), hint))
            return None
        self.note("products", "overlapped", "that of the sums runs under the next step's other work", loop.origin)
        return parts

    def turn(
        self, loop: ir.For, staged: list[Staged], carried: list[tuple[dev.Fragment, dev.Fragment]], parts: Halves,
        stages: int,
    ) -> None:  # fmt: skip
        """The loop with its steps turned by half (`overlap`)."""
        self.depth += 1
        results = Turned(self, loop, staged, parts, stages, self.takes_turns(loop)).emit(carried)
        self.depth -= 1
        for (_, inside), result in zip(carried, results, strict=True):
            self.results[inside.number] = result

    def takes_turns(self, loop: ir.For) -> bool:
        """Whether the two warpgroups of a tile alternate within each step."""
        policy = self.plan.policy
        if policy.get("roles") != "pingpong":
            return False
        if self.groups != 2:
            why = f"{self.groups} warpgroups share a tile, and two take turns"
            self.plan.choices.append(policy.drop("roles", why, "give tiles 128 rows"))
            return False
        self.note("consumers", "two warpgroups by turns", "one multiplies while the other computes", loop.origin)
        return True

    def only_accumulates(self, loop: ir.For) -> bool:
        """Whether nothing in the loop looks at the sums, so that a step's products may run into the next step."""
        if any(set(loop.variables) & bound.symbols() for bound in (*loop.lo, *loop.hi)):
            return False
        for statement in loop.body:
            match statement:
                case ir.Let(value, ir.Mma()) if value.number in self.deferred:
                    continue
                case ir.Let(_, ir.Binary() as sum_) if self.accumulates_later(sum_):
                    continue
                case ir.Let(value, _) if value.number in self.plan.unheld:
                    continue
                case _:
                    return False
        return True

    def accumulates_later(self, operation: ir.Binary) -> bool:
        return operation.word == "add" and (operation.a.number in self.deferred or operation.b.number in self.deferred)

    def release_earlier(self, loop: ir.For, empty: str, count: Index, stages: int, everywhere: bool) -> None:
        """One group stays in flight: its stage is given back in the next step."""
        origin = loop.origin
        self.emit(dev.WgmmaCommit(origin))
        self.emit(dev.WgmmaWait(1, origin))
        earlier = dev.Arrive(empty, (count - 1) % stages, origin, everywhere)
        self.emit(dev.If(begun(loop), (earlier,), (), (), origin))

    # Products ----------------------------------------------------------------------------------------

    def product(self, value: ir.Value, mma: ir.Mma, acc: dev.Fragment | None) -> dev.Fragment:
        """One group of asynchronous products, waited for at once unless the loop overlaps its steps."""
        chosen = self.plan.products[value.number]
        if acc is None:
            acc = self.let(dev.Constant(0), value, chosen.result, name="zero")
        elif acc.layout is None or not same(acc.layout, chosen.result):
            acc = self.convert(acc, chosen.result)
        k = (mma.a.type.live[1], mma.b.type.live[0])
        a = self.operand(mma.a, chosen, chosen.left, live_along(mma.a, 1, k))
        b = self.operand(mma.b, chosen, None, live_along(mma.b, 0, k))
        origin = value.origin
        self.emit(dev.WgmmaFence(origin))
        made = self.let(dev.Mma(chosen.atom, a, b, acc), value, chosen.result)
        if self.beside is not None:
            beside, self.beside = self.beside, None
            beside()
        elif not self.overlapped:
            self.emit(dev.WgmmaCommit(origin))
            self.emit(dev.WgmmaWait(0, origin))
        return made

    def through_shared(self, fragment: dev.Fragment, value: ir.Value) -> dev.Shared:
        """A computed operand: written in the descriptor's form, then shown to the asynchronous proxy."""
        assert fragment.layout is not None
        across = permuted(fragment.layout, (1, 0))
        axes = (1, 0) if across.contiguous() > fragment.layout.contiguous() else (0, 1)
        run = max(across.contiguous(), fragment.layout.contiguous())
        shape = (fragment.shape[axes[0]], fragment.shape[axes[1]])
        name = self.panelled(fragment.name, fragment.dtype, shape, fragment.origin)
        here = dev.Shared(name, index(0), axes)
        wide = min(run & -run, ACCESS_BYTES * 8 // bits(fragment.dtype))
        self.emit(dev.StoreShared(here, fragment, fragment.origin, wide))
        self.emit(dev.FenceAsync(fragment.origin))
        self.note(f"operand {value.name}", f"through {name}", "it is computed, not in the atom's layout", value.origin)
        return here


__all__ = ["MOST_STAGES", "TILE_COUNT", "HopperLowering"]
