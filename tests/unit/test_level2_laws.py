"""What is printed parses back to the same schedule, and the normal form is one."""

from __future__ import annotations

import ast
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Index,
    Negation,
    Symbol,
    cdiv,
    floordiv,
    index,
    maximum,
    minimum,
    mod,
    select,
    symbol,
)
from kernelagent.dsl.ir import Array, Origin, View, ViewAxis, position
from kernelagent.dsl.level2 import (
    is_level_two,
    normal_form,
    parse_schedule,
    print_schedule,
    same_schedule,
    verify,
    without_origins,
)
from kernelagent.dsl.level2.expressions import evaluate
from kernelagent.dsl.level2.header import state_for
from kernelagent.dsl.level2.text import condition_text, index_text, view_text
from kernelagent.dsl.schedule import ShapeClass
from kernelagent.dsl.syntax import read
from support.level2_texts import TEXTS

# Schedules as texts ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_a_schedule_prints_and_parses_back(name: str) -> None:
    kernel = parse_schedule(TEXTS[name])
    assert verify(kernel) == []
    printed = print_schedule(kernel)
    again = parse_schedule(printed)
    assert without_origins(again) == without_origins(kernel)
    assert verify(again) == []
    assert [line.split("  # line")[0] for line in print_schedule(again).splitlines()] == [
        line.split("  # line")[0] for line in printed.splitlines()
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_origins_are_the_text_s_own_lines(name: str) -> None:
    text = TEXTS[name]
    lines = text.splitlines()
    words = {dev.Commit: "commit()", dev.BlockBarrier: "barrier()", dev.StoreShared: "store_shared("}
    marked = [s for s in dev.statements(parse_schedule(text)) if type(s) in words and not isinstance(s, dev.Let)]
    assert marked or name in ("ragged", "cluster")
    assert all(words[type(s)] in lines[s.origin.span.line - 1] for s in marked)


def test_level_two_is_recognised() -> None:
    assert all(is_level_two(text) for text in TEXTS.values())
    assert not is_level_two("edition(1)\n")
    assert not is_level_two("def (")


def test_the_printed_text_names_each_line_and_choice() -> None:
    from kernelagent.dsl.schedule import Choice

    kernel = replace(parse_schedule(TEXTS["gemm"]), choices=(Choice("stages", "3", "policy\nof the author"),))
    printed = print_schedule(kernel)
    assert "# stages: 3 (policy of the author)" in printed
    assert "        acc = full(" in printed
    marks = [line for line in printed.splitlines() if "# line" in line]
    assert len(marks) >= 18
    assert parse_schedule(printed).choices == ()


# Index integers, conditions, views -----------------------------------------------------------------

SYMBOLS = [symbol("M", "dim"), symbol("N", "dim"), symbol("K", "dim")]


def indices() -> st.SearchStrategy[Index]:
    leaves = st.one_of(st.sampled_from(SYMBOLS), st.integers(-70, 70).map(index))

    def grow(inner: st.SearchStrategy[Index]) -> st.SearchStrategy[Index]:
        divisors = st.one_of(st.integers(1, 64).map(index), st.sampled_from(SYMBOLS))
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] - p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            pairs.map(lambda p: minimum(*p)),
            pairs.map(lambda p: maximum(*p)),
            st.tuples(inner, divisors).map(lambda p: floordiv(*p)),
            st.tuples(inner, divisors).map(lambda p: mod(*p)),
            st.tuples(inner, divisors).map(lambda p: cdiv(*p)),
            st.tuples(inner, inner, inner).map(lambda p: select(Compare("<", p[0], p[1]), p[1], p[2])),
        )

    return st.recursive(leaves, grow, max_leaves=6)


def conditions() -> st.SearchStrategy[Condition]:
    compare = st.builds(Compare, st.sampled_from(("<", "<=", ">", ">=", "==", "!=")), indices(), indices())

    def grow(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(st.builds(AllOf, several), st.builds(AnyOf, several), st.builds(Negation, inner))

    return st.recursive(compare, grow, max_leaves=4)


ARRAY = Array("x", "In", "f32", (SYMBOLS[0], SYMBOLS[1], SYMBOLS[2]), Span(1, 1, 1, 2))


def state() -> object:
    source = read("edition(1)\n\n@kernel\ndef k(x: In[f32, M, N, K]):\n    pass\n")
    base = Context(source, {}, Facts())
    from kernelagent.dsl.elaborate.signature import read_signature

    read_signature(base, source.functions["k"].node, frozenset())
    return state_for(base)


def parsed(text: str) -> object:
    return evaluate(state(), ast.parse(text, mode="eval").body)  # type: ignore[arg-type]


@settings(max_examples=150)
@given(indices())
def test_index_integers_parse_back(value: Index) -> None:
    assert parsed(index_text(value)) == value


@settings(max_examples=80)
@given(conditions())
def test_conditions_parse_back(condition: Condition) -> None:
    assert parsed(condition_text(condition)) == condition


@settings(max_examples=30)
@given(st.data())
def test_views_parse_back(data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, 3))
    lengths = [data.draw(indices()) for _ in range(rank)]
    inside = [(index(0), n) if data.draw(st.booleans()) else (data.draw(indices()), n) for n in lengths]
    coordinates = [
        index(position(d)) if d < rank and data.draw(st.booleans()) else data.draw(indices()) for d in range(3)
    ]
    axes = tuple(ViewAxis(n, lo, hi) for n, (lo, hi) in zip(lengths, inside, strict=True))
    view = View("x", "f32", axes, tuple(coordinates))
    assert parsed(view_text(view, ARRAY)) == view


