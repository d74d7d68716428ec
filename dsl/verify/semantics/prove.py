"""A kernel against the graph of its reference: the highest level that can be shown, or a counterexample.

Levels, from the strongest: EQUAL_OVER_REALS (the canonical forms of one generic element agree, or z3 shows them equal),
FIELD_TESTED(n) (the whole tiled kernel agrees with the graph in n runs over finite fields), NUMERICALLY_TESTED(n) (it
agrees in n runs with the reference itself). REFUTED comes with an input on which the interpreter and the reference
differ. Equality is over the reals: casts are dropped, rounding and NaN are the business of the numeric comparison and of
the `stability` family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.records import Findings, Obligation
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.compare import equal
from kernelagent.dsl.verify.semantics.kernel import Stored
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.program import Case, Contract, cases
from kernelagent.dsl.verify.semantics.reference import ReferenceMeaning
from kernelagent.dsl.verify.semantics.terms import Poly, Undenoted

EQUAL = "EQUAL_OVER_REALS"


@dataclass(frozen=True)
class Difference:
    """A store whose canonical form is not the reference's; `reason` when one of them has none."""

    array: str
    line: int
    found: Poly | None
    expected: Poly | None
    known: Known | None
    reason: str = ""


def prove_semantics(
    module: ir.Module, choice: Choice, graph: g.ReferenceGraph, reference: Reference | None = None
) -> Findings:
    """One obligation for each output. `graph` is the reference's, with arrays named as the kernel's parameters.

    `reference` runs the reference on small arrays; without it nothing can be refuted.
    """
    differences = differing(module, choice, graph)
    wrong = {d.array: d for d in differences}
    obligations: list[Obligation] = []
    for array in module.entry.arrays:
        if array.name not in graph.outputs:
            continue
        if array.name in wrong:
            difference = wrong[array.name]
            detail = f"not shown equal over the reals: {difference.reason or 'the canonical forms differ'}"
            obligations.append(Obligation("semantics", "UNKNOWN", difference.line, detail, array.name))
        else:
            detail = "equal to the reference over the reals, for all sizes"
            obligations.append(Obligation("semantics", "PROVED", array.span.line, detail, array.name, EQUAL))
    return Findings(tuple(obligations))


def differing(module: ir.Module, choice: Choice, graph: g.ReferenceGraph) -> list[Difference]:
    """Stores that are not shown to store what the reference asks for."""

    def contracts(arrays: tuple[ir.Array, ...]) -> tuple[Contract, ...]:
        dims, _ = unified(graph, arrays)
        return tuple(Contract(name, size.substitute(dims)) for name, size in demanded(graph))

    try:
        return [d for case in cases(module, choice, contracts) for d in _differing(case, graph)]
    except Undenoted as reason:
        names = [a for a in module.entry.arrays if a.name in graph.outputs]
        return [Difference(a.name, a.span.line, None, None, None, str(reason)) for a in names]


def _differing(case: Case, graph: g.ReferenceGraph) -> list[Difference]:
    dims, conditions = unified(graph, case.arrays)
    found: list[Difference] = []
    for stored in case.stored:
        known = stored.known
        for condition in conditions:
            known = known.where(condition)
        difference = _compared(stored, ReferenceMeaning(graph, dims, known), known)
        if difference is not None:
            found.append(difference)
    return found


def _compared(stored: Stored, meaning: ReferenceMeaning, known: Known) -> Difference | None:
    array, line = stored.store.view.array, stored.store.origin.span.line
    try:
        expected = meaning.output(array, stored.place)
    except Undenoted as reason:
        return Difference(array, line, stored.value, None, known, str(reason))
    if equal(stored.value, expected, known):
        return None
    return Difference(array, line, stored.value, expected, known)


def unified(graph: g.ReferenceGraph, arrays: tuple[ir.Array, ...]) -> tuple[dict[str, Index], tuple[ix.Condition, ...]]:
    """The reference's dims in the kernel's names, and what the problem demands of the kernel's dims besides."""
    dims: dict[str, Index] = {}
    pairs: list[tuple[Index, Index]] = []
    for array in arrays:
        number = graph.inputs.get(array.name, graph.outputs.get(array.name))
        if number is not None:
            pairs += zip(graph.nodes[number].shape, array.dims, strict=True)
    for theirs, ours in pairs:
        symbols = tuple(theirs.symbols())
        if len(symbols) == 1 and theirs == ix.index(symbols[0]):
            dims.setdefault(symbols[0].name, ours)
    demands = [(theirs.substitute(dims), ours) for theirs, ours in pairs]
    return dims, tuple(ix.Compare("==", a, b) for a, b in dict.fromkeys(demands) if a != b)


def demanded(graph: g.ReferenceGraph) -> list[tuple[str, Index]]:
    """Integer inputs that the reference gathers with, and the length of the axis that their elements lie in."""
    names = {number: name for name, number in graph.inputs.items()}
    found: list[tuple[str, Index]] = []
    for node in graph.nodes:
        if not isinstance(node.operation, g.Gather):
            continue
        source = _moved_from(graph, node.operands[1])
        if source in names:
            found.append((names[source], graph.nodes[node.operands[0]].shape[node.operation.axis]))
    return found


def _moved_from(graph: g.ReferenceGraph, number: int) -> int:
    """The node whose elements this one has, moved only."""
    node = graph.nodes[number]
    moves = g.Reshape | g.Permute | g.Broadcast | g.Subscript
    if isinstance(node.operation, moves) or node.operation == g.Pointwise("cast"):
        return _moved_from(graph, node.operands[0])
    return number


__all__ = ["Difference", "Mapping", "demanded", "differing", "prove_semantics", "unified"]
