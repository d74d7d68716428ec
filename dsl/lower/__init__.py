"""Tile IR -> schedule IR, one pass a file. The order is that of `lower`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.lower.build import Builder
from kernelagent.dsl.lower.choose_stores import choose_stores
from kernelagent.dsl.lower.choose_transposes import choose_transposes
from kernelagent.dsl.lower.classify import classify
from kernelagent.dsl.lower.defer_store import defer_store, kept_buffers
from kernelagent.dsl.lower.drop_checks import drop_checks
from kernelagent.dsl.lower.fuse_nests import Compatible, drop_dead_buffers, effects, fuse_nests, set_unroll
from kernelagent.dsl.lower.machine import Machine
from kernelagent.dsl.lower.prefetch_next import prefetch_next
from kernelagent.dsl.lower.reciprocals import use_reciprocals
from kernelagent.dsl.lower.share_panels import share_panels
from kernelagent.dsl.lower.simplify import simplify
from kernelagent.dsl.lower.split_pairs import split_pairs
from kernelagent.dsl.lower.turn_directly import turn_directly

PASSES_VERSION = 5
"""Part of every cache key; raise it when a pass changes what is emitted."""


def lower(
    kernel: ir.Kernel,
    machine: Machine,
    policy: Mapping[str, object],
    unit_stride: bool = True,
    compatible: Compatible = lambda a, b: True,
) -> sch.Schedule:
    """The schedule of an instantiated kernel. `unit_stride` is the dense shape class: last strides are 1.

    `compatible` says whether the target can emit two nests as one.
    """
    simple = simplify(kernel)
    builder = Builder(simple, classify(simple), machine, policy, unit_stride)
    choices = builder.choices
    body = drop_dead_buffers(fuse_nests(drop_checks(builder.build(), builder.natural), compatible))
    body = split_pairs(body, builder.fresh, choices)
    body = choose_transposes(body, builder.new_buffer, unit_stride, choices)
    body = turn_directly(choose_stores(body, kernel, policy, choices), unit_stride)
    body = use_reciprocals(body, choices)
    body = prefetch_next(body, policy, choices)
    unroll = policy.get("unroll")
    if isinstance(unroll, int) and unroll > 0:
        body = set_unroll(body, unroll)
    body = defer_store(body, machine.lanes, choices)
    body, shared = share_panels(body, {b.name: b for b in builder.all_buffers}, choices)
    guards = tuple(sch.Guard("unit_stride", a.name) for a in kernel.arrays if unit_stride and a.dims)
    shape_class = sch.ShapeClass("dense" if unit_stride else "general", guards)
    used = _used_names(body)
    kept = kept_buffers(body)
    buffers = tuple(replace(b, space="l1") if b.name in kept else b for b in builder.all_buffers if b.name in used)
    atoms = tuple(builder.atoms.values())
    return sch.Schedule(kernel.name, machine.name, shape_class, buffers, atoms, body, tuple(choices), shared)


def _used_names(body: tuple[sch.Node, ...]) -> set[str]:
    used: set[str] = set()
    for node in body:
        for names in effects(node):
            used |= names
    return used


__all__ = ["PASSES_VERSION", "Machine", "lower"]
