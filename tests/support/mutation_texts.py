"""A schedule's text with its syntax: pieces that a mutation changes, and which statements a synchronisation orders."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

SYNCS = frozenset({
    "barrier", "role_barrier", "cluster_barrier", "commit", "wait_group", "barrier_init", "fence_init", "fence_async",
    "expect", "arrive", "wait", "wgmma_fence", "wgmma_commit", "wgmma_wait", "commit_bulk", "wait_bulk", "take_turn",
    "pass_turn",
})  # fmt: skip
MEETINGS = frozenset({"barrier", "role_barrier", "cluster_barrier"})
STORES = frozenset({"store", "store_bulk", "atomic_add", "scatter"})
MOVES = STORES | {"copy", "copy_async", "copy_bulk", "store_shared"}


@dataclass(frozen=True)
class Change:
    """Lines `first`, ... (`removed` of them, from 1) become `new`. `lines`: where a report may put the fault, as lines
    of the changed text."""

    operator: str
    first: int
    removed: int
    new: tuple[str, ...]
    lines: tuple[int, ...]

    def applied(self, lines: Sequence[str]) -> str:
        kept = list(lines)
        kept[self.first - 1 : self.first - 1 + self.removed] = self.new
        return "\n".join(kept) + "\n"


class Text:
    """A printed schedule."""

    def __init__(self, text: str) -> None:
        self.text, self.lines = text, text.rstrip("\n").split("\n")
        self.tree = ast.parse(text)

    @cached_property
    def body(self) -> list[ast.stmt]:
        """What the kernel's function does behind its header."""
        function = next(n for n in self.tree.body if isinstance(n, ast.FunctionDef))
        return [s for s in function.body if not self.is_header(s)]

    def is_header(self, statement: ast.stmt) -> bool:
        names = {"schedule", "shape_class", "distribution", "shared", "mbarrier"}
        match statement:
            case ast.Assign(value=ast.Call(func=ast.Name(id=name))) | ast.Expr(value=ast.Call(func=ast.Name(id=name))):
                return name in names
        return False

    @cached_property
    def declared(self) -> dict[str, ast.Call]:
        """Buffers, barriers and distributions by name."""
        function = next(n for n in self.tree.body if isinstance(n, ast.FunctionDef))
        found: dict[str, ast.Call] = {}
        for statement in function.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if self.is_header(statement):
                    found[name] = call
        return found

    def shared(self, word: str = "shared") -> dict[str, ast.Call]:
        return {n: c for n, c in self.declared.items() if called(c) == word}

    def source(self, node: ast.expr) -> str:
        assert node.lineno == node.end_lineno
        return self.lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()

    def put(self, operator: str, node: ast.expr, new: str, *also: int) -> Change:
        """An expression in another's place."""
        line = self.lines[node.lineno - 1].encode()
        made = line[: node.col_offset] + new.encode() + line[node.end_col_offset :]
        return Change(operator, node.lineno, 1, (made.decode(),), (node.lineno, *also))

    def statements(self) -> Iterator[tuple[ast.stmt, list[ast.stmt]]]:
        """Simple statements of one line, with the block that each stands in."""
        for block in self.blocks(self.body):
            for statement in block:
                if not isinstance(statement, ast.For | ast.If | ast.With) and statement.lineno == statement.end_lineno:
                    yield statement, block

    def blocks(self, body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
        yield body
        for statement in body:
            if isinstance(statement, ast.For | ast.If | ast.With):
                yield from self.blocks(statement.body)
            if isinstance(statement, ast.If) and statement.orelse:
                yield from self.blocks(statement.orelse)

    def expressions(self, kind: type[ast.expr]) -> Iterator[ast.expr]:
        """Of all statements, also of heads."""
        for statement in self.body:
            yield from (n for n in ast.walk(statement) if isinstance(n, kind) and n.lineno == n.end_lineno)

    def calls(self, *words: str) -> Iterator[ast.Call]:
        for call in self.expressions(ast.Call):
            assert isinstance(call, ast.Call)
            if called(call) in words:
                yield call

    @cached_property
    def stores(self) -> tuple[int, ...]:
        """Lines that store to arrays."""
        return tuple(sorted({c.lineno for c in self.calls(*STORES)}))

    # What a synchronisation orders ----------------------------------------------------------------------

    def ordered(self, statement: ast.stmt) -> tuple[int, ...]:
        """Lines of the statements that a synchronisation lies between, itself left out. For a barrier of threads: those
        that are reached from it, forwards or backwards, without another. For others: all that touch what it guards. And
        where what is guarded is declared."""
        word, own = called(statement.value) or "", self.part(statement)  # type: ignore[attr-defined]
        nodes = _flow(own)
        if word in MEETINGS:
            at = next(n for n, (s, _) in enumerate(nodes) if s is statement)
            near = _reached(nodes, at, forwards=True) | _reached(nodes, at, forwards=False)
            touched = [s for s in near if self.touches(s)]
            names = {n for s in touched for n in _names(s)} & self.shared().keys()
            found = {s.lineno for s in touched} | self.declarations(names)
        elif word.startswith("wgmma"):
            found = self.products(own)
        else:
            names = self.guarded(statement)
            found = self.uses(names) | {s.lineno for s, _ in nodes if self.kin(s, word)}
        if any(s is statement for s in self.body) and any(isinstance(s, ast.With) for s in self.body):
            found |= {s.lineno for s in self.body} | self.declarations(set(self.shared("mbarrier")))
        return tuple(sorted(found - {statement.lineno}))

    def parts(self) -> list[list[ast.stmt]]:
        """Bodies of the roles, or the one body; what stands in front of roles belongs to every one."""
        roles = [s for s in self.body if isinstance(s, ast.With)]
        front = [s for s in self.body if not isinstance(s, ast.With)]
        return [[*front, *r.body] for r in roles] or [self.body]

    def part(self, statement: ast.stmt) -> list[ast.stmt]:
        return next(p for p in self.parts() if any(s is statement for s, _ in _flow(p)))

    def touches(self, statement: ast.stmt) -> bool:
        """Whether a statement accesses shared memory or synchronises."""
        words = {called(n) for n in _own(statement) if isinstance(n, ast.Call)}
        return bool(_own_names(statement) & {*self.shared(), *self.shared("mbarrier")} or words & SYNCS)

    def guarded(self, statement: ast.stmt) -> set[str]:
        """The barriers that a statement names with the buffers that they guard; all buffers if it names none."""
        barriers = _names(statement) & self.shared("mbarrier").keys()
        return self.together(barriers) if barriers else set(self.shared())

    def together(self, names: set[str]) -> set[str]:
        """The names, the buffers that barriers among them guard, and the barriers that guard buffers among them."""
        return names | {n for pair in self.guards for n in pair if names & set(pair)}

    @cached_property
    def guards(self) -> set[tuple[str, str]]:
        """Barrier and buffer: under which a copy lands, and which was waited for last in front of the copy."""
        found: set[tuple[str, str]] = set()
        for statement, block in self.statements():
            if not (isinstance(statement, ast.Expr) and called(statement.value) == "copy_bulk"):
                continue
            buffers = _names(statement) & self.shared().keys()
            found |= {(b, s) for b in _names(statement) & self.shared("mbarrier").keys() for s in buffers}
            waits = [
                s for s in block[: block.index(statement)] if isinstance(s, ast.Expr) and called(s.value) == "wait"
            ]
            for wait in waits[-1:]:
                found |= {(b, s) for b in _names(wait) & self.shared("mbarrier").keys() for s in buffers}
        return found

    def uses(self, names: set[str]) -> set[int]:
        """Lines of statements that use buffers and barriers, and where these are declared."""
        return {s.lineno for s, _ in self.statements() if _names(s) & names} | self.declarations(names)

    def declarations(self, names: set[str]) -> set[int]:
        return {self.declared[n].lineno for n in names if n in self.declared}

    def products(self, body: list[ast.stmt]) -> set[int]:
        """Lines around asynchronous products: what they read and its barriers, what uses their results."""
        found: set[int] = set()
        for statement, _ in _flow(body):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if called(call) == "mma":
                    found |= self.uses(self.together(_names(call) & self.shared().keys()))
                    results = {name} | _names(call) - set(self.declared)
                    found |= {s.lineno for s, _ in _flow(body) if _own_names(s) & results}
        return found | {s.lineno for s, _ in _flow(body) if self.kin(s, "wgmma")}

    def kin(self, statement: ast.stmt, word: str) -> bool:
        """Whether a statement belongs to the same kind of asynchronous groups."""
        kinds = ("wgmma", "bulk", "group", "commit", "fence")
        own = called(statement.value) if isinstance(statement, ast.Expr) else None
        return bool(own) and any(k in word and k in str(own) for k in kinds)


Flow = list[tuple[ast.stmt, list[int]]]


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _own_names(statement: ast.stmt) -> set[str]:
    return {n.id for n in _own(statement) if isinstance(n, ast.Name)}


def called(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
    return None


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement, of a compound one only its head's."""
    match statement:
        case ast.For(iter=head) | ast.If(test=head):
            yield from ast.walk(head)
        case ast.With():
            return
        case _:
            yield from ast.walk(statement)


def _flow(body: list[ast.stmt]) -> Flow:
    """Statements in order, with the positions of what may follow each."""
    nodes: Flow = []

    def block(statements: list[ast.stmt], before: list[int]) -> list[int]:
        for s in statements:
            at = len(nodes)
            nodes.append((s, []))
            for b in before:
                nodes[b][1].append(at)
            before = [at]
            if isinstance(s, ast.For):
                for b in block(s.body, [at]):
                    nodes[b][1].append(at)
            elif isinstance(s, ast.If):
                ends = block(s.body, [at])
                before = ends + (block(s.orelse, [at]) if s.orelse else [at])
        return before

    block(body, [])
    return nodes


def _reached(nodes: Flow, at: int, forwards: bool) -> set[ast.stmt]:
    """Statements that follow (or come before), up to the next barrier of threads, that one included."""
    following = {n: set(f) for n, (_, f) in enumerate(nodes)}
    if not forwards:
        following = {n: {m for m, (_, f) in enumerate(nodes) if n in f} for n in range(len(nodes))}
    seen: set[int] = set()
    left = list(following[at])
    while left:
        n = left.pop()
        if n in seen or n == at:
            continue
        seen.add(n)
        statement = nodes[n][0]
        if not (isinstance(statement, ast.Expr) and called(statement.value) in MEETINGS):
            left += following[n]
    return {nodes[n][0] for n in seen}
