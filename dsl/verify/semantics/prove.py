"""A kernel against the graph of its reference: the highest level that can be shown, or a counterexample.

Levels, from the strongest: EQUAL_OVER_REALS (the canonical forms of one generic element agree, or z3 shows them
equal), FIELD_TESTED(n) (the whole tiled kernel agrees with the graph in n runs over finite fields),
NUMERICALLY_TESTED(n) (it agrees in n runs with the reference itself). REFUTED comes with an input on which the
interpreter and the reference differ. Equality is over the reals: casts are dropped, rounding and NaN are the business
of the numeric comparison and of the `stability` family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.gaps import store_line
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.blame import line_of, strange_literal, unreached
from kernelagent.dsl.verify.semantics.compare import equal
from kernelagent.dsl.verify.semantics.constants import literal
from kernelagent.dsl.verify.semantics.field_test import agreeing
from kernelagent.dsl.verify.semantics.kernel import Stored
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.nan import nan_contract
from kernelagent.dsl.verify.semantics.overflows import with_witness
from kernelagent.dsl.verify.semantics.program import Case, Contract, cases
from kernelagent.dsl.verify.semantics.reference import ReferenceMeaning
from kernelagent.dsl.verify.semantics.refute import Search, search
from kernelagent.dsl.verify.semantics.repair import repaired
from kernelagent.dsl.verify.semantics.settle import equal_when_settled
from kernelagent.dsl.verify.semantics.solver import proves_equal
from kernelagent.dsl.verify.semantics.stability import lint
from kernelagent.dsl.verify.semantics.terms import UNKNOWN, Call, Poly, Undenoted, parts

EQUAL = "EQUAL_OVER_REALS"
SECONDS = 4.0
"""For runs on small inputs, where the terms do not settle it."""


@dataclass(frozen=True)
class Difference:
    """A store whose canonical form is not shown to be the reference's; `line` is the one to look at."""

    array: str
    line: int
    reason: str
    terms: tuple[Poly, Poly, Known] | None = None  # the store's, the reference's, and what is known

    @property
    def settled(self) -> bool:
        """Whether a closer look shows the terms to be equal; it may take long."""
        if self.terms is None:
            return False
        stored, expected, known = self.terms
        return equal_when_settled(stored, expected, known) or proves_equal(stored, expected)


def prove_semantics(
    module: ir.Module,
    choice: Choice,
    graph: g.ReferenceGraph,
    reference: Reference | None = None,
    seconds: float = SECONDS,
    fixing: bool = False,
) -> Findings:
    """One obligation for each output, of family "semantics" and with the level that was reached.

    `graph` is the reference's, with arrays named as the kernel's parameters. `reference` runs the reference on small
    arrays; without it nothing can be refuted. `fixing`: what is refuted is looked at for an edit that mends it.
    """
    outputs = [a for a in module.entry.arrays if a.role != "In"]
    reading = read(module, choice, graph)
    differences = {d.array: d for d in reading.differences}
    risks = with_witness(lint(reading.cases), module, choice, reference)
    remarks = Findings((*risks, *nan_contract(module, reading.cases, choice, reference)))
    found = Search(0) if reference is None else search(module, reference, choice, seconds)
    if found.failure is None:  # what a run refutes needs no second look
        differences = {d.array: d for d in reading.differences if not d.settled}
        if differences and reference is not None:
            found = search(module, reference, choice, seconds, found.runs)
    if found.failure is not None:
        failure = found.failure
        if fixing and reference is not None and not failure.lines:
            failure = _mended(module, choice, graph, reference, differences, failure)
        return remarks + _refuted(module, outputs, differences, failure)
    rest = [a for a in outputs if a.name in differences]
    fields, why = (0, "")
    if rest and reference is not None and not graph.missing:
        fields, why = agreeing(module, choice, graph, reference)
    proved = (_equal(a, _infinities(reading.cases)) for a in outputs if a.name not in differences)
    tested = (_tested(a, differences[a.name], found.runs, fields, why) for a in rest)
    return Findings((*proved, *tested)) + remarks


def _mended(
    module: ir.Module, choice: Choice, graph: g.ReferenceGraph, reference: Reference,
    differences: Mapping[str, Difference], failure: Counterexample,
) -> Counterexample:  # fmt: skip
    """The failure, at the line of an edit after which the kernel is its reference, where one is found."""
    wrong = sorted(differences.values(), key=lambda d: d.array != failure.array)
    repair = repaired(module, choice, graph, reference, [d.line for d in wrong])
    return failure if repair is None else replace(failure, lines=(repair.edit.line,), fixes=(repair.text,))


def _infinities(cases_: tuple[Case, ...]) -> str:
    """Which literals stand for infinity: what is proved holds while no value comes near them."""
    found = {line: None for case in cases_ for kernel in case.kernels for line in unreached(kernel)}
    return f"; the large literals of lines {', '.join(map(str, sorted(found)))} stand for infinity" if found else ""


