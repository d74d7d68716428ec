"""Which names the text needs: SSA fragments share a name where rebinding it says the same.

In a text, a name that a loop's body rebinds is carried, and a name that both arms of an `if` rebind is joined. Here
labels (one for each group of fragments that share a name) are walked exactly as the parser will walk the names: at
each use the label must stand for the fragment that is read, and the joins found must be those of the records.
Where a label does not hold a value by itself at the edge of a loop or arm, the text says `label = other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelagent.dsl import device as dev
from kernelagent.dsl.level2.traverse import parts, reads

Labels = Mapping[int, int]  # fragment number -> label
Scope = dict[int, int]  # label -> number of the fragment it stands for


class Clash(Exception):
    """The labels do not say what the records say."""


@dataclass(frozen=True)
class Alias:
    """`label of target = label of source` in the text; those of one edge are one assignment of several names."""

    target: int
    source: int


@dataclass
class Edges:
    """The aliases that the text needs, by the identity of the loop or branch."""

    before: dict[int, list[Alias]] = field(default_factory=dict)  # in front of a loop
    after: dict[int, list[Alias]] = field(default_factory=dict)  # at the end of a loop's body
    arms: dict[int, tuple[list[Alias], list[Alias]]] = field(default_factory=dict)


@dataclass
class Walk:
    """`nested` fragments stand inside other expressions and have no name."""

    labels: Labels
    nested: frozenset[int]
    edges: Edges = field(default_factory=Edges)

    def kernel(self, kernel: dev.DeviceKernel) -> Edges:
        """Raises Clash."""
        for part in parts(kernel):
            scope: Scope = {}
            for block in part.blocks:
                self.block(block, scope)
        return self.edges

    def block(self, body: tuple[dev.Statement, ...], scope: Scope) -> set[int]:
        """Walk the statements; the labels that they bind, at any depth."""
        bound: set[int] = set()
        for statement in body:
            for x in reads(statement):
                self.use(x, scope)
            match statement:
                case dev.Let(fragment, _) if fragment.number not in self.nested:
                    bound.add(self.bind(fragment, scope))
                case dev.For():
                    bound |= self.loop(statement, scope)
                case dev.If():
                    bound |= self.branch(statement, scope)
                case _:
                    pass
        return bound

    def use(self, x: dev.Fragment, scope: Scope) -> None:
        if x.number not in self.nested and scope.get(self.labels[x.number]) != x.number:
            raise Clash(x.name)

    def bind(self, x: dev.Fragment, scope: Scope) -> int:
        label = self.labels[x.number]
        scope[label] = x.number
        return label

    def loop(self, loop: dev.For, scope: Scope) -> set[int]:
        carried = {self.labels[c.inside.number]: c for c in loop.carried}
        if len(carried) < len(loop.carried):
            raise Clash("two carried values")
        before: list[Alias] = []
        for label, c in carried.items():
            self.use(c.initial, scope)
            if scope.get(label) != c.initial.number:
                before.append(Alias(c.inside.number, c.initial.number))
        scope.update({label: c.initial.number for label, c in carried.items()})
        inner = scope | {label: c.inside.number for label, c in carried.items()}
        bound = self.block(loop.body, inner)
        after: list[Alias] = []
        for label, c in carried.items():
            self.use(c.end, inner)
            if inner[label] != c.end.number or label not in bound:
                after.append(Alias(c.inside.number, c.end.number))
        bound |= set(carried)
        if bound & set(scope) != set(carried):
            raise Clash("carried")
        scope.update({label: c.result.number for label, c in carried.items()})
        self.edges.before[id(loop)], self.edges.after[id(loop)] = before, after
        return bound

    def branch(self, branch: dev.If, scope: Scope) -> set[int]:
        merged = {self.labels[m.result.number]: m for m in branch.merged}
        if len(merged) < len(branch.merged):
            raise Clash("two joined values")
        then, otherwise = dict(scope), dict(scope)
        bound = self.block(branch.then, then) | self.block(branch.otherwise, otherwise)
        self.edges.arms[id(branch)] = (
            self.arm_end({label: m.then for label, m in merged.items()}, then, branch),
            self.arm_end({label: m.otherwise for label, m in merged.items()}, otherwise, branch),
        )
        scope.clear()
        for label in [x for x in then if x in otherwise]:
            if then[label] == otherwise[label]:
                scope[label] = then[label]
            elif label in merged:
                scope[label] = merged[label].result.number
            else:
                raise Clash("joined")
        if any(scope.get(label) != m.result.number for label, m in merged.items()):
            raise Clash("joined")
        return bound | set(merged)

    def arm_end(self, values: dict[int, dev.Fragment], scope: Scope, branch: dev.If) -> list[Alias]:
        """Bind each joined label to the arm's value, all at once."""
        results = {self.labels[m.result.number]: m.result.number for m in branch.merged}
        aliases = []
        for label, value in values.items():
            self.use(value, scope)
            if scope.get(label) != value.number:
                aliases.append(Alias(results[label], value.number))
        scope.update({label: value.number for label, value in values.items()})
        return aliases
