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

SEED = 20261121
PER_BASE = 21
WEIGHTS = dict.fromkeys(
    ("layout", "dtype", "vector", "swizzle", "guard", "stages", "slice", "array", "axis"), 0.35
) | dict.fromkeys(
    ("drop-sync", "move-sync", "swap-lines", "stage", "phase", "wait-count", "index", "predicate", "loop", "mask"), 2.5
)
"""Operators that the rules of level two mostly refuse are drawn less often; those of order and index more often."""

ORDER = frozenset({"races", "completion", "definedness"})
"""What a missing or late synchronisation breaks."""
PHASES = ORDER | {"protocol", "uniformity"}
"""What a wrong barrier with phases, or one that not all threads reach, breaks."""
VALUES = frozenset({"flow", "semantics", "stability"})
"""What a wrong formula breaks."""
PLACE = frozenset({"flow", "bounds", "coverage", "alignment", "definedness", "overflow", "aliasing"})
"""What a wrong element breaks."""
SPACE = PHASES | PLACE | {"resources"}
"""What wrong places in shared memory, or a wrong number of stages, break."""
WALK = PHASES | PLACE | VALUES
"""What a wrong number of iterations or tiles breaks."""
SUMS = frozenset({"accumulator", "semantics", "stability", "flow", "alignment"})
"""What a narrower number breaks."""

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


@dataclass(frozen=True)
class Rule:
    """In lines that match `where`, each match of `pattern` becomes each of `becomes` (templates, or made of it)."""

    operator: str
    where: str
    pattern: str
    becomes: tuple[str | Callable[[re.Match[str]], str], ...]
    families: frozenset[str]


def _plus(group: int, by: int) -> Callable[[re.Match[str]], str]:
    """The match with an integer moved."""

    def moved(match: re.Match[str]) -> str:
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:start] + str(int(match[group]) + by) + match[0][end:]

    return moved


def _times(group: int, by: float) -> Callable[[re.Match[str]], str]:
    def moved(match: re.Match[str]) -> str:
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:start] + str(int(int(match[group]) * by)) + match[0][end:]

    return moved


