"""Faults of barrier protocols, one edit each: the kernel, what is found, and at which of the text's lines.

A line is named by how it begins in the text; several may be right, as a fault lies between two events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.level2 import parse_schedule
from support.level2_texts import TEXTS
from support.schedule_edits import edited, swapped, with_barrier, with_fields, without

N = index(Symbol("n", "loop"))
K = index(Symbol("K", "dim"))


@cache
def kernel(name: str) -> dev.DeviceKernel:
    return parse_schedule(TEXTS[name])


def lines(name: str, start: str) -> set[int]:
    """The lines of a text that begin so."""
    found = {n for n, t in enumerate(TEXTS[name].splitlines(), 1) if t.strip().startswith(start)}
    assert found, start
    return found


@dataclass(frozen=True)
class Fault:
    base: str
    edit: Callable[[dev.DeviceKernel], dev.DeviceKernel]
    kinds: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def broken(self) -> dev.DeviceKernel:
        return self.edit(kernel(self.base))

    @property
    def numbers(self) -> set[int]:
        return {n for start in self.lines for n in lines(self.base, start)}


def parity(role: str, value: Index, barrier: str) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: with_fields(k, dev.WaitPhase, role, {"parity": value}, barrier=barrier)


def trips(role: str, hi: Index, step: int = 64) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: with_fields(k, dev.For, role, {"hi": (hi,), "step": (index(step),)})


def drop(
    kind: type[dev.Statement], role: str | None = None, **fields: object
) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: without(k, kind, role, **fields)


def arrivals(name: str, count: int) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: with_barrier(k, name, count)


def read_stage(k: dev.DeviceKernel, stage: Index) -> dev.DeviceKernel:
    """The products read another stage."""

    def edit(s: dev.Statement) -> tuple[dev.Statement, ...] | None:
        match s:
            case dev.Let(_, dev.Mma(_, dev.Shared() as a, dev.Shared() as b) as product):
                moved = replace(product, a=replace(a, stage=stage), b=replace(b, stage=stage))
                return (replace(s, operation=moved),)
            case _:
                return None

    return edited(k, edit)


def in_target(k: dev.DeviceKernel, buffer: str, stage: Index) -> dev.DeviceKernel:
    """One operand's copies go to another stage of its buffer."""
    return edited(
        k,
        lambda s: (
            (replace(s, target=replace(s.target, stage=stage)),)
            if isinstance(s, dev.CopyBulk) and s.target.buffer == buffer
            else None
        ),
    )


def on_barrier(k: dev.DeviceKernel, buffer: str, stage: Index) -> dev.DeviceKernel:
    """One operand's copies count on another stage of the barrier."""
    return edited(
        k,
        lambda s: (replace(s, stage=stage),) if isinstance(s, dev.CopyBulk) and s.target.buffer == buffer else None,
    )


def twice(
    kind: type[dev.Statement], role: str | None = None, **fields: object
) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: edited(
        k,
        lambda s: (s, s) if isinstance(s, kind) and all(getattr(s, n) == v for n, v in fields.items()) else None,
        role,
    )


def early_release(k: dev.DeviceKernel) -> dev.DeviceKernel:
    return swapped(k, "consumer", dev.Arrive, dev.WgmmaFence)


def before_wait(k: dev.DeviceKernel) -> dev.DeviceKernel:
    return swapped(k, "consumer", dev.Arrive, dev.WgmmaWait)


def one_tile(role: str) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    """A role that takes one tile only where the others walk."""
    return lambda k: replace(
        k, roles=tuple(replace(r, grid=replace(r.grid, persistent=False)) if r.name == role else r for r in k.roles)
    )


def in_prologue(old: type[dev.Statement], new: type[dev.Statement]) -> Callable[[dev.DeviceKernel], dev.DeviceKernel]:
    return lambda k: edited(k, lambda s: (new(s.origin),) if isinstance(s, old) else None, "prologue")  # type: ignore[call-arg, union-attr]


WAIT_FREE, WAIT_FULL = "wait(free", "wait(filled"
COPIES = ("copy_bulk(a_s", "copy_bulk(w_s")

