"""Where a product's sums go: into the accumulator's own registers where nothing else reads them."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.targets.cuda.body import Body


def accumulate_into(body: Body, let: dev.Let) -> str:
    """The array to add to, prepared once: a fence may have asked for it before the product."""
    fragment, operation = let.fragment, let.operation
    assert isinstance(operation, dev.Mma)
    if fragment.number not in body.sums:
        body.sums[fragment.number] = _array(body, fragment, operation.acc)
    return body.sums[fragment.number]


def _array(body: Body, fragment: dev.Fragment, acc: dev.Fragment) -> str:
    if body.ends_here(acc) and acc.dtype == fragment.dtype:
        name = body.place(acc).text
        body.own(fragment, name)
        return name
    name = body.declare(fragment)
    body.copy(name, fragment, body.place(acc))
    return name
