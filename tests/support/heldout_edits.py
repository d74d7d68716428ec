"""Mechanical edits of printed schedules, line by line, written from the guide of level-two texts alone.

Each edit has the families whose claim it may break, argued from what the edited words mean, and is drawn at random with
a fixed seed. Nothing here knows the verifier, nor the operators of `mutation_operators`.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from support.heldout_rules import ACCESS, ORDER, PHASES, PLACE, RULES, VALUES, WALK, Rule

SEED = 20261121
PER_BASE = 21
WEIGHTS = dict.fromkeys(
    ("layout", "dtype", "vector", "swizzle", "guard", "stages", "slice", "array", "axis"), 0.35
) | dict.fromkeys(
    ("drop-sync", "move-sync", "swap-lines", "stage", "phase", "wait-count", "index", "predicate", "loop", "mask"), 2.5
)
"""Operators that the rules of level two mostly refuse are drawn less often; those of order and index more often."""

SYNC = re.compile(
    r"^\s*(?:barrier|role_barrier|cluster_barrier|commit|wait_group|barrier_init|fence_init|fence_async|expect|arrive"
    r"|wait|wgmma_fence|wgmma_commit|wgmma_wait|commit_bulk|wait_bulk|take_turn|pass_turn)\("
)
HEADER = re.compile(r"^    (?:schedule|shape_class)\(|^    \w+ = (?:distribution|shared|mbarrier)\(")
STORE = re.compile(r"^\s*(?:store|store_bulk|atomic_add|scatter)\(")
COPY = re.compile(r"^\s*(?:copy_async|copy_bulk|copy|store_shared)\(")
MEMORY = re.compile(r"\b(?:copy_async|copy_bulk|copy|store_shared|load_shared|mma|store_bulk)\(")


@dataclass(frozen=True)
class Edit:
    """Lines `first`, ... (`removed` of them, from 1) become `new`."""

    operator: str
    first: int
    removed: int
    new: tuple[str, ...]
    families: frozenset[str]

    def applied(self, lines: Sequence[str]) -> list[str]:
        return [*lines[: self.first - 1], *self.new, *lines[self.first - 1 + self.removed :]]


FUNCTIONS = {
    "exp": "exp2", "erf": "tanh", "sigmoid": "tanh", "maximum": "minimum", "max": "min", "sum": "max",
}  # fmt: skip


# Edits ------------------------------------------------------------------------------------------------


def edits(lines: Sequence[str]) -> Iterator[Edit]:
    """All edits of a schedule's lines."""
    for rule in RULES:
        yield from _rewritten(rule, lines)
    for structural in (_drops, _duplicates, _moves, _swaps, _indented, _unguarded, _one_sided, _other_role):
        yield from structural(lines)


def _rewritten(rule: Rule, lines: Sequence[str]) -> Iterator[Edit]:
    for number, line in enumerate(lines, 1):
        if not re.search(rule.where, line) or line.startswith("def"):
            continue
        for match in re.finditer(rule.pattern, line):
            for template in rule.becomes:
                for new in _filled(template if callable(template) else match.expand(template), match, lines):
                    changed = line[: match.start()] + new + line[match.end() :]
                    if changed != line:
                        yield Edit(rule.operator, number, 1, (changed,), rule.families)


def _filled(made: str | Callable[[re.Match[str]], str], match: re.Match[str], lines: Sequence[str]) -> Iterator[str]:
    """A replacement, with names of the schedule where the template asks for some."""
    text = made(match) if callable(made) else made
    if text == "OTHER":
        yield from (a for a in _arrays(lines) if a != match[0])
    elif text.endswith("OTHER"):
        yield from (text.replace("OTHER", d) for d in _declared(lines, "distribution") if d != match[2])
    elif text == "FUNCTION":
        yield FUNCTIONS[match[1]] + "("
    elif text == "BARRIER":
        yield from (b for b in _declared(lines, "mbarrier") if b != match[0])
    elif text.endswith("NAME"):
        yield from (f"= {n}" for n in ("m", "l", "acc", "m_new") if n != match[1] and f" {n} = " in "\n".join(lines))
    elif "ATOM" in text:
        atom = re.search(r"atom=\w+", match.string)
        yield text.replace("ATOM", atom[0]) if atom else text
    else:
        yield text


def _arrays(lines: Sequence[str]) -> list[str]:
    return re.findall(r"(\w+): In\[", "\n".join(lines))


def _declared(lines: Sequence[str], kind: str) -> list[str]:
    return re.findall(rf"(?m)^    (\w+) = {kind}\(", "\n".join(lines))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _about(line: str) -> frozenset[str]:
    """What a statement is needed for."""
    if STORE.match(line):
        return frozenset({"coverage", "flow", "completion"})
    return PHASES if SYNC.match(line) else PHASES | PLACE | VALUES


