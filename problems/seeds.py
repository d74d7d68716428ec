"""The seed kernel against the problem: parameters are bound by name, inputs first, outputs last.

The text is only parsed as Python syntax here, never executed; the tile language's own front end is handed in by the
caller of `validate`, because problems do not import the compiler.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from kernelagent.problems.findings import Finding, error, warning
from kernelagent.problems.problem import Problem

KernelCheck = Callable[[str], Sequence[str]]
"""Messages of the front end about a kernel text; empty when it is accepted."""

_ARRAY_ROLES = ("In", "Out", "InOut", "Acc")


def check_seed(problem: Problem, check_kernel: KernelCheck | None = None) -> Iterator[Finding]:
    """Findings about the seed's entry: the last @program, else the last @kernel."""
    if not problem.seed_kernel.strip():
        hint = "give a plain correct kernel: the search starts from it"
        yield error("seed-missing", "there is no seed kernel", hint)
        return
    try:
        entry = _entry(ast.parse(problem.seed_kernel))
    except (SyntaxError, ValueError) as reason:
        yield error("seed-syntax", f"the seed kernel does not parse: {reason}", "see the language guide")
        return
    if entry is None:
        yield error("seed-no-entry", "the seed has no @kernel", "decorate its function with @kernel")
        return
    yield from _parameters(problem, entry)
    for message in check_kernel(problem.seed_kernel) if check_kernel else ():
        yield error("seed-rejected", f"the seed kernel is refused: {message}", "`kernelagent check` shows where")


def _entry(tree: ast.Module) -> ast.FunctionDef | None:
    functions = [s for s in tree.body if isinstance(s, ast.FunctionDef)]
    for decorator in ("program", "kernel"):
        found = [f for f in functions if any(isinstance(d, ast.Name) and d.id == decorator for d in f.decorator_list)]
        if found:
            return found[-1]
    return None


def _parameters(problem: Problem, entry: ast.FunctionDef) -> Iterator[Finding]:
    roles = {a.arg: _role(a) for a in (*entry.args.posonlyargs, *entry.args.args, *entry.args.kwonlyargs)}
    arrays = [name for name, role in roles.items() if role in _ARRAY_ROLES]
    wanted = [t.name for t in (*problem.inputs, *problem.outputs)]
    if arrays != wanted:
        message = f"{entry.name} takes the arrays {', '.join(arrays) or 'none'}; the problem has {', '.join(wanted)}"
        yield error("seed-parameters", message, "same names, inputs first, outputs last", found=arrays, wanted=wanted)
        return
    scalars = {name for name, role in roles.items() if role == "scalar"}
    for name in sorted({s.name for s in problem.scalars} ^ scalars):
        owner = "the problem" if name in scalars else entry.name
        yield error("seed-scalars", f"{owner} has no scalar {name!r}", "scalars are bound by name too")
    for tensor in problem.outputs:
        if roles[tensor.name] == "In":
            yield error("seed-role", f"{tensor.name} is an output but declared In", f"write {tensor.name}: Out[..]")
    if entry.name != problem.name:
        yield warning("seed-name", f"the seed is called {entry.name}, the problem {problem.name}", "use one name")


def _role(argument: ast.arg) -> str:
    match argument.annotation:
        case ast.Subscript(value=ast.Name(id=role)):
            return role
        case ast.Name(id="const") | None:
            return "tunable"
        case _:
            return "scalar"
