"""Where a product's sums go: into the accumulator's own registers where nothing else reads them."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_words import literal


def accumulate_into(body: Body, let: dev.Let) -> str:
    """The array to add to, prepared once: a fence may have asked for it before the product."""
    fragment, operation = let.fragment, let.operation
    assert isinstance(operation, dev.Mma)
    if fragment.number not in body.sums:
        body.sums[fragment.number] = _array(body, fragment, operation)
    return body.sums[fragment.number]


def _array(body: Body, fragment: dev.Fragment, operation: dev.Mma) -> str:
    acc = operation.acc
    if body.ends_here(acc) and acc.dtype == fragment.dtype:
        name = body.place(acc).text
        body.own(fragment, name)
        return name
    name = body.declare(fragment)
    if operation.atom.startswith("wgmma") and _is_zero(body, acc):
        body.begun.add(fragment.number)  # the first step begins the sum (scale-d), so that no registers are cleared
    else:
        body.copy(name, fragment, body.place(acc))
    return name


def _is_zero(body: Body, acc: dev.Fragment) -> bool:
    place = body.place(acc)
    return place.terms is None and place.text == literal(0, acc.dtype)
