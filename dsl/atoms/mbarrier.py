"""Barriers with phases, 8 bytes each in shared memory: a phase completes when its arrivals and its bytes are in.

References work on the state of one barrier and return the new one. The barrier starts in phase 0, and its parity is
the parity of the phase in progress: waiting for parity 1 passes at once, which lets a producer's first round through.
Remote arrivals have the manual's default semantics, as a release at the cluster's scope would flush to the device:
what other blocks read by ordinary loads must be ordered by the cluster's barrier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernelagent.dsl.atoms.record import Atom, Operand, Reference

BYTES = 8
LARGEST = (1 << 20) - 1
"""Of arrivals and of bytes outstanding in one phase."""

_SOURCE = "PTX ISA 9.0, mbarrier"


@dataclass(frozen=True)
class Mbarrier:
    """`arrivals` are those of every phase, `pending` those still missing in this one, `bytes` those expected and not
    yet there (below 0 while bytes arrive before they are expected). `phase` counts completed phases."""

    arrivals: int
    pending: int
    bytes: int = 0
    phase: int = 0


def init(arrivals: int) -> Mbarrier:
    return Mbarrier(arrivals, arrivals)


def arrive(barrier: Mbarrier) -> Mbarrier:
    return _settled(replace(barrier, pending=barrier.pending - 1))


def expect(barrier: Mbarrier, count: int) -> Mbarrier:
    """Bytes are expected before the arrival counts, so this arrival does not complete the phase early."""
    return arrive(replace(barrier, bytes=barrier.bytes + count))


def complete(barrier: Mbarrier, count: int) -> Mbarrier:
    """`count` bytes of a copy have landed."""
    return _settled(replace(barrier, bytes=barrier.bytes - count))


def passes(barrier: Mbarrier, parity: int) -> bool:
    """Whether a wait for `parity` ends: the phase of that parity is not the one in progress."""
    return barrier.phase % 2 != parity


def _settled(barrier: Mbarrier) -> Mbarrier:
    if barrier.pending or barrier.bytes:
        return barrier
    return Mbarrier(barrier.arrivals, barrier.arrivals, 0, barrier.phase + 1)


def _operation(
    name: str, reference: Reference, ptx: str, sass: str, operands: tuple[Operand, ...], kind: str = "mbarrier"
) -> Atom:
    return Atom(
        name=name,
        kind=kind,
        archs=("sm_90",),
        shape=(),
        operands=(Operand("at", "u64", "shared", "inout"), *operands),
        reference=reference,
        source=_SOURCE,
        completion="mbarrier",
        alignment=BYTES,
        ptx=ptx,
        sass=(("sm_90", sass),),
    )


_FENCE_INIT = Atom(
    name="mbar_fence_init",
    kind="fence",
    archs=("sm_90",),
    shape=(),
    operands=(),
    reference=None,
    source="PTX ISA 9.0, membar, fence: fence.mbarrier_init, fence.proxy.async",
    ptx="fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;",
    sass=(("sm_90", r"FENCE\.VIEW\.ASYNC"),),
)

ATOMS: tuple[Atom, ...] = (
    _operation(
        "mbar_init",
        lambda barrier, arrivals: init(arrivals),
        "mbarrier.init.shared::cta.b64 [$at], $arrivals;",
        r"SYNCS\.EXCH\.64",
        (Operand("arrivals", "i32"),),
    ),
    _FENCE_INIT,
    _operation("mbar_arrive", arrive, "mbarrier.arrive.shared::cta.b64 _, [$at];", r"SYNCS\.ARRIVE\.TRANS64\.A1T0", ()),
    _operation(
        "mbar_arrive_at",
        lambda barrier, block: arrive(barrier),
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, $at, $block; "
        "mbarrier.arrive.shared::cluster.b64 _, [remote]; }",
        r"SYNCS\.ARRIVE\.TRANS64\.RED\.A1T0",
        (Operand("block", "i32"),),
    ),
    _operation(
        "mbar_expect",
        expect,
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$at], $bytes;",
        r"SYNCS\.ARRIVE\.TRANS64",
        (Operand("bytes", "i32"),),
    ),
    _operation(
        "mbar_wait",
        passes,
        "{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [$at], $parity; @!p bra again; }",
        r"SYNCS\.PHASECHK\.TRANS64\.TRYWAIT",
        (Operand("parity", "i32"),),
        "wait",
    ),
)
