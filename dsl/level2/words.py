"""The words of level two: one table of signatures, from which calls are checked and the guide is written."""

from __future__ import annotations

from kernelagent.dsl.elaborate.words import Group, Where, Word


def _rows(group: Group, where: Where, *rows: tuple[str, str, str]) -> tuple[Word, ...]:
    return tuple(Word(name, signature, group, doc, where) for name, signature, doc in rows)


FLOAT_WORDS = (
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "floor", "ceil", "round", "sigmoid",
)  # fmt: skip
SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "and": "&", "or": "|", "xor": "^",
    "shl": "<<", "shr": ">>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
REDUCTIONS = ("sum", "max", "min", "prod", "any", "all")

SECTIONS: dict[str, tuple[Word, ...]] = {
    "header": _rows(
        "kernel", "header",
        ("schedule", "target, *, threads, min_blocks=1, cluster=1, dims=None", "the machine, threads of a block"),
        ("shape_class", "name, *guards", "what dispatch has checked: aligned(x, 16), divides(K, 8), unit_stride(x)"),
        ("claim", "*claims", "what must be proved of the schedule; no code comes of it"),
        ("distribution", "shape, *, lanes, values", "named: which thread holds which element; see below"),
        ("shared", "dtype, shape, *, stages=1, swizzle=None, pad=0, panel=0, offset=0", "named buffer at a byte"),
        ("mbarrier", "*, arrivals, stages=1, offset=0", "named barriers with phases, 8 bytes each"),
    ),
    "loops": _rows(
        "loop", "loop",
        ("tiles", "extents, sizes, *, start=None, raster=None, group=8, persistent=False, count=None", "the grid"),
        ("range", "lo, hi, step, *, unroll=1, count=None", "in order, uniform over the block or role"),
        ("role", "name, *, warps, registers=None", "behind `with`: what the warps of a range do"),
    ),
    "global memory": _rows(
        "memory", "expression",
        ("load", "view, position, layout=None, *, fill, vector=1", "registers; outside the view `fill`"),
        ("gather", "view, position, layout, *, fill, vector=1", "one position is a rank-1 integer fragment"),
    ) + _rows(
        "memory", "statement",
        ("store", "view, position, value, *, vector=1", "elements inside the view"),
        ("scatter", "view, position, value", "one position is a rank-1 integer fragment"),
        ("atomic_add", "view, position, value, *, vector=1", "into an Acc; plain positions or one fragment"),
    ),
    "shared memory": _rows(
        "memory", "expression",
        ("load_shared", "source, layout, *, vector=1", "registers from a stage"),
    ) + _rows(
        "memory", "statement",
        ("store_shared", "target, value, *, vector=1", "registers to a stage"),
        ("copy", "target, view, position, layout, *, vector=1", "global to shared, done when it returns"),
        ("copy_async", "target, view, position, layout, *, vector=1", "global to shared, joins the open group"),
        ("commit", "", "close this thread's group of asynchronous copies"),
        ("wait_group", "pending", "until at most `pending` newer groups are in flight"),
        ("barrier", "", "all threads of the block; orders shared memory"),
    ),
    "roles and bulk copies": _rows(
        "memory", "statement",
        ("barrier_init", "barrier", "every stage, in front of the roles"),
        ("fence_init", "", "initialised barriers become visible"),
        ("expect", "barrier, bytes", "arrive once and announce the bytes of this phase"),
        ("arrive", "barrier, *, everywhere=False", "once for each warp; everywhere: in all blocks of the cluster"),
        ("wait", "barrier, parity", "until the phase of this parity has completed"),
        ("copy_bulk", "target, view, position, barrier, *, shape=None, shared_by=1", "by a tensor map, one thread"),
        ("store_bulk", "view, position, source, *, shape=None", "by a tensor map, one thread"),
        ("commit_bulk", "", "close the group of bulk stores"),
        ("wait_bulk", "pending", "until at most `pending` groups still read shared memory"),
        ("fence_async", "", "this thread's writes to shared memory become visible to bulk stores and wgmma"),
        ("role_barrier", "number", "all threads of the role; orders shared memory"),
        ("take_turn", "number", "until the role's other warpgroup has passed its turn; the first one goes first"),
        ("pass_turn", "number", "the other warpgroup may go on"),
        ("cluster_barrier", "", "all threads of the cluster"),
        ("wgmma_fence", "", "in front of each group of products"),
        ("wgmma_commit", "", "close the group of products"),
        ("wgmma_wait", "pending", "until at most `pending` groups are in flight"),
    ),
    "making": _rows(
        "make", "expression",
        ("full", "layout, value, dtype", "all elements equal"),
        ("scalar", "value, dtype", "rank-0 constant"),
        ("number", "index, dtype", "rank 0, from an index integer"),
        ("truth", "condition", "rank-0 bool, from a condition on index integers"),
        ("coords", "start, layout", "i32 start + own position, rank 1"),
        ("cast", "x, dtype", "the only conversion; rounds to nearest even"),
        ("where", "condition, a, b", ""),
    ),
    "elementwise": _rows(
        "elementwise", "expression",
        ("maximum", "a, b", "fragments or index integers"),
        ("minimum", "a, b", "fragments or index integers"),
        ("pow", "a, b", ""),
        ("abs", "x", ""),
        *((w, "x", "") for w in FLOAT_WORDS),
    ),
    "reductions": _rows(
        "reduce", "expression",
        *((w, "x, *, axis", "") for w in (*REDUCTIONS, "argmax", "argmin")),
        ("scan", "x, *, axis, op", "inclusive prefix; op is sum, prod, max or min"),
    ),
    "claims": _rows(
        "claims", "expression",
        ("tag", "x, dims=None, position=None", "a fragment, its elements labelled"),
    ) + _rows(
        "claims", "statement",
        ("expect", "x, dims, position", "a fragment or stage comes from these coordinates"),
    ),
    "matrix": _rows(
        "matrix", "expression",
        ("mma", "a, b, acc, *, atom", "acc + a (m, k) @ b (k, n); operands in registers or a stage"),
    ),
    "shape": _rows(
        "shape", "expression",
        ("stretch", "x, layout", "extent-1 axes, or rank 0, to the layout's shape"),
        ("expand", "x, axes", "new axes of extent 1; `x[:, None]`"),
        ("permute", "x, axes", "fragment, stage or view; `.T` on rank 2"),
        ("reshape", "x, layout=None", "the same registers under another shape"),
        ("stack", "*parts", "along a new last axis"),
        ("take", "x, position", "a constant subscript of the last axis; `x[:, 0]`"),
    ),
    "views and index integers": _rows(
        "shape", "expression",
        ("view", "array, shape, *, at, inside=None", "position p reads at[d], written with axis(0), axis(1) ..."),
        ("axis", "number", "inside `at=` only: the view's own position"),
    ) + _rows("index", "expression", ("cdiv", "a, b", "division rounded up")),
}  # fmt: skip

EXPECT = SECTIONS["claims"][-1]
"""The word `expect` with three arguments; with two it is about a barrier."""
WORDS2: dict[str, Word] = {word.name: word for words in SECTIONS.values() for word in words if word is not EXPECT}

GUARDS = ("unit_stride", "aligned", "divides", "range")
"""Kinds of guards, which stand only inside `shape_class`."""