def _body(lines: Sequence[str]) -> list[int]:
    """Numbers of the lines that do something."""
    start = max(n for n, line in enumerate(lines, 1) if HEADER.match(line))
    return [n for n, line in enumerate(lines, 1) if n > start and line.strip() and not line.rstrip().endswith(":")]


def _drops(lines: Sequence[str]) -> Iterator[Edit]:
    for n in _body(lines):
        line = lines[n - 1]
        kind = "sync" if SYNC.match(line) else "store" if STORE.match(line) else "copy" if COPY.match(line) else ""
        if kind:
            yield Edit(f"drop-{kind}", n, 1, (), _about(line))


def _duplicates(lines: Sequence[str]) -> Iterator[Edit]:
    for n in _body(lines):
        line = lines[n - 1]
        if SYNC.match(line):
            yield Edit("double-sync", n, 0, (line,), PHASES)
        elif STORE.match(line):
            yield Edit("double-store", n, 0, (line,), frozenset({"coverage", "flow", "races", "completion"}))


def _moves(lines: Sequence[str]) -> Iterator[Edit]:
    """A synchronisation two or three lines up or down, at the indentation of its new neighbour."""
    body = set(_body(lines))
    for n in body:
        for by in (-3, -2, 2, 3):
            m = n + by
            if SYNC.match(lines[n - 1]) and m in body and all(x in body for x in range(min(n, m), max(n, m))):
                sync = " " * _indent(lines[m - 1]) + lines[n - 1].strip()
                low, high = min(n, m), max(n, m)
                kept = [lines[x - 1] for x in range(low, high + 1) if x != n]
                yield Edit("move-sync", low, high - low + 1, (sync, *kept) if by < 0 else (*kept, sync), PHASES)


def _swaps(lines: Sequence[str]) -> Iterator[Edit]:
    """Two neighbours change places, one of them a synchronisation."""
    body = set(_body(lines))
    for n in body:
        a, b = lines[n - 1], lines[n] if n < len(lines) else ""
        if n + 1 in body and _indent(a) == _indent(b) and a != b and (SYNC.match(a) or SYNC.match(b)):
            yield Edit("swap-lines", n, 2, (b, a), PHASES | {"flow"})


def _indented(lines: Sequence[str]) -> Iterator[Edit]:
    """A statement behind an `if` or loop moves into it, or its last one out of it."""
    body = set(_body(lines))
    for n in body:
        if n - 1 in body and _indent(lines[n - 2]) > _indent(lines[n - 1]):
            inside = " " * _indent(lines[n - 2]) + lines[n - 1].strip()
            outside = " " * _indent(lines[n - 1]) + lines[n - 2].strip()
            yield Edit("move-in", n, 1, (inside,), _about(lines[n - 1]) | PHASES)
            yield Edit("move-out", n - 1, 1, (outside,), _about(lines[n - 2]) | PHASES)


def _unguarded(lines: Sequence[str]) -> Iterator[Edit]:
    """An `if` without `else` is gone, its statements stay."""
    for n, line in enumerate(lines, 1):
        if not re.match(r"\s*if ", line):
            continue
        inside = []
        while n + len(inside) < len(lines) and _indent(lines[n + len(inside)]) > _indent(line):
            inside.append(lines[n + len(inside)])
        behind = lines[n + len(inside)] if n + len(inside) < len(lines) else ""
        if not behind.lstrip().startswith("else"):
            yield Edit("unguard", n, 1 + len(inside), tuple(x[4:] for x in inside), WALK)


def _one_sided(lines: Sequence[str]) -> Iterator[Edit]:
    """Those who read a buffer take it for one of another swizzle or pad at the same place."""
    for n, line in enumerate(lines, 1):
        declared = re.match(r"    (\w+) = shared\(.*(?:swizzle=\(\d, \d, \d\)|pad=\d)", line)
        for m in _body(lines) if declared else []:
            if not re.search(rf"(?:mma|load_shared)\(.*\b{declared[1]}\b", lines[m - 1]):
                continue
            for old, new in (
                (r"swizzle=\((\d), ", r"swizzle=(0, "),
                (r"swizzle=\(3, ", "swizzle=(2, "),
                (r"pad=\d", "pad=0"),
            ):
                other = re.sub(old, new, line).replace(declared[1], f"{declared[1]}_read", 1)
                reads = re.sub(rf"\b{declared[1]}\b", f"{declared[1]}_read", lines[m - 1])
                if re.sub(old, new, line) != line:
                    yield Edit("one-sided", n, m - n + 1, (line, other, *lines[n : m - 1], reads), PLACE | ORDER)


