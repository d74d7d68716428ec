"""What `tag` and `expect` may be about in a schedule, and the schedule without them: nothing that runs changes."""

from __future__ import annotations

import ast
from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.accesses import buffer_of
from kernelagent.dsl.level2.rules import Broken, Machine, Type, type_of
from kernelagent.dsl.level2.traverse import with_blocks, with_fragments

# Rules -------------------------------------------------------------------------------------------------


def tagged(m: Machine, o: dev.Tag, dtype: str | None, layout: Distribution | None) -> Type:
    """The type of a labelled fragment: its own. Raises Broken."""
    made = type_of(o.x)
    _check_labels(o.dims, o.start, len(made.shape))
    return made


def check_labelled(m: Machine, e: dev.Expectation) -> None:
    """Raises Broken."""
    rank = len(e.value.shape) if isinstance(e.value, dev.Fragment) else len(buffer_of(m, e.value, "x").shape)
    if e.view is None:
        _check_labels(e.dims, e.start, rank)
    elif not len(e.view.axes) == len(e.start) == rank:
        message = f"a view of rank {len(e.view.axes)} and {len(e.start)} positions for a tile of rank {rank}"
        raise Broken("tag-dims", message, "name rows of the array, `tag(q[h])`, and a position for each axis")


def _check_labels(dims: tuple[str, ...], start: tuple[object, ...], rank: int) -> None:
    if not len(dims) == len(start) == rank or not rank:
        message = f"{len(dims)} dims and {len(start)} positions for a tile of rank {rank}"
        raise Broken("tag-dims", message, "give one of each for every axis: `(M, K), (i, k)`")


def claims_in(text: str) -> list[str]:
    """Everything that a text claims, sorted; its barriers' `expect` aside. Empty for text that is not Python."""
    try:
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    except SyntaxError:
        return []
    return sorted(ast.unparse(c) for c in calls if _claims(c))


def _claims(call: ast.Call) -> bool:
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return name in ("claim", "tag") or (name == "expect" and len(call.args) + len(call.keywords) > 2)


# The schedule alone ------------------------------------------------------------------------------------


def without_expectations(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    """The kernel without labels and expectations; a labelled fragment is the one that was labelled, under its name."""
    labels = {s.fragment.number: s for s in dev.statements(kernel) if _is_label(s)}  # type: ignore[union-attr]
    if not labels and not any(isinstance(s, dev.Expectation) for s in dev.statements(kernel)):
        return kernel
    names: dict[int, str] = {}

    def source(x: dev.Fragment) -> dev.Fragment:
        while x.number in labels:
            operation = labels[x.number].operation  # type: ignore[union-attr]
            assert isinstance(operation, dev.Tag)
            names.setdefault(operation.x.number, x.name)
            x = operation.x
        return x

    bare = with_fragments(with_blocks(kernel, _dropped), source)
    return with_fragments(bare, lambda x: replace(x, name=x.name or names.get(x.number, "")))


def _is_label(s: dev.Statement) -> bool:
    return isinstance(s, dev.Let) and isinstance(s.operation, dev.Tag)


def _dropped(body: tuple[dev.Statement, ...]) -> tuple[dev.Statement, ...]:
    return tuple(_inside(s) for s in body if not _is_label(s) and not isinstance(s, dev.Expectation))


def _inside(s: dev.Statement) -> dev.Statement:
    match s:
        case dev.For(body=body):
            return replace(s, body=_dropped(body))
        case dev.If(then=then, otherwise=otherwise):
            return replace(s, then=_dropped(then), otherwise=_dropped(otherwise))
        case _:
            return s


__all__ = ["check_labelled", "claims_in", "tagged", "without_expectations"]
