"""One `@kernel`: signature, header, body, and the rules about the whole."""

from __future__ import annotations

import ast

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.dsl.elaborate.checks import check_kernel
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.elaborate.header import read_header, split_header
from kernelagent.dsl.elaborate.operands import Operand
from kernelagent.dsl.elaborate.signature import Signature, read_signature
from kernelagent.dsl.elaborate.statements import run_block
from kernelagent.dsl.syntax import Source


def elaborate_kernel(
    source: Source, constants: dict[str, Operand], node: ast.FunctionDef, absent: frozenset[str]
) -> tuple[ir.Kernel | None, list[Diagnostic]]:
    """The typed kernel (None if it is wrong) and everything there is to say about it."""
    k = Context(source, constants, Facts())
    signature = read_signature(k, node, absent)
    header, body = split_header(node.body)
    assumes, policies, claims = read_header(k, header)
    run_block(k, body)
    kernel = _assemble(k, node, signature, assumes, policies, claims)
    if not k.failed:
        with k.recovering():
            check_kernel(k, kernel, header)
    return (None if k.failed else kernel), k.diagnostics


def _assemble(
    k: Context,
    node: ast.FunctionDef,
    signature: Signature,
    assumes: list[ir.Assume],
    policies: list[ir.Policy],
    claims: list[ir.Claim],
) -> ir.Kernel:
    return ir.Kernel(
        name=node.name,
        arrays=tuple(signature.arrays),
        scalars=tuple(signature.scalars),
        tunables=tuple(signature.tunables),
        dims=tuple(signature.dims),
        dtype_variables=tuple(signature.dtype_variables),
        dtype_needs=tuple(sorted(k.needs.items())),
        assumes=tuple(assumes),
        policies=tuple(policies),
        body=tuple(k.block),
        span=name_span(node),
        claims=tuple(claims),
    )


def name_span(node: ast.FunctionDef) -> Span:
    """The function's name behind `def `."""
    column = node.col_offset + 5
    return Span(node.lineno, column, node.lineno, column + len(node.name))