POSITION = r"(?<!cast)\((\w+(?: \+ \w+(?:\[e\])?)?), (\w+(?: \+ \d+)?)\)(?=[,)])"
ACCESS = r"\b(?:load|store|store_bulk|copy_async|copy_bulk)\("
RULES = (
    # positions
    Rule("index", ACCESS, POSITION, (r"(\1 + 1, \2)", r"(\1, \2 + 1)", r"(\1 - 1, \2)", r"(\1, \2 - 1)"), PLACE),
    Rule("index-block", ACCESS, POSITION, (r"(\1 + 8, \2)", r"(\1, \2 + 8)", r"(\1, 0)", r"(0, \2)"), PLACE),
    Rule("swap-axes", ACCESS, POSITION, (r"(\2, \1)",), PLACE),
    Rule("index-one", r"\bload\(|atomic_add\(", r"\((\w+),\)", (r"(\1 + 1,)", r"(0,)", r"(\1 - 1,)"), PLACE),
    Rule("view", ACCESS, r"\[([nbse])\]", (r"[\1 + 1]", r"[0]", r"[\1 - 1]"), PLACE | PHASES),
    Rule("view", ACCESS, r"\[b, h\]", ("[h, b]", "[b, 0]", "[b, h + 1]"), PLACE | PHASES),
    Rule("view", ACCESS, r"h // \(H // G\)", ("h % G", "h", "h // G"), PLACE),
    Rule("view", ACCESS, r"\boffsets\[e \+ 1\]", ("offsets[e]", "offsets[e + 2]", "(offsets[e + 1] + 1)"), PLACE),
    Rule("view", ACCESS, r"axis\(0\) \+ ", ("axis(0) + 1 + ", "axis(1) + "), PLACE),
    Rule("view", ACCESS, r"([jk]) // 128", (r"\1 // 64", r"\1 // 128 + 1", r"\1 // 127"), PLACE),
    Rule("view", ACCESS, r"minimum\(M, r \+ 64\) - r", ("minimum(M, r + 32) - r", "M - r", "64"), PLACE),
    Rule("array", r"copy_async\(|copy_bulk\(|\bload\(", r"\b(a|b|x|w|wg|wu|k|v|res)(?=, \(|\[)", ("OTHER",), PLACE | VALUES),
    # stages and phases
    Rule("stage", r"\(k // ", r"\(k // (\d+)( \+ (\d+))?\) % (\d+)", (_plus(4, 1), _plus(4, -1), r"(k // \1\2 + 1) % \4", r"(k // \1) % \4"), SPACE),
    Rule("stage", r"\w_s\w*\[\d\]", r"\[(\d)\]", (_plus(1, 1), _plus(1, -1)), SPACE),
    Rule("stage", r"_count", r"\[(\w+_count) % (\d)\]", (r"[(\1 + 1) % \2]", _plus(2, 1), _plus(2, -1)), SPACE),
    Rule("stage", r"_count", r"\[\((\w+_count) \+ (\d)\) % (\d)\]", (_plus(2, -1), r"[\1 % \3]", _plus(2, 1)), SPACE),
    Rule("phase", r"\bwait\(", r"\((\w+_count) // (\d) \+ 1\) % 2", (r"(\1 // \2) % 2", r"(\1 // \2 + 2) % 2", r"(\1 + 1) % 2", r"((\1 + 1) // \2 + 1) % 2"), PHASES),
    Rule("phase", r"\bwait\(", r"\((\w+_count) // (\d)\) % 2", (r"(\1 // \2 + 1) % 2", r"\1 % 2", r"((\1 + 1) // \2) % 2", _plus(2, 1)), PHASES),
    Rule("phase", r"\bwait\(", r"tile_count % 2", ("(tile_count + 1) % 2", "0"), PHASES),
    Rule("phase", r"\bwait\(", r"\(tile_count \+ 1\) % 2", ("tile_count % 2", "1"), PHASES),
    # waits
    Rule("wait-count", r"wait_group\(|wgmma_wait\(|wait_bulk\(", r"\((\d)\)", (_plus(1, 1), _plus(1, 1), _plus(1, -1)), ORDER | {"protocol"}),
    # predicates and loops
    Rule("predicate", r"^\s*if ", r"(k \+ )?(\d+) < K", (r"\1\2 <= K", _plus(2, 1), r"\1\2 + 16 < K", r"\1\2 < K - 16", r"\1\2 < K + 32"), WALK),
    Rule("predicate", r"^\s*if ", r"k > 0", ("k >= 0", "k > 64", "k < 0"), PHASES),
    Rule("predicate", r"^\s*if ", r"tile_count % 2 == (\d)", (r"tile_count % 3 == \1", "True", r"tile_count % 2 != \1"), WALK),
    Rule("predicate", r"^\s*if ", r"i \+ 64 <= ", ("i + 64 < ", "i + 63 <= ", "i + 1 <= "), WALK),
    Rule("loop", r"\brange\(", r"range\((\d+), (.*), (\d+)(, count=\w+)?\)", (r"range(\1 + \3, \2, \3\4)", r"range(\1, \2 - \3, \3\4)", r"range(\1, \2 + \3, \3\4)", r"range(\1, \2, 2 * \3\4)", r"range(\1, \2 - 1, \3\4)", r"range(\1, \2 + 1, \3\4)"), WALK),
    Rule("tiles", r"\btiles\(", r"tiles\(\((.*?\b)(M|N)(\b.*?\))", (r"tiles((\1\2 - 1\3", r"tiles((\1\2 + 1\3"), WALK),
    Rule("tiles", r"\btiles\(", r"(\d\d)\)(?=[,)])", (_times(1, 2), _times(1, 0.5)), WALK),
    Rule("walk", r"\btiles\(", r"raster=\w+", ("raster=row", "raster=column", "raster=hilbert"), WALK),
    Rule("walk", r"\btiles\(", r", persistent=True", ("",), WALK),
    Rule("loop-order", r"for i, j in", r"for i, j in", ("for j, i in",), WALK),
    Rule("loop-order", r"for n, i, j in|for b, h, i in", r"for (\w), (\w), (\w) in", (r"for \2, \1, \3 in", r"for \1, \3, \2 in"), WALK),
    # values
    Rule("mask", r"coords\(", r"coords\(0, ", ("coords(1, ", "coords(-1, "), VALUES),
    Rule("mask", r"number\(minimum", r"minimum\((\d+), (N - j|K - k)\)", (r"minimum(\1, \2 + 1)", _plus(1, -1), r"(\2)", r"\1"), VALUES),
    Rule("mask", r"coords\(", r" (?:<|>=) (?=number|stretch)", (" <= ", " > ", " >= ", " < "), VALUES),
    Rule("mask", r"coords\(-M \+ N \+ i", r"-M \+ N \+ i", ("i", "-M + N + i + 1", "-M + N + i - 1"), VALUES),
    Rule("mask", r"\bwhere\(", r", (-inf|0)\)$", (", 0)", ", -inf)", ", 1)", ", -1000.0)"), VALUES),
    Rule("fill", r"fill=", r"fill=0(?:\.0)?", ("fill=1", "fill=-inf"), VALUES | {"definedness"}),
    Rule("fill", r"\bfull\(", r"full\((\w+), (-?[\d.e+]+), ", (r"full(\1, 1, ", r"full(\1, -2, "), VALUES | {"accumulator"}),
    Rule("constant", r"scalar\(", r"scalar\(([\d.]+)", (r"scalar(0.5001", r"scalar(-\1"), VALUES),
    Rule("constant", r"rsqrt\(", r" \+ stretch\(eps, d1\)", ("", " - stretch(eps, d1)"), VALUES),
    Rule("constant", r"number\(N", r"number\(N, ", ("number(N + 1, ", "number(M, "), VALUES),
    Rule("formula", r" = ", r" \* (?=[a-z])", (" + ", " - "), VALUES),
    Rule("formula", r" = .*(exp|erf|sigmoid|maximum|max|sum)\(", r"\b(exp|erf|sigmoid|maximum|max|sum)\(", ("FUNCTION",), VALUES),
    Rule("formula", r"exp\(m - m_new", r"m - (m_new\w*)", (r"\1 - m", r"m - m"), VALUES),
    Rule("rescale", r" = ", r"(?<=[a-z_0-9)]) [*/] (?:stretch\(.*\), \w+\)|stretch\(.*?\]?, \w+\)|r\w*|stretch\(scale, \w+\))(?=$|, )", ("",), VALUES),
    Rule("axis", r"axis=", r"axis=(\d)", (_plus(1, 1), _plus(1, -1)), VALUES | PLACE),
    Rule("carried", r"^\s*(m|l|acc|squares|weights) = \w+\b(?!\()", r"= (\w+)", ("= NAME",), VALUES),
    Rule("slice", r"load_shared\(", r"load_shared\((\w+), (\w+)", (r"load_shared(\1, OTHER",), PLACE | VALUES),
    # products
    Rule("operands", r" = mma\(", r"mma\(([^,]+), ([^,]+), ", (r"mma(\2, \1, ", r"mma(\1, \1.T, "), PLACE | VALUES),
    Rule("operands", r" = mma\(|store_shared\(", r"\.T(?=,)", ("",), PLACE | VALUES),
    Rule("accumulate", r" = mma\(", r"mma\(([^,]+), ([^,]+), (\w+), ", (r"mma(\1, \2, mma(\1, \2, \3, ATOM), ", ), VALUES),
    Rule("dtype", r"cast\(|full\(", r", (f32|bf16|f16)\)", (", f32)", ", bf16)", ", f16)"), SUMS),
    Rule("dtype", r" = shared\(", r"shared\((bf16|f16|f8e4m3|i8|f32)", ("shared(f16", "shared(bf16", "shared(f8e5m2"), SUMS | SPACE),
    Rule("round", r"^ {8,}acc = acc \+ |^ {8,}squares = |^ {8,}l = ", r"= (.*)$", (r"= cast(cast(\1, bf16), f32)",), SUMS),
    # declarations
    Rule("alias", r" = (?:shared|mbarrier)\(", r"offset=(\d+)", (_plus(1, 128), _plus(1, -128), _plus(1, 1024), _plus(1, -1024), _plus(1, 8), _plus(1, 2048), "offset=0"), SPACE),
    Rule("stages", r" = (?:shared|mbarrier)\(", r"stages=(\d)", (_plus(1, 1), _plus(1, -1)), SPACE),
    Rule("swizzle", r" = shared\(", r"swizzle=\((\d), (\d), (\d)\)", (_plus(1, -1), _plus(1, 1), _plus(3, 1)), SPACE | {"banks"}),
    Rule("swizzle", r" = shared\(", r"pad=(\d)", ("pad=0", _plus(1, 8), _plus(1, 1)), SPACE | {"banks"}),
    Rule("arrivals", r" = mbarrier\(", r"arrivals=(\d)", (_plus(1, 1), _plus(1, -1), _times(1, 2)), PHASES),
    Rule("bytes", r"expect\(", r", (\d+)\)", (_plus(1, 16), _plus(1, -16), _times(1, 0.5), _times(1, 2)), PHASES),
    Rule("guard", r"shape_class\(", r", (?:aligned|divides|unit_stride)\(\w+(?:, \d+)?\)", ("",), PLACE),
    Rule("vector", r"vector=", r"vector=(\d+)", (_times(1, 2), _times(1, 0.5)), frozenset({"alignment", "bounds", "coverage", "coalescing", "flow"})),
    Rule("layout", r" = distribution\(", r"\((\(\d+, -?\d, \d+\)), (\(\d+, -?\d, \d+\))", (r"(\2, \1",), PLACE | VALUES),
    Rule("layout", r" = distribution\(", r"\((\d+), (\d), (\d+)\)", (_times(3, 2), r"(\1, -1, 0)"), PLACE | VALUES),
    Rule("layout", r" = distribution\(", r"\((\d+), (-1), (0)\)", (r"(\1, 0, 0)", r"(\1, 0, 1)"), PLACE | VALUES),
    # roles and clusters
    Rule("role", r"with role\(", r"registers=(\d+)", ("registers=256", "registers=24", "registers=208"), frozenset({"resources"})),
    Rule("role", r"with role\(", r"warps=\((\d+), (\d+)\)", (_plus(2, -1), _plus(2, 1), _plus(1, 1)), PHASES | {"resources"}),
    Rule("role", r"role_barrier\(|_turn\(", r"\((\d)\)", (_plus(1, 1), _plus(1, -1)), PHASES | {"resources"}),
    Rule("cluster", r"everywhere=True|shared_by=", r", (?:everywhere=True|shared_by=2)", ("",), PHASES | PLACE),
    Rule("cluster", r"copy_bulk\(", r"\)$", (", shared_by=2)",), PHASES | PLACE),
    Rule("cluster", r"schedule\(.*cluster", r"cluster=(?:2|\(1, 2\))", ("cluster=2", "cluster=(1, 2)", "cluster=1"), PHASES | PLACE | {"resources"}),
    Rule("barrier", r"\b(?:wait|arrive|expect)\(|copy_bulk\(", r"\b\w+_(?:full|empty|done)\b", ("BARRIER",), PHASES),
    Rule("barrier", r"^\s*(?:barrier|cluster_barrier)\(\)", r"\b(barrier|cluster_barrier)\(\)", ("fence_init()", "fence_async()", "commit()"), PHASES),
)  # fmt: skip
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
    for first, second in zip(begins, begins[1:], strict=False):
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
