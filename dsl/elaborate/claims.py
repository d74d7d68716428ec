"""Claims: `claim` in the header, `tag` and `expect` in the body. They change nothing that is computed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import get_args

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate.arithmetic import need_value
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.elaborate.operands import Operand, source_text
from kernelagent.dsl.elaborate.views import integers
from kernelagent.dsl.elaborate.words import CLAIM_WORDS, Call, handles
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.syntax import fault, span_of

LIMITED = ("bank_conflicts", "sectors")
"""Claims with a number: the degree of conflicts, and sectors of 32 bytes as a multiple of the least."""
HIGHEST = 32
"""No access reaches more: the lanes of a warp. A claim of that much cannot fail."""


def read_claims(k: Context, call: ast.Call) -> Iterator[ir.Claim]:
    """`claim(bank_conflicts <= 2, conformity)`."""
    for argument in (*call.args, *call.keywords):
        with k.recovering():
            yield claim_of(argument)


def claim_of(node: ast.AST) -> ir.Claim:
    """One argument of `claim`. Raises Fault for what is none."""
    match node:
        case ast.Compare(left=ast.Name(id=name), ops=[ast.LtE()], comparators=[ast.Constant(value=int(limit))]) if (
            name in LIMITED and not isinstance(limit, bool)
        ):
            if not 1 <= limit < HIGHEST:
                message = f"`{source_text(node)}` cannot {'fail' if limit >= HIGHEST else 'hold'}"
                raise fault("claim-limit", message, node, f"write a literal from 1 to {HIGHEST - 1}", limit=limit)
            return ir.Claim(_word(name), limit, source_text(node), span_of(node))
        case ast.Name(id=name) if name in CLAIM_WORDS and name not in LIMITED:
            return ir.Claim(_word(name), None, name, span_of(node))
    text = f"{node.arg}=" if isinstance(node, ast.keyword) else source_text(node)
    named = next((n.id for n in ast.walk(node) if isinstance(n, ast.Name)), "")
    close = nearest(named, list(CLAIM_WORDS))
    hint = "write `bank_conflicts <= 1`, `sectors <= 1`, `conformity` or `separation`"
    raise fault("claim", f"`{text}` is not a claim", node, hint, nearest=close)


def _word(name: str) -> ir.ClaimWord:
    return next(w for w in get_args(ir.ClaimWord) if w == name)


@handles("tag")
def tag(k: Context, call: Call) -> Operand:
    x, dims, start = _labelled(k, call)
    return k.emit(ir.Tag(x, dims, start), x.type.dtype, x.type.shape, call.node)


@handles("expect")
def expect(k: Context, call: Call) -> Operand:
    value, dims, start = _labelled(k, call)
    k.block.append(ir.Expect(value, dims, start, k.origin(call.node)))
    return ()


def _labelled(k: Context, call: Call) -> tuple[ir.Value, tuple[str, ...], tuple[Index, ...]]:
    """A tile of floats, a dim for each of its axes, and where each begins."""
    x = need_value(call["x"], call.at("x"), call.word.name)
    if dtypes.is_concrete(x.type.dtype) and not dtypes.is_float(x.type.dtype):
        hint = "label the floats that are loaded with it"
        raise fault("tag-dims", f"`{source_text(call.at('x'))}` is {x.type.dtype}", call.at("x"), hint)
    found, at = call["dims"], call.at("dims")
    dims = tuple(dim_of(part, at) for part in (found if isinstance(found, tuple) else (found,)))
    start = integers(call, "position")
    if not len(dims) == len(start) == x.type.rank:
        message = f"{len(dims)} dims and {len(start)} positions for a tile of rank {x.type.rank}"
        raise fault("tag-dims", message, call.node, "give one of each for every axis: `(M, K), (i, k)`")
    return x, dims, start


def dim_of(part: object, at: ast.expr) -> str:
    """The name of a dim that stands by itself. Raises Fault."""
    match part:
        case Index(terms=(((Symbol(name, "dim"),), 1),)):
            return name
    hint = "name dims of the signature: `(M, K)`"
    raise fault("tag-dims", f"`{source_text(at)}` are not dims of the kernel", at, hint)


__all__ = ["HIGHEST", "LIMITED", "claim_of", "dim_of", "read_claims"]