# Structure: names, carried and joined values, nesting ------------------------------------------------

NOWHERE = Origin(Span(1, 1, 1, 2))
NAMES = ("", "a", "b", "m", "value", "inside", "sum", "x", "a_2")


class Draw:
    """Random scalar programs: constants, sums, loops that carry, branches that join; names at random."""

    def __init__(self, seed: int, depth: int = 3) -> None:
        self.random, self.count, self.symbols, self.depth = random.Random(seed), 0, 0, depth

    def fragment(self) -> dev.Fragment:
        self.count += 1
        return dev.Fragment(self.count, self.random.choice(NAMES), "f32", (), None, NOWHERE)

    def block(self, scope: list[dev.Fragment], depth: int) -> list[dev.Statement]:
        made: list[dev.Statement] = []
        for _ in range(self.random.randint(1, 5)):
            kind = self.random.choice(("let", "let", "let", "for", "if") if depth else ("let",))
            made += getattr(self, f"{kind}_")(scope, depth)
        return made

    def pick(self, scope: list[dev.Fragment]) -> dev.Fragment:
        return self.random.choice(scope)

    def let_(self, scope: list[dev.Fragment], depth: int) -> list[dev.Statement]:
        fragment = self.fragment()
        kind = self.random.choice(("constant", "exp", "sub", "where", "add", "mul", "neg"))
        if kind == "constant" or not scope:
            number = self.random.choice((0.0, 1, -0.0, float("inf"), float("nan"), -2.5))
            operation: dev.Operation = dev.Constant(number)
        elif kind == "where":
            test = replace(fragment, number=self.count + 1, dtype="bool", name="")
            self.count += 1
            compare = dev.Let(test, dev.Pointwise("lt", (self.pick(scope), self.pick(scope))))
            scope.append(fragment)
            parts = (test, self.pick(scope[:-1]), self.pick(scope[:-1]))
            return [compare, dev.Let(fragment, dev.Pointwise("where", parts))]
        else:
            arity = 1 if kind in ("exp", "neg") else 2
            operation = dev.Pointwise(kind, tuple(self.pick(scope) for _ in range(arity)))
        scope.append(fragment)
        return [dev.Let(fragment, operation)]

    def for_(self, scope: list[dev.Fragment], depth: int) -> list[dev.Statement]:
        if not scope:
            return []
        count = self.random.randint(0, 3)
        initial = [self.pick(scope) for _ in range(count)]
        inside = [self.fragment() for _ in range(count)]
        self.symbols += 1
        variable = Symbol(f"k{self.symbols}", "loop")
        inner = [*scope, *inside]
        body = self.block(inner, depth - 1)
        ends = [self.pick(inner) for _ in range(count)]
        results = [self.fragment() for _ in range(count)]
        carried = tuple(dev.Carried(*parts) for parts in zip(initial, inside, ends, results, strict=True))
        scope += results
        step = (index(self.random.randint(1, 4)),)
        bounds = (index(0),), (symbol("N", "dim"),), step
        return [dev.For((variable,), *bounds, carried, tuple(body), NOWHERE, self.random.choice((1, 4)))]

    def if_(self, scope: list[dev.Fragment], depth: int) -> list[dev.Statement]:
        if not scope:
            return []
        count = self.random.randint(0, 2)
        arms, ends = [], []
        for _ in range(2):
            inner = list(scope)
            arms.append(tuple(self.block(inner, depth - 1)))
            ends.append([self.pick(inner) for _ in range(count)])
        results = [self.fragment() for _ in range(count)]
        merged = tuple(dev.Merged(a, b, r) for a, b, r in zip(*ends, results, strict=True))
        scope += results
        return [dev.If(Compare("<", index(0), symbol("N", "dim")), *arms, merged, NOWHERE)]

    def kernel(self) -> dev.DeviceKernel:
        scope: list[dev.Fragment] = []
        body = self.block(scope, self.depth)
        y = Array("y", "Out", "f32", (symbol("N", "dim"),), Span(1, 1, 1, 2))
        view = View("y", "f32", (), (index(Symbol("i", "loop")),))
        if scope:
            body.append(dev.Store(view, (), self.pick(scope), NOWHERE))
        grid = dev.Grid(
            (Symbol("i", "loop"),), (index(0),), (symbol("N", "dim"),), (index(1),), tuple(body), NOWHERE
        )  # fmt: skip
        general = ShapeClass("general")
        return dev.DeviceKernel("made", "sm_80", general, 32, (y,), (), ("N",), (), grid)


@settings(max_examples=80)
@given(st.integers(0, 2**32))
def test_any_structure_parses_back(seed: int) -> None:
    kernel = Draw(seed).kernel()
    assert verify(kernel) == []
    normal = normal_form(kernel)
    assert verify(normal) == []
    assert repr(normal_form(normal)) == repr(normal)
    printed = print_schedule(kernel)
    assert repr(without_origins(parse_schedule(printed))) == repr(without_origins(normal)), printed


def test_different_schedules_are_told_apart() -> None:
    gemm = parse_schedule(TEXTS["gemm"])
    other = parse_schedule(TEXTS["gemm"].replace("wait_group(1)", "wait_group(0)"))
    assert same_schedule(gemm, parse_schedule(print_schedule(gemm)))
    assert not same_schedule(gemm, other)
