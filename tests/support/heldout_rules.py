"""Edits of a schedule's lines by pattern, with the families whose claim each may break, argued from what the edited
words mean. Part of the held-out set (`heldout_edits`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

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
    Rule(
        "array",
        r"copy_async\(|copy_bulk\(|\bload\(",
        r"\b(a|b|x|w|wg|wu|k|v|res)(?=, \(|\[)",
        ("OTHER",),
        PLACE | VALUES,
    ),
    # stages and phases
    Rule(
        "stage",
        r"\(k // ",
        r"\(k // (\d+)( \+ (\d+))?\) % (\d+)",
        (_plus(4, 1), _plus(4, -1), r"(k // \1\2 + 1) % \4", r"(k // \1) % \4"),
        SPACE,
    ),
    Rule("stage", r"\w_s\w*\[\d\]", r"\[(\d)\]", (_plus(1, 1), _plus(1, -1)), SPACE),
    Rule("stage", r"_count", r"\[(\w+_count) % (\d)\]", (r"[(\1 + 1) % \2]", _plus(2, 1), _plus(2, -1)), SPACE),
    Rule("stage", r"_count", r"\[\((\w+_count) \+ (\d)\) % (\d)\]", (_plus(2, -1), r"[\1 % \3]", _plus(2, 1)), SPACE),
    Rule(
        "phase",
        r"\bwait\(",
        r"\((\w+_count) // (\d) \+ 1\) % 2",
        (r"(\1 // \2) % 2", r"(\1 // \2 + 2) % 2", r"(\1 + 1) % 2", r"((\1 + 1) // \2 + 1) % 2"),
        PHASES,
    ),
    Rule(
        "phase",
        r"\bwait\(",
        r"\((\w+_count) // (\d)\) % 2",
        (r"(\1 // \2 + 1) % 2", r"\1 % 2", r"((\1 + 1) // \2) % 2", _plus(2, 1)),
        PHASES,
    ),
    Rule("phase", r"\bwait\(", r"tile_count % 2", ("(tile_count + 1) % 2", "0"), PHASES),
    Rule("phase", r"\bwait\(", r"\(tile_count \+ 1\) % 2", ("tile_count % 2", "1"), PHASES),
    # waits
    Rule(
        "wait-count",
        r"wait_group\(|wgmma_wait\(|wait_bulk\(",
        r"\((\d)\)",
        (_plus(1, 1), _plus(1, 1), _plus(1, -1)),
        ORDER | {"protocol"},
    ),
    # predicates and loops
    Rule(
        "predicate",
        r"^\s*if ",
        r"(k \+ )?(\d+) < K",
        (r"\1\2 <= K", _plus(2, 1), r"\1\2 + 16 < K", r"\1\2 < K - 16", r"\1\2 < K + 32"),
        WALK,
    ),
    Rule("predicate", r"^\s*if ", r"k > 0", ("k >= 0", "k > 64", "k < 0"), PHASES),
    Rule(
        "predicate",
        r"^\s*if ",
        r"tile_count % 2 == (\d)",
        (r"tile_count % 3 == \1", "True", r"tile_count % 2 != \1"),
        WALK,
    ),
    Rule("predicate", r"^\s*if ", r"i \+ 64 <= ", ("i + 64 < ", "i + 63 <= ", "i + 1 <= "), WALK),
    Rule(
        "loop",
        r"\brange\(",
        r"range\((\d+), (.*), (\d+)(, count=\w+)?\)",
        (
            r"range(\1 + \3, \2, \3\4)",
            r"range(\1, \2 - \3, \3\4)",
            r"range(\1, \2 + \3, \3\4)",
            r"range(\1, \2, 2 * \3\4)",
            r"range(\1, \2 - 1, \3\4)",
            r"range(\1, \2 + 1, \3\4)",
        ),
        WALK,
    ),
    Rule("tiles", r"\btiles\(", r"tiles\(\((.*?\b)(M|N)(\b.*?\))", (r"tiles((\1\2 - 1\3", r"tiles((\1\2 + 1\3"), WALK),
    Rule("tiles", r"\btiles\(", r"(\d\d)\)(?=[,)])", (_times(1, 2), _times(1, 0.5)), WALK),
    Rule("walk", r"\btiles\(", r"raster=\w+", ("raster=row", "raster=column", "raster=hilbert"), WALK),
    Rule("walk", r"\btiles\(", r", persistent=True", ("",), WALK),
    Rule("loop-order", r"for i, j in", r"for i, j in", ("for j, i in",), WALK),
    Rule(
        "loop-order",
        r"for n, i, j in|for b, h, i in",
        r"for (\w), (\w), (\w) in",
        (r"for \2, \1, \3 in", r"for \1, \3, \2 in"),
        WALK,
    ),
    # values
    Rule("mask", r"coords\(", r"coords\(0, ", ("coords(1, ", "coords(-1, "), VALUES),
    Rule(
        "mask",
        r"number\(minimum",
        r"minimum\((\d+), (N - j|K - k)\)",
        (r"minimum(\1, \2 + 1)", _plus(1, -1), r"(\2)", r"\1"),
        VALUES,
    ),
    Rule("mask", r"coords\(", r" (?:<|>=) (?=number|stretch)", (" <= ", " > ", " >= ", " < "), VALUES),
    Rule("mask", r"coords\(-M \+ N \+ i", r"-M \+ N \+ i", ("i", "-M + N + i + 1", "-M + N + i - 1"), VALUES),
    Rule("mask", r"\bwhere\(", r", (-inf|0)\)$", (", 0)", ", -inf)", ", 1)", ", -1000.0)"), VALUES),
    Rule("fill", r"fill=", r"fill=0(?:\.0)?", ("fill=1", "fill=-inf"), VALUES | {"definedness"}),
    Rule(
        "fill",
        r"\bfull\(",
        r"full\((\w+), (-?[\d.e+]+), ",
        (r"full(\1, 1, ", r"full(\1, -2, "),
        VALUES | {"accumulator"},
    ),
    Rule("constant", r"scalar\(", r"scalar\(([\d.]+)", (r"scalar(0.5001", r"scalar(-\1"), VALUES),
    Rule("constant", r"rsqrt\(", r" \+ stretch\(eps, d1\)", ("", " - stretch(eps, d1)"), VALUES),
    Rule("constant", r"number\(N", r"number\(N, ", ("number(N + 1, ", "number(M, "), VALUES),
    Rule("formula", r" = ", r" \* (?=[a-z])", (" + ", " - "), VALUES),
    Rule(
        "formula",
        r" = .*(exp|erf|sigmoid|maximum|max|sum)\(",
        r"\b(exp|erf|sigmoid|maximum|max|sum)\(",
        ("FUNCTION",),
        VALUES,
    ),
    Rule("formula", r"exp\(m - m_new", r"m - (m_new\w*)", (r"\1 - m", r"m - m"), VALUES),
    Rule(
        "rescale",
        r" = ",
        r"(?<=[a-z_0-9)]) [*/] (?:stretch\(.*\), \w+\)|stretch\(.*?\]?, \w+\)|r\w*|stretch\(scale, \w+\))(?=$|, )",
        ("",),
        VALUES,
    ),
    Rule("axis", r"axis=", r"axis=(\d)", (_plus(1, 1), _plus(1, -1)), VALUES | PLACE),
    Rule("carried", r"^\s*(m|l|acc|squares|weights) = \w+\b(?!\()", r"= (\w+)", ("= NAME",), VALUES),
    Rule("slice", r"load_shared\(", r"load_shared\((\w+), (\w+)", (r"load_shared(\1, OTHER",), PLACE | VALUES),
    # products
    Rule("operands", r" = mma\(", r"mma\(([^,]+), ([^,]+), ", (r"mma(\2, \1, ", r"mma(\1, \1.T, "), PLACE | VALUES),
    Rule("operands", r" = mma\(|store_shared\(", r"\.T(?=,)", ("",), PLACE | VALUES),
    Rule(
        "accumulate", r" = mma\(", r"mma\(([^,]+), ([^,]+), (\w+), ", (r"mma(\1, \2, mma(\1, \2, \3, ATOM), ",), VALUES
    ),
    Rule("dtype", r"cast\(|full\(", r", (f32|bf16|f16)\)", (", f32)", ", bf16)", ", f16)"), SUMS),
    Rule(
        "dtype",
        r" = shared\(",
        r"shared\((bf16|f16|f8e4m3|i8|f32)",
        ("shared(f16", "shared(bf16", "shared(f8e5m2"),
        SUMS | SPACE,
    ),
    Rule(
        "round", r"^ {8,}acc = acc \+ |^ {8,}squares = |^ {8,}l = ", r"= (.*)$", (r"= cast(cast(\1, bf16), f32)",), SUMS
    ),
    # declarations
    Rule(
        "alias",
        r" = (?:shared|mbarrier)\(",
        r"offset=(\d+)",
        (_plus(1, 128), _plus(1, -128), _plus(1, 1024), _plus(1, -1024), _plus(1, 8), _plus(1, 2048), "offset=0"),
        SPACE,
    ),
    Rule("stages", r" = (?:shared|mbarrier)\(", r"stages=(\d)", (_plus(1, 1), _plus(1, -1)), SPACE),
    Rule(
        "swizzle",
        r" = shared\(",
        r"swizzle=\((\d), (\d), (\d)\)",
        (_plus(1, -1), _plus(1, 1), _plus(3, 1)),
        SPACE | {"banks"},
    ),
    Rule("swizzle", r" = shared\(", r"pad=(\d)", ("pad=0", _plus(1, 8), _plus(1, 1)), SPACE | {"banks"}),
    Rule("arrivals", r" = mbarrier\(", r"arrivals=(\d)", (_plus(1, 1), _plus(1, -1), _times(1, 2)), PHASES),
    Rule("bytes", r"expect\(", r", (\d+)\)", (_plus(1, 16), _plus(1, -16), _times(1, 0.5), _times(1, 2)), PHASES),
    Rule("guard", r"shape_class\(", r", (?:aligned|divides|unit_stride)\(\w+(?:, \d+)?\)", ("",), PLACE),
    Rule(
        "vector",
        r"vector=",
        r"vector=(\d+)",
        (_times(1, 2), _times(1, 0.5)),
        frozenset({"alignment", "bounds", "coverage", "coalescing", "flow"}),
    ),
    Rule(
        "layout", r" = distribution\(", r"\((\(\d+, -?\d, \d+\)), (\(\d+, -?\d, \d+\))", (r"(\2, \1",), PLACE | VALUES
    ),
    Rule("layout", r" = distribution\(", r"\((\d+), (\d), (\d+)\)", (_times(3, 2), r"(\1, -1, 0)"), PLACE | VALUES),
    Rule("layout", r" = distribution\(", r"\((\d+), (-1), (0)\)", (r"(\1, 0, 0)", r"(\1, 0, 1)"), PLACE | VALUES),
    # roles and clusters
    Rule(
        "role",
        r"with role\(",
        r"registers=(\d+)",
        ("registers=256", "registers=24", "registers=208"),
        frozenset({"resources"}),
    ),
    Rule(
        "role",
        r"with role\(",
        r"warps=\((\d+), (\d+)\)",
        (_plus(2, -1), _plus(2, 1), _plus(1, 1)),
        PHASES | {"resources"},
    ),
    Rule("role", r"role_barrier\(|_turn\(", r"\((\d)\)", (_plus(1, 1), _plus(1, -1)), PHASES | {"resources"}),
    Rule("cluster", r"everywhere=True|shared_by=", r", (?:everywhere=True|shared_by=2)", ("",), PHASES | PLACE),
    Rule("cluster", r"copy_bulk\(", r"\)$", (", shared_by=2)",), PHASES | PLACE),
    Rule(
        "cluster",
        r"schedule\(.*cluster",
        r"cluster=(?:2|\(1, 2\))",
        ("cluster=2", "cluster=(1, 2)", "cluster=1"),
        PHASES | PLACE | {"resources"},
    ),
    Rule("barrier", r"\b(?:wait|arrive|expect)\(|copy_bulk\(", r"\b\w+_(?:full|empty|done)\b", ("BARRIER",), PHASES),
    Rule(
        "barrier",
        r"^\s*(?:barrier|cluster_barrier)\(\)",
        r"\b(barrier|cluster_barrier)\(\)",
        ("fence_init()", "fence_async()", "commit()"),
        PHASES,
    ),
)