def _equal(array: ir.Array, remark: str = "") -> Obligation:
    detail = f"{EQUAL}: every element that is stored is the reference's, for all sizes that the kernel accepts{remark}"
    return Obligation("semantics", "PROVED", array.span.line, detail, array.name, EQUAL)


def _tested(array: ir.Array, difference: Difference, runs: int, fields: int, why: str) -> Obligation:
    open_ = f"not shown over the reals: {difference.reason} (line {difference.line})"
    if not runs:
        return Obligation("semantics", "UNKNOWN", difference.line, open_, array.name)
    level = f"FIELD_TESTED({fields})" if fields else f"NUMERICALLY_TESTED({runs})"
    shown = f"agrees with the reference in {runs} runs without rounding"
    if fields:
        shown = f"agrees in {fields} runs over finite fields and {shown.removeprefix('agrees ')}"
    detail = f"{level}: {shown}; {open_}" + (f"; {why}" if why else "")
    return Obligation("semantics", "TESTED", difference.line, detail, array.name, level)


def _refuted(
    module: ir.Module, outputs: list[ir.Array], differences: Mapping[str, Difference], failure: Counterexample
) -> Findings:
    """The failure, at the line to look at. Terms that agree do not help where a value is not finite or never stored."""
    wrong = next((a for a in outputs if a.name == failure.array), outputs[0])
    obligations: list[Obligation] = []
    for array in outputs:
        difference = differences.get(array.name)
        line = difference.line if difference is not None else store_line(module, array)
        if array is wrong:
            failure = replace(failure, lines=failure.lines or (line,))
            obligations.append(Obligation("semantics", "REFUTED", failure.lines[0], failure.message, array.name))
        elif difference is not None:
            obligations.append(Obligation("semantics", "UNKNOWN", line, difference.reason, array.name))
        else:
            obligations.append(_equal(array))
    return Findings(tuple(obligations), (failure,))


# Canonical forms ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What was read of a text, and the stores that are not shown to store what the reference asks for."""

    cases: tuple[Case, ...]
    differences: tuple[Difference, ...]


def read(module: ir.Module, choice: Choice, graph: g.ReferenceGraph) -> Reading:
    """The text's stores in canonical form, each compared with the reference's element."""

    def contracts(arrays: tuple[ir.Array, ...]) -> tuple[Contract, ...]:
        dims, _ = unified(graph, arrays)
        return tuple(Contract(name, size.substitute(dims)) for name, size in demanded(graph))

    found: list[Case] = []
    try:
        found.extend(cases(module, choice, contracts))
        if graph.missing:
            raise Undenoted(graph.missing)
        return Reading(tuple(found), tuple(d for case in found for d in _differing(case, graph)))
    except Undenoted as reason:
        outputs = [a for a in module.entry.arrays if a.role != "In"]
        return Reading(
            tuple(found), tuple(Difference(a.name, reason.line or store_line(module, a), str(reason)) for a in outputs)
        )


def _differing(case: Case, graph: g.ReferenceGraph) -> Iterator[Difference]:
    dims, conditions = unified(graph, case.arrays)
    for stored in case.stored:
        known = stored.known
        for condition in conditions:
            known = known.where(condition)
        difference = _compared(case, stored, ReferenceMeaning(graph, dims, known), known)
        if difference is not None:
            yield difference


def _compared(case: Case, stored: Stored, meaning: ReferenceMeaning, known: Known) -> Difference | None:
    array, line = stored.store.view.array, stored.store.origin.span.line
    try:
        expected = meaning.output(array, stored.place)
    except Undenoted as reason:
        return Difference(array, line, str(reason))
    if equal(stored.value, expected, known):
        return None
    unknown = next((a.word for a in parts(stored.value) if isinstance(a, Call) and a.word.startswith(UNKNOWN)), None)
    text = f"how {unknown.removeprefix(UNKNOWN)} changes is no reduction" if unknown else "the canonical forms differ"
    terms = (stored.value, expected, known)
    return Difference(array, _blamed(case, stored, expected, meaning.graph) or line, text, terms)


def _blamed(case: Case, stored: Stored, expected: Poly, graph: g.ReferenceGraph) -> int | None:
    literals = {_literal_key(n.operation.value) for n in graph.nodes if isinstance(n.operation, g.Constant)}
    lines = (strange_literal(kernel, literals) for kernel in case.kernels)
    first = next((line for line in lines if line is not None), None)
    return first if first is not None else line_of(stored.value, expected, case.history)


def _literal_key(value: float | int | bool) -> str:
    return "nan" if value != value else literal(value).key


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


__all__ = ["EQUAL", "Difference", "demanded", "prove_semantics", "read", "unified"]