def _other_role(lines: Sequence[str]) -> Iterator[Edit]:
    """A synchronisation with a barrier is done by the other role, behind its own last one of the same kind."""
    begins = [n for n, line in enumerate(lines, 1) if line.lstrip().startswith("with role(")]
    for first, second in pairwise(begins):
        ends = second - 1
        mine = [n for n in range(first, ends) if re.match(r"\s*(?:expect|wait|arrive)\(", lines[n - 1])]
        yours = [n for n in range(second, len(lines) + 1) if re.match(r"\s*(?:wait|arrive)\(", lines[n - 1])]
        for a in mine:
            for b in yours:
                moved = " " * _indent(lines[b - 1]) + lines[a - 1].strip()
                yield Edit("other-role", a, b - a + 1, (*lines[a:b], moved), PHASES)
                back = " " * _indent(lines[a - 1]) + lines[b - 1].strip()
                yield Edit("other-role", a, b - a + 1, (lines[a - 1], back, *lines[a : b - 1]), PHASES)


# Where a report may point -----------------------------------------------------------------------------


def places(lines: Sequence[str], edit: Edit) -> tuple[int, ...]:
    """Lines of the changed text where a report may put the fault: those changed, those that use a buffer, barrier or
    value of theirs, what a changed loop or condition holds, and for a synchronisation all that touches shared memory.
    A wrong value shows where it is stored."""
    made = edit.applied(lines)
    old = lines[edit.first - 1 : edit.first - 1 + edit.removed]
    changed = touched(lines, edit)
    both = (*old, *edit.new)
    texts = [x for x in both if x not in old or x not in edit.new] or both
    found = set(changed) | {n for n, line in enumerate(made, 1) if STORE.match(line)}
    names = {w for x in texts for w in re.findall(r"\w+", x)} & _named(made)
    found |= {n for n, line in enumerate(made, 1) if names & set(re.findall(r"\w+", line)) and n > 4}
    looped = edit.families >= PHASES and any(x.rstrip().endswith(":") for x in texts)
    if (
        looped
        or any(SYNC.match(x) for x in texts)
        or edit.operator in ("alias", "stages", "swizzle", "role", "cluster")
    ):
        found |= {
            n for n, line in enumerate(made, 1) if MEMORY.search(line) or re.match(r"    \w+ = (shared|mbarrier)", line)
        }
        found |= {n for n, line in enumerate(made, 1) if SYNC.match(line)}
    for n in changed:
        if n <= len(made) and made[n - 1].rstrip().endswith(":") and made[n - 1].startswith("    "):
            found |= _inside(made, n)
    if "shape_class(" in "".join(texts):
        found |= {n for n, line in enumerate(made, 1) if re.search(ACCESS, line)}
    return tuple(sorted(found))


def touched(lines: Sequence[str], edit: Edit) -> list[int]:
    """The lines of the changed text that are new, or the one that stands where some were removed."""
    old = lines[edit.first - 1 : edit.first - 1 + edit.removed]
    if not edit.new:
        return [edit.first]
    if edit.removed == len(edit.new):
        return [edit.first + k for k, (a, b) in enumerate(zip(old, edit.new, strict=True)) if a != b]
    return [edit.first + k for k, x in enumerate(edit.new) if edit.removed == 0 or x not in old] or [edit.first]


def _inside(lines: Sequence[str], n: int) -> set[int]:
    end = n
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > _indent(lines[n - 1])):
        end += 1
    return set(range(n, end + 1))


def _named(lines: Sequence[str]) -> set[str]:
    text = "\n".join(lines)
    return set(re.findall(r"(?m)^    (\w+) = (?:shared|mbarrier|distribution)\(", text)) | set(
        re.findall(r"(?m)^\s{8,}(\w+) = ", text)
    )


# Drawn ------------------------------------------------------------------------------------------------


def _is_python(lines: Sequence[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


def drawn(base: str, lines: Sequence[str], seed: int = SEED, number: int = PER_BASE) -> list[Edit]:
    """So many different edits; operators at random by weight, then one of an operator's edits."""
    source = random.Random(f"{seed} {base}")
    groups: dict[str, list[Edit]] = {}
    for edit in edits(lines):
        groups.setdefault(edit.operator, []).append(edit)
    for group in groups.values():
        source.shuffle(group)
    seen, found = {tuple(lines)}, list[Edit]()
    while len(found) < number and groups:
        names = sorted(groups)
        operator = source.choices(names, [WEIGHTS.get(n, 1.0) for n in names])[0]
        edit = groups[operator].pop()
        if not groups[operator]:
            del groups[operator]
        made = tuple(edit.applied(lines))
        if made not in seen and _is_python(made):
            seen.add(made)
            found.append(edit)
    return sorted(found, key=lambda e: (e.first, e.operator, e.new))