FAULTS: Mapping[str, Fault] = {
    "producer's first parity": Fault("hopper", parity("producer", N // 4 % 2, "free"), ("deadlock",), (WAIT_FREE,)),
    "consumer's first parity": Fault(
        "hopper", parity("consumer", (N // 4 + 1) % 2, "filled"), ("missing-wait",), ("acc = mma",)
    ),
    "consumer's parity never flips": Fault(
        "hopper",
        parity("consumer", index(0), "filled"),
        ("missing-wait", "overwrite", "phase-aliasing"),
        ("acc = mma", WAIT_FULL, *COPIES),
    ),
    "producer's parity never flips": Fault(
        "hopper",
        parity("producer", index(1), "free"),
        ("overwrite", "arrivals", "phase-aliasing"),
        ("expect(", WAIT_FREE, *COPIES),
    ),
    "parity by the wrong depth": Fault(
        "hopper",
        parity("consumer", N // 3 % 2, "filled"),
        ("missing-wait", "deadlock", "phase-aliasing"),
        ("acc = mma", WAIT_FULL),
    ),
    "empty barrier counts one too few": Fault("hopper", arrivals("free", 7), ("arrivals",), ("arrive(",)),
    "empty barrier counts one warpgroup": Fault(
        "hopper", arrivals("free", 4), ("arrivals", "overwrite"), ("arrive(", *COPIES)
    ),
    "empty barrier counts one too many": Fault("hopper", arrivals("free", 9), ("deadlock",), (WAIT_FREE,)),
    "full barrier counts two": Fault("hopper", arrivals("filled", 2), ("deadlock",), (WAIT_FULL,)),
    "released before the products": Fault("hopper", early_release, ("overwrite",), COPIES),
    "released before the products are waited for": Fault("hopper", before_wait, ("overwrite",), COPIES),
    "products never waited for": Fault("hopper", drop(dev.WgmmaWait), ("overwrite",), COPIES),
    "no wait for a free stage": Fault(
        "hopper", drop(dev.WaitPhase, "producer"), ("overwrite", "arrivals"), ("expect(", *COPIES)
    ),
    "no wait for data": Fault("hopper", drop(dev.WaitPhase, "consumer"), ("missing-wait",), ("acc = mma",)),
    "too few bytes announced": Fault(
        "hopper", lambda k: with_fields(k, dev.Expect, None, {"bytes": 16384}), ("transaction-bytes",), ("expect(",)
    ),
    "too many bytes announced": Fault(
        "hopper", lambda k: with_fields(k, dev.Expect, None, {"bytes": 32784}), ("transaction-bytes",), ("expect(",)
    ),
    "a copy is missing": Fault(
        "hopper",
        lambda k: edited(k, lambda s: () if isinstance(s, dev.CopyBulk) and s.target.buffer == "w_s" else None),
        ("transaction-bytes",),
        ("expect(",),
    ),
    "nothing announced": Fault("hopper", drop(dev.Expect), ("deadlock", "transaction-bytes"), (WAIT_FULL, *COPIES)),
    "inits not fenced": Fault("hopper", drop(dev.FenceInit), ("barrier-init",), COPIES),
    "inits not seen": Fault("hopper", drop(dev.BlockBarrier, "prologue"), ("barrier-init",), (WAIT_FREE, WAIT_FULL)),
    "a barrier never initialised": Fault(
        "hopper", drop(dev.BarrierInit, None, barrier="free"), ("barrier-init",), (WAIT_FREE,)
    ),
    "a barrier initialised twice": Fault(
        "hopper", twice(dev.BarrierInit, None, barrier="free"), ("barrier-init",), ("barrier_init(free",)
    ),
    "producer one step less": Fault(
        "hopper", trips("producer", K - 64), ("deadlock", "wrong-tile"), (WAIT_FULL, "acc = mma")
    ),
    "consumer one step less": Fault(
        "hopper", trips("consumer", K - 64), ("exit", "wrong-tile", "deadlock"), (*COPIES, WAIT_FREE, "acc = mma")
    ),
    "consumer one step more": Fault(
        "hopper", trips("consumer", K + 64), ("deadlock", "wrong-tile"), (WAIT_FULL, "acc = mma")
    ),
    "consumer steps twice as far": Fault(
        "hopper", trips("consumer", K, 128), ("exit", "wrong-tile", "deadlock"), (*COPIES, WAIT_FREE, "acc = mma")
    ),
    "consumer takes one tile only": Fault("hopper", one_tile("consumer"), ("exit", "deadlock"), (*COPIES, WAIT_FREE)),
    "producer takes one tile only": Fault("hopper", one_tile("producer"), ("deadlock",), (WAIT_FULL,)),
    "stage never given back": Fault("hopper", drop(dev.Arrive), ("deadlock",), (WAIT_FREE,)),
    "stage given back twice": Fault("hopper", twice(dev.Arrive), ("arrivals", "overwrite"), ("arrive(",)),
    "another stage given back": Fault(
        "hopper",
        lambda k: with_fields(k, dev.Arrive, None, {"stage": (N + 1) % 4}),
        ("overwrite", "deadlock", "arrivals", "phase-aliasing"),
        (*COPIES, WAIT_FREE, "arrive(", "expect("),
    ),
    "another stage read": Fault(
        "hopper", lambda k: read_stage(k, (N + 1) % 4), ("missing-wait", "overwrite"), ("acc = mma", *COPIES)
    ),
    "another stage filled": Fault(
        "hopper", lambda k: in_target(k, "w_s", (N + 1) % 4), ("missing-wait", "overwrite"), ("acc = mma", *COPIES)
    ),
    "a copy on the next stage's barrier": Fault(
        "hopper",
        lambda k: on_barrier(k, "w_s", (N + 1) % 4),
        ("deadlock", "transaction-bytes", "missing-wait"),
        (WAIT_FULL, "acc = mma", "expect(", *COPIES),
    ),
    "a stage that is not there": Fault(
        "hopper", lambda k: with_fields(k, dev.WaitPhase, "producer", {"stage": N % 5}), ("stage",), (WAIT_FREE,)
    ),
    "ring of the consumer begins again in each tile": Fault(
        "hopper",
        lambda k: with_fields(k, dev.WaitPhase, "consumer", {"stage": index(Symbol("k", "loop")) // 64 % 4}),
        ("deadlock", "missing-wait", "phase-aliasing"),
        (WAIT_FULL, "acc = mma"),
    ),
    "cluster: stages given back to the own block only": Fault(
        "cluster", lambda k: with_fields(k, dev.Arrive, None, {"everywhere": False}), ("deadlock",), (WAIT_FREE,)
    ),
    "cluster: only the own block counted": Fault(
        "cluster", arrivals("free", 4), ("arrivals", "overwrite"), ("arrive(", *COPIES)
    ),
    "cluster: a block leaves early": Fault(
        "cluster",
        lambda k: without(without(k, dev.ClusterBarrier, "producer"), dev.ClusterBarrier, "consumer"),
        ("exit",),
        ("arrive(", *COPIES),
    ),
    "cluster: one role leaves early": Fault(
        "cluster", drop(dev.ClusterBarrier, "producer"), ("deadlock",), ("cluster_barrier(",)
    ),
    "cluster: inits met by the block only": Fault(
        "cluster", in_prologue(dev.ClusterBarrier, dev.BlockBarrier), ("barrier-init",), COPIES
    ),
    "cluster: inits not fenced": Fault("cluster", drop(dev.FenceInit), ("barrier-init",), COPIES),
    "cluster: a copy shared by more blocks than there are": Fault(
        "cluster",
        lambda k: edited(
            k, lambda s: (replace(s, shared_by=4),) if isinstance(s, dev.CopyBulk) and s.shared_by == 2 else None
        ),
        ("transaction-bytes",),
        COPIES,
    ),
    "cluster: a block waits for itself only": Fault(
        "cluster", drop(dev.WaitPhase, "producer"), ("overwrite", "arrivals"), ("expect(", *COPIES)
    ),
    "turns: nobody waits for the other": Fault(
        "ping pong",
        lambda k: without(
            without(k, dev.WaitPhase, "even", barrier="odd_done"), dev.WaitPhase, "odd", barrier="even_done"
        ),
        ("phase-aliasing", "missing-wait"),
        ("wait(filled", "acc = mma"),
    ),
    "turns: the odd one begins": Fault(
        "ping pong",
        parity("even", index(Symbol("t", "loop")) // 2 % 2, "odd_done"),
        ("deadlock",),
        ("wait(odd_done", "wait(free", "wait(even_done"),
    ),
}
