"""Decide which values are recomputed where they are used and which get a buffer."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.lower.rewrite import bodies, operands, statement_values

Block = tuple[int, ...]
"""Path of a statement list: the numbers of the enclosing statements, outermost first."""

TRANSCENDENTAL = frozenset({"exp", "exp2", "log", "log2", "tanh", "erf", "sin", "cos", "sigmoid", "pow"})
SLOW = frozenset({"div", "floordiv", "mod", "sqrt", "rsqrt"})
RECOMPUTE_LIMIT = 3
"""A value of this many vector instructions is as cheap to compute again as to store and load."""


@dataclass
class Facts:
    """Where values are defined and read. Positions number statements in text order."""

    definition: dict[int, ir.Operation] = field(default_factory=dict)
    values: dict[int, ir.Value] = field(default_factory=dict)
    block: dict[int, Block] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[Reader]] = field(default_factory=dict)
    buffered: set[int] = field(default_factory=set)
    deferred: set[int] = field(default_factory=set)  # mma results folded into the addition that reads them
    carried: dict[int, ir.Carried] = field(default_factory=dict)  # by the number of `inside`
    ends: dict[int, ir.Carried] = field(default_factory=dict)  # by the number of `end`
    sums: set[int] = field(default_factory=set)  # additions that accumulate a deferred product
    inner: dict[int, list[Block]] = field(default_factory=dict)  # id of a statement -> blocks of its bodies


@dataclass(frozen=True)
class Reader:
    """One read of a value: by the value that a Let defines, or by another statement (then `value` is None)."""

    value: int | None
    statement: ir.Statement
    block: Block
    position: int


def classify(kernel: ir.Kernel) -> Facts:
    """Collect definitions and reads, then choose the buffered values from the last definition to the first."""
    facts = Facts()
    _collect(kernel.body, (), facts, [0])
    in_out = {a.name for a in kernel.arrays if a.role == "InOut"}
    _choose_deferred(facts)
    sites: dict[int, int] = {}
    for number in sorted(facts.definition, key=lambda n: -facts.position[n]):
        sites[number] = _sites(number, facts, sites)
        if must_buffer(facts.definition[number], in_out) or _worth_a_buffer(number, sites[number], facts):
            facts.buffered.add(number)
    facts.buffered -= facts.deferred
    return facts


def has_panels(mma: ir.Mma) -> bool:
    """Whether the packed f32 microkernel computes this product."""
    return all(is_float(x.type.dtype) and bits(x.type.dtype) in (16, 32) for x in (mma.a, mma.b))


def must_buffer(operation: ir.Operation, in_out: set[str]) -> bool:
    match operation:
        case ir.Reduce() | ir.ArgReduce() | ir.Scan() | ir.Mma():
            return True
        case ir.Load(view=view) | ir.Gather(view=view):
            return view.array in in_out
        case _:
            return False


def _collect(body: tuple[ir.Statement, ...], block: Block, facts: Facts, counter: list[int]) -> None:
    for statement in body:
        counter[0] += 1
        here = counter[0]
        if isinstance(statement, ir.Let):
            _define(statement.value, statement.operation, block, here, facts)
        if isinstance(statement, ir.For):
            for c in statement.carried:
                facts.carried[c.inside.number] = c
                facts.ends[c.end.number] = c
        for inner in bodies(statement):
            counter[0] += 1
            facts.inner.setdefault(id(statement), []).append((*block, counter[0]))
            _collect(inner, (*block, counter[0]), facts, counter)
        counter[0] += 1
        for value in statement_values(statement):
            target = statement.value.number if isinstance(statement, ir.Let) else None
            inner_read = isinstance(statement, ir.For) and value.number in facts.ends
            at = facts.inner[id(statement)][0] if inner_read else block
            facts.readers.setdefault(value.number, []).append(Reader(target, statement, at, counter[0]))


def _define(value: ir.Value, operation: ir.Operation, block: Block, position: int, facts: Facts) -> None:
    facts.definition[value.number] = operation
    facts.values[value.number] = value
    facts.block[value.number] = block
    facts.position[value.number] = position


def _choose_deferred(facts: Facts) -> None:
    """`u + mma(a, b)` with no other reader of the product: the sum accumulates in its own buffer."""
    for number, operation in facts.definition.items():
        if not (isinstance(operation, ir.Binary) and operation.word == "add"):
            continue
        for x in (operation.b, operation.a):
            defined = facts.definition.get(x.number)
            alone = len(facts.readers.get(x.number, [])) == 1
            together = facts.block.get(x.number) == facts.block[number]
            if isinstance(defined, ir.Mma) and alone and together and has_panels(defined):
                facts.deferred.add(x.number)
                facts.sums.add(number)
                facts.buffered.add(number)
                break


def _sites(number: int, facts: Facts, sites: dict[int, int]) -> int:
    """In how many nests the value would be computed if it had no buffer."""
    total = 0
    for reader in facts.readers.get(number, []):
        deeper = len(reader.block) > len(facts.block[number])
        virtual = reader.value is not None and reader.value not in facts.buffered
        through = sites.get(reader.value, 1) if virtual and reader.value is not None else 1
        total += through * (8 if deeper else 1)
    return total


def _worth_a_buffer(number: int, sites: int, facts: Facts) -> bool:
    operation = facts.definition[number]
    if isinstance(operation, ir.Load):
        return _reread_is_slow(number, sites, facts)
    if not operands(operation):
        return False
    cost = _cost(number, facts, {})
    if sites > 1 and cost >= RECOMPUTE_LIMIT:
        return True
    return cost >= 8 and elements(facts.values[number]) > 1 and _is_stretched(number, facts)


def _reread_is_slow(number: int, sites: int, facts: Facts) -> bool:
    """Narrow storage is widened at every read; a few reads pay for a widened copy."""
    return sites > 3 and bits(facts.values[number].type.dtype) < 32


def _cost(number: int, facts: Facts, memo: dict[int, int]) -> int:
    """Vector instructions per vector, down to loads and buffers; shared nodes count once."""
    if number in memo or number in facts.buffered or number not in facts.definition:
        return 0
    operation = facts.definition[number]
    own = _own_cost(operation)
    memo[number] = own
    return own + sum(_cost(x.number, facts, memo) for x in operands(operation))


def _own_cost(operation: ir.Operation) -> int:
    match operation:
        case ir.Unary(word=word) | ir.Binary(word=word):
            return 12 if word in TRANSCENDENTAL else 6 if word in SLOW else 1
        case ir.Gather():
            return 12
        case ir.Where() | ir.Cast() | ir.Scan():
            return 1
        case _:
            return 0


def _is_stretched(number: int, facts: Facts) -> bool:
    """Whether some reader repeats the value along a new or unit axis."""
    for reader in facts.readers.get(number, []):
        if reader.value is None:
            continue
        operation = facts.definition.get(reader.value)
        if isinstance(operation, ir.Broadcast):
            return elements(facts.values[reader.value]) > elements(facts.values[number])
        if isinstance(operation, ir.ExpandDims) and _is_stretched(reader.value, facts):
            return True
    return False


def elements(value: ir.Value) -> int:
    """Elements of a tile. Raises ValueError when an extent is not a constant."""
    count = 1
    for extent in value.type.shape:
        if extent.constant is None:
            raise ValueError(f"extent {extent} of {value.name} is not a constant")
        count *= extent.constant
    return count
