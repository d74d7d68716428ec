"""What blocks with roles and clusters need: barriers of a part of the block, registers by role, who is who, fences."""

from __future__ import annotations

from kernelagent.dsl.atoms.record import Atom, Operand, Scope


def _control(
    name: str,
    kind: str,
    scope: Scope,
    source: str,
    ptx: str,
    sass: str,
    operands: tuple[Operand, ...] = (),
    arch: str = "sm_90",
) -> Atom:
    return Atom(
        name=name,
        kind=kind,
        archs=(arch,),
        shape=(),
        operands=operands,
        reference=None,
        source=f"PTX ISA 9.0, {source}",
        scope=scope,
        ptx=ptx,
        sass=((arch, sass),),
    )


def _registers(name: str, way: str, sass: str) -> Atom:
    """The count is a multiple of 8 from 24 to 256; `more` waits until other warpgroups have given enough back."""
    return _control(
        name,
        "registers",
        "warpgroup",
        "setmaxnreg",
        f"setmaxnreg.{way}.sync.aligned.u32 $count;",
        sass,
        (Operand("count", "i32", "immediate"),),
        "sm_90a",
    )


_PART = (Operand("id", "i32", "immediate"), Operand("threads", "i32"))
"""A barrier's number, 1 to 15, and how many threads meet there: whole warps."""

ATOMS: tuple[Atom, ...] = (
    _control(
        "named_barrier", "barrier", "block", "bar, barrier", "barrier.sync.aligned $id, $threads;", r"BAR\.SYNC", _PART
    ),
    _control(
        "named_arrive", "barrier", "block", "bar, barrier", "barrier.arrive.aligned $id, $threads;", r"BAR\.ARV", _PART
    ),
    _control(
        "cluster_barrier",
        "barrier",
        "cluster",
        "barrier.cluster",
        "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;",
        r"UCGABAR_ARV",
    ),
    _control(
        "fence_async",
        "fence",
        "lane",
        "membar, fence: fence.proxy.async",
        "fence.proxy.async.shared::cta;",
        r"FENCE\.VIEW\.ASYNC",
    ),
    _registers("registers_more", "inc", r"USETMAXREG\.TRY_ALLOC"),
    _registers("registers_less", "dec", r"USETMAXREG\.DEALLOC"),
    _control(
        "cluster_rank",
        "identity",
        "lane",
        "special registers: %cluster_ctarank",
        "mov.u32 $rank, %%cluster_ctarank;",
        r"S2U?R",
        (Operand("rank", "i32", direction="out"),),
    ),
    _control(
        "elect",
        "identity",
        "warp",
        "elect.sync",
        "{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 $chosen, 1, 0, p; }",
        r"ELECT",
        (Operand("chosen", "i32", direction="out"),),
    ),
)
