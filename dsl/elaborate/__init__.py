"""Text -> tile IR. `parse` is the whole front end."""

from __future__ import annotations

import ast

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import MAX_DIAGNOSTICS, Diagnostic, KernelError, Span
from kernelagent.dsl.elaborate.context import Context, Silent
from kernelagent.dsl.elaborate.expressions import evaluate
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.elaborate.kernel import elaborate_kernel
from kernelagent.dsl.elaborate.operands import Operand
from kernelagent.dsl.elaborate.program import elaborate_program
from kernelagent.dsl.syntax import Fault, Source, fault, read

_LITERALS = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.Name)


def parse(text: str, absent: frozenset[str] = frozenset()) -> ir.Module:
    """Check and type a kernel text. `absent` names optional arrays that the call leaves out.

    Raises KernelError with every diagnostic that was found; the text is never executed.
    """
    source = read(text)
    diagnostics: list[Diagnostic] = []
    constants = _constants(source, diagnostics)
    _check_absent(source, absent, diagnostics)
    kernels: dict[str, ir.Kernel] = {}
    broken: set[str] = set()
    for name, function in source.functions.items():
        if function.role == "kernel":
            kernel, found = elaborate_kernel(source, constants, function.node, absent)
            diagnostics += found
            if kernel is None:
                broken.add(name)
            else:
                kernels[name] = kernel
    programs = _programs(source, constants, kernels, frozenset(broken), absent, diagnostics)
    if any(d.severity == "error" for d in diagnostics):
        errors_first = sorted(diagnostics, key=lambda d: (d.severity != "error", d.span or Span(0, 0, 0, 0)))
        raise KernelError(errors_first[:MAX_DIAGNOSTICS])
    return ir.Module(text, source.edition, tuple(kernels.values()), tuple(programs), tuple(diagnostics))


def _programs(
    source: Source,
    constants: dict[str, Operand],
    kernels: dict[str, ir.Kernel],
    broken: frozenset[str],
    absent: frozenset[str],
    diagnostics: list[Diagnostic],
) -> list[ir.Program]:
    programs = []
    for function in source.functions.values():
        if function.role == "program":
            program, found = elaborate_program(source, constants, function.node, kernels, broken, absent)
            diagnostics += found
            programs += [program] if program is not None else []
    return programs


def _constants(source: Source, diagnostics: list[Diagnostic]) -> dict[str, Operand]:
    """Top-level `NAME = literal`: numbers, bools, and arithmetic or tuples of them."""
    constants: dict[str, Operand] = {}
    context = Context(source, constants, Facts())
    for name, node in source.constants.items():
        try:
            constants[name] = _constant(context, name, node)
        except Fault as problem:
            diagnostics.append(problem.diagnostic)
        except Silent:
            pass
    return constants


def _constant(context: Context, name: str, node: ast.expr) -> Operand:
    if is_reserved(name):
        raise fault("reserved-word", f"`{name}` is a word of the language", node, f"rename it, e.g. `{name}_`")
    allowed = (*_LITERALS, ast.operator, ast.unaryop, ast.expr_context)
    if all(isinstance(part, allowed) for part in ast.walk(node)):
        found = evaluate(context, node)
        if not context.block:
            return found
    hint = "write a number, True or False; compute everything else in a kernel"
    raise fault("top-level", f"`{name}` is not a literal constant", node, hint)


def _check_absent(source: Source, absent: frozenset[str], diagnostics: list[Diagnostic]) -> None:
    """Only parameters with the default None may be left out."""
    optional = {
        argument.arg
        for function in source.functions.values()
        for argument, default in _defaults(function.node)
        if isinstance(default, ast.Constant) and default.value is None
    }
    for name in sorted(absent - optional):
        message = f"`{name}` is not an optional array"
        hint = f"write `{name}: In[...] = None` to let callers leave it out"
        diagnostics.append(fault("not-optional", message, Span(1, 1, 1, 2), hint).diagnostic)


def _defaults(node: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr]]:
    plain = node.args.args
    pairs = list(zip(reversed(plain), reversed(node.args.defaults), strict=False))
    pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
    return pairs


__all__ = ["parse"]
