"""Sums of 8-bit floats on two levels.

Hopper's tensor cores align the products of a step, and what they are added to, to the largest of them and keep about 14
bits: a long sum loses what is small beside it (DeepSeek-V3 technical report, section 3.3.2). So a product begins a sum
of its own (its first instruction does not read the accumulator), which after some steps of k is added to the real one
in registers of f32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

from kernelagent.dsl import ir
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.index import Compare, index
from kernelagent.dsl.lower.device.choose_atoms import Product
from kernelagent.dsl.lower.device.place_values import values_made
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.device.statements import iteration_number
from kernelagent.dsl.lower.rewrite import statement_values, walk_statements
from kernelagent.dsl.schedule import Choice

EVERY = 4
"""Steps of k, of 32 elements each, after which sums are promoted where no policy says more: 128 elements."""
WORD = "promote"
FREE_REGISTERS = 40
"""Of a thread, beside both levels of the sums: addresses, counters, scales."""
REASON = "the tensor core keeps about 14 bits of a sum of 8-bit floats"


@dataclass(frozen=True)
class Sum:
    """A product that is added, in each turn of a loop, to what the loop carries."""

    let: ir.Let
    total: ir.Let
    loop: ir.For
    carried: ir.Carried


def promote(
    kernel: ir.Kernel, products: Mapping[int, Product], registers: int, policy: Policy, choices: list[Choice]
) -> tuple[ir.Kernel, frozenset[int]]:
    """The kernel with a second level where one turn of a loop is too few steps, and the products that begin anew in
    each turn. `registers` of a thread. Raises KernelError where binding policy cannot be honoured."""
    found = [s for s in walk_statements(kernel.body) if isinstance(s, ir.Let) and _imprecise(s)]
    fresh: set[int] = set()
    for let in found:
        product = products[let.value.number]
        steps = product.shape[2] // int(atom(product.atom).shape[2])
        sum_ = _sum(kernel, let)
        if sum_ is None:
            choices.append(_line(let, f"begun anew every {steps} k-steps", f"{REASON}; the text adds them up in f32"))
            continue
        turns = _turns(let, product, steps, registers, policy, choices)
        if turns == 1:
            fresh.add(let.value.number)
        elif turns:
            kernel = _carrying_both(kernel, sum_, turns)
    return kernel, frozenset(fresh)


def _imprecise(let: ir.Let) -> bool:
    operation = let.operation
    return isinstance(operation, ir.Mma) and bits(operation.a.type.dtype) == 8 and is_float(operation.a.type.dtype)


def _line(let: ir.Let, chosen: str, why: str) -> Choice:
    return Choice(f"sums of {let.value.name or 'mma'}", chosen, why, let.value.origin)


def _turns(
    let: ir.Let, product: Product, steps: int, registers: int, policy: Policy, choices: list[Choice]
) -> int:  # fmt: skip
    """Turns of the loop after which the sum is promoted; 0: never. Reports which."""
    asked = policy.integer(WORD, EVERY)
    if asked == 0:
        choices.append(_line(let, "on one level", f"policy {WORD}=0; {REASON}"))
        return 0
    needed = 2 * product.result.registers + FREE_REGISTERS
    if needed > registers:
        why = f"two levels take about {needed} registers a thread where there are {registers}"
        given = WORD in policy.words
        choices.append(policy.drop(WORD, why, "use smaller tiles") if given else _line(let, "on one level", why))
        return 0
    turns = max(1, asked // steps)
    if turns * steps != asked and WORD in policy.words:
        why = f"a turn of the loop is {steps} k-steps ({product.shape[2]} elements)"
        choices.append(policy.drop(WORD, why, f"write {WORD}={turns * steps}, or step by {32 * asked} elements"))
    chosen = f"on two levels, in f32 registers every {turns * steps} k-steps"
    choices.append(_line(let, chosen, f"{REASON}; {WORD}=0 keeps one level"))
    return turns


def _sum(kernel: ir.Kernel, let: ir.Let) -> Sum | None:
    """The loop that adds the product to what it carries and does nothing else with either."""
    for loop in (s for s in walk_statements(kernel.body) if isinstance(s, ir.For) and s.kind != "tiles"):
        if let not in loop.body:
            continue
        readers = [s for s in walk_statements(loop.body) if let.value in statement_values(s)]
        if len(readers) != 1 or not isinstance(readers[0], ir.Let) or readers[0] not in loop.body:
            return None
        total = readers[0]
        match total.operation:
            case ir.Binary("add", a, b):
                kept = b if a == let.value else a
            case _:
                return None
        for c in loop.carried:
            alone = all(not {c.inside, total.value} & set(statement_values(s)) for s in loop.body if s is not total)
            if c.inside == kept and c.end == total.value and alone:
                return Sum(let, total, loop, c)
    return None


# A level of its own ------------------------------------------------------------------------------------


def _carrying_both(kernel: ir.Kernel, sum_: Sum, turns: int) -> ir.Kernel:
    """The loop carries the short sum beside the long one, adds it every so many turns, and what is left behind it."""
    numbers = count(1 + max(v.number for v in values_made(kernel)))
    total, loop, c = sum_.total, sum_.loop, sum_.carried

    def like(name: str) -> ir.Value:
        return replace(total.value, number=next(numbers), name=name)

    short, inside, added, zero, left, whole, behind, before = (
        like(name) for name in ("part", "part", "part", "zero", "part", "sum", c.result.name, "zero")
    )
    promoted = like(c.end.name)
    body = tuple(
        ir.Let(added, ir.Binary("add", inside, sum_.let.value)) if s is total else s for s in loop.body
    )  # fmt: skip
    last = Compare("==", iteration_number(loop) % turns, index(turns - 1))
    then = (ir.Let(promoted, ir.Binary("add", c.inside, added)), ir.Let(zero, ir.Full(0.0)))
    merged = (ir.Merged(promoted, c.inside, whole), ir.Merged(zero, added, left))
    step = ir.If(last, then, (), merged, total.value.origin)
    carried = [replace(x, end=whole, result=behind) if x is c else x for x in loop.carried]
    carried.append(ir.Carried(before, inside, left, short))
    made = replace(loop, carried=tuple(carried), body=(*body, step))
    rest = ir.Let(c.result, ir.Binary("add", behind, short))
    return replace(kernel, body=_exchanged(kernel.body, loop, (ir.Let(before, ir.Full(0.0)), made, rest)))


def _exchanged(
    body: tuple[ir.Statement, ...], old: ir.For, new: tuple[ir.Statement, ...]
) -> tuple[ir.Statement, ...]:  # fmt: skip
    """The statements with one loop replaced, wherever it stands."""
    made: list[ir.Statement] = []
    for statement in body:
        if statement is old:
            made += new
            continue
        match statement:
            case ir.For(body=inner):
                made.append(replace(statement, body=_exchanged(inner, old, new)))
            case ir.If(then=then, otherwise=otherwise):
                arms = _exchanged(then, old, new), _exchanged(otherwise, old, new)
                made.append(replace(statement, then=arms[0], otherwise=arms[1]))
            case _:
                made.append(statement)
    return tuple(made)


__all__ = ["EVERY", "WORD", "promote"]
