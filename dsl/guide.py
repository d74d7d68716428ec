"""The language guide: generated from the table of words, so that it cannot name what does not exist.

`language.md` is all that a model is told about the language; it must fit in 12,000 characters. Run this module to
write it again: `python -m kernelagent.dsl.guide`.
"""

from __future__ import annotations

from pathlib import Path

from kernelagent.dsl import dtypes
from kernelagent.dsl.elaborate.words import WORDS, Group

MAX_CHARACTERS = 12_000
PATH = Path(__file__).with_name("language.md")

GEMM = """
edition(1)

@inline
def gelu(x):
    return 0.5 * x * (1 + erf(x * 0.7071067811865476))

@kernel
def linear_gelu(x: In[T, M, K], w: In[T, N, K], bias: In[T, N], y: Out[T, M, N],
                BM=choices(64, 128), BN=choices(64, 128, 256), BK=64):
    on(sm_90a, BM=128, BN=128, stages=3, persistent=True)
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(x, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        b = load(bias, (j,), (BN,))
        store(y, (i, j), cast(gelu(acc + b[None, :]), T))
"""

SOFTMAX = """
edition(1)

@kernel
def softmax(x: In[T, M, N], y: Out[T, M, N], BM=1, BN=choices(1024, 4096)):
    for i in tiles((M,), (BM,)):
        m, l = full((BM,), -inf, f32), zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN))
            m_new = maximum(m, max(v, axis=1))
            l = l * exp(m - m_new) + sum(exp(v - m_new[:, None]), axis=1)
            m = m_new
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN))
            store(y, (i, j), cast(exp(v - m[:, None]) / l[:, None], T))
"""

ATTENTION = """
edition(1)

@kernel
def attention(q: In[T, B, H, M, D], k: In[T, B, G, N, D], v: In[T, B, G, N, D], o: Out[T, B, H, M, D],
              scale: f32, causal: const = True, BM=64, BN=64):
    assume(D in (64, 128), H % G == 0, N >= M)
    for b, h, i in tiles((B, H, M), (1, 1, BM)):
        g = h // (H // G)
        qi = load(q[b, h], (i, 0), (BM, D))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        end = minimum(N, i + BM + N - M) if causal else N
        for j in pipeline(0, end, BN):
            s = mma(qi, load(k[b, g], (j, 0), (BN, D)).T) * scale
            if causal:
                s = where(coords(i + N - M, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, T), load(v[b, g], (j, 0), (BN, D)))
            m = m_new
        store(o[b, h], (i, 0), cast(acc / l[:, None], T))
"""

PROGRAM = """
edition(1)

@kernel
def partial_sums(x: In[T, M, N], part: Out[f32, S, N], BM=64, BN=256):
    for s, j in tiles((S, N), (1, BN)):
        lo, hi = s * M // S, (s + 1) * M // S
        acc = zeros((BN,), f32)
        for i in pipeline(0, hi - lo, BM):
            acc += sum(load(x[lo:hi], (i, j), (BM, BN)), axis=0)
        store(part[s], (j,), acc)

@kernel
def add_up(part: In[f32, S, N], y: Out[T, N], BN=256):
    for j in tiles((N,), (BN,)):
        acc = zeros((BN,), f32)
        for s in range(0, S, 1):
            acc += load(part[s], (j,), (BN,))
        store(y, (j,), cast(acc, T))

@program
def column_sums(x: In[T, M, N], y: Out[T, N], S=64):
    part = temp(f32, (S, N))
    partial_sums(x, part)
    add_up(part, y)
"""

EXAMPLES: list[tuple[str, str, str]] = [
    ("gemm with epilogue", "x @ w.T + bias, then gelu; bias is one row, broadcast by `[None, :]`.", GEMM.lstrip()),
    ("softmax", "Rows longer than a tile: carried maximum and sum, then a second pass.", SOFTMAX.lstrip()),
    ("attention", "Grouped heads, causal as a compile-time constant, online softmax.", ATTENTION.lstrip()),
    ("two kernels", "Column sums of a tall matrix: split M among S blocks, then add up.", PROGRAM.lstrip()),
]
"""(title, what it shows, text): every text parses, and the interpreter's tests run them."""

_RULES = """\
# The tile language

A kernel says what each output tile is, as numpy would; the compiler chooses threads, memory and overlap. The text is
Python syntax but is parsed, never run: only the words below exist. It begins with `edition(1)`; the top level holds
`NAME = literal`, `@kernel`, `@inline` (pure helper, one final `return`) and `@program` (calls of kernels).

## Signature
- Arrays: `x: In[f32, M, N]`, `y: Out[T, M, N]`, `z: InOut[...]`, `s: Acc[f32, N]` (zeroed, only `atomic_add`).
  First the dtype or a dtype variable (capital), then dims: names, literals, or `K // 128` of dims that stand alone
  elsewhere. `res: In[T, M, N] = None` is optional: `if res is not None:`.
- `BM=64`, `BM=choices(32, 64)`: tunables, picked by a tuner, never changing the result. `scale: f32` (also
  `eps: f32 = 1e-6`, `n: i32`): runtime scalars. `causal: const = True`: compile-time integer or bool.
- dtypes: {dtypes}.
- First in the body: `assume(...)`, `on(target, BM=128, stages=2)`, `require(...)`, `claim(...)`.

## Loops and names
- `for i, j in tiles((M, N), (BM, BN)):` is the grid: i = 0, BM, 2*BM ...; independent, in any order. One per kernel
  (nested directly only for ragged groups); all work stands inside it.
- `for k in pipeline(lo, hi, step):` runs in order; `range` too. Steps are positive constants; tuples flatten a nest.
- A name bound before a loop and rebound inside is carried: same dtype, shape and live part. Start it with
  `zeros((BM,), f32)`, never with `0.0`. Names first bound in a loop end with it. Tiles are immutable.
- `if`, `and`, `or`, `not`, `a if c else b` take scalars; for tiles use `where`, `&`, `|`, `~`.

## Positions
- **All positions count elements**: `load(x, (i, k), (BM, BK))` is rows i..i+BM-1. Never write `i * BM`.
- Shapes are positive constants: literals, tunables, or a dim D after `assume(D in (64, 128))`. A runtime dim is no
  extent: loop over it. BM never matches BN.
- Views, without copies: `x[b, h]` drops leading axes (in range!), `x[lo:hi]` clamps, `.T`, `reshape`, `permute`,
  `window`. Bounds and positions are index integers: dims, tunables, `n: i32`, loop variables, elements like
  `offsets[e]` of integer In arrays, and `+ - * // %`, `minimum`, `maximum`, `cdiv` of them.

## Void
- Tile positions outside the view are **void**: they take no part in reductions and `mma`, and are not stored. No
  masks are needed at ragged edges. Elementwise results are live where all operands are.
- `load(..., fill=0)` or `fill(x, 0)` makes void positions count. Needed when a tile is carried as it is
  (`acc += load(x, (i, j), (BM, BN), fill=0)`), merged by `reshape`, or scales what is carried (`acc += mma(a, b) * s`
  with `s = load(scales, (i, k // 128), (BM, 1), fill=0)`).

## Numbers
- Arithmetic on floats is f32 until `cast(v, T)`; stores and `mma` operands must have the dtype already.
- Literals take the other side's dtype. Integers and floats mix only after `cast`; `/` needs floats.
- Equal ranks, or scalars: write `m[:, None]` for one value a row, `b[None, :]` for one a column.
- Reductions: `max(x, axis=1)`, `sum(x, axis=1)`; of two tiles: `maximum(a, b)`. NaN propagates. `inf`, `nan`.
- `x ** 2` to `x ** 4`. `x[:, 0]` takes a constant of the last axis; `stack(a, b)` makes a last axis.
- `mma(a, b)` is (m, k) x (k, n) -> (m, n) and accumulates in f32 (i32 for 8-bit integers); for `x @ w.T` load a tile
  of w and write `.T`. f32 operands stay exact f32 unless `precision=tf32`.
- `-inf - -inf` is NaN: an online softmax whose first tile may be wholly masked starts its maximum at `-1e30`.
- `argmax` counts within the tile: add the tile's start. `sum` over int8 or bool: `cast` to i32 first.

## Memory
- Each element of an `Out` is stored exactly once: not inside a k loop, not from two grid axes that share it. A
  result of another shape than the grid is stored under `if j == 0:`, by a kernel of its own, or into an `Acc`.
- Outputs are never loaded; an `InOut` element is loaded only by the iteration that stores it, before that one store.
- `gather(x, (idx, j), (BM, BN))`, `scatter`: idx is a rank-1 integer tile; say `assume(0 <= idx < N)`,
  `assume(distinct(idx))`, `assume(partition(offsets, M))` about data.
- `assume(K % 128 == 0)` refuses other callers; it is no speed hint. Write it only where `//` or `reshape` needs it.
- Ragged groups: `for e in tiles((E,), (1,)):`, then `lo, hi = offsets[e], offsets[e + 1]`, then directly
  `for i, j in tiles((hi - lo, N), (BM, BN)):` over `x[lo:hi]`, with `assume(partition(offsets, M))`.
- Claims change no result and are proved or refuted: `claim(bank_conflicts <= 1, sectors <= 2, conformity,
  separation)` about the compiled schedule (conformity: both operands of each `mma` carry the same k; separation: no
  two writers meet); `expect(acc, (M, N), (i, j))`: row p of acc comes from coordinate i + p of M, column q from j + q
  of N, as loaded. `tag(x, (M, K), (i, k))` is x with such labels given by hand: an
  axis that `gather` takes from data needs them.
  Claims are about every schedule of the kernel, and in that for any calls `sectors` seldom holds: `check` notes it.
- For a GPU a kernel becomes a schedule for aligned calls and a slower one for any calls; `on(...)` is for both. What
  one cannot follow is dropped and noted; what does not fit is refused. A block of sm_90a has 232448 bytes of shared
  memory: for `stages` times (BM + BN) * BK elements, and with `persistent=True` for a tile of the output, too. On
  sm_90a `warps` matters to the schedule for any calls only: write `warps=8` if it spills.
- Slices that a loop over s moves, `y[s * M // S:(s + 1) * M // S]`, cover y once `assume(S >= 1)` says that it has
  a step.
- A `@program` calls kernels one after the other: `t = temp(f32, (S, N))` is written whole by one call, then read.
"""

_WORDS_HEAD = "## Words\n"

_HABITS = """\
## Habits to leave
| instead of | write |
|---|---|
| `load(x, (i * BM, 0), ...)`, `program_id` | `load(x, (i, 0), ...)` |
| `x[i]` for a tile | `load(x, (i, 0), (BM, D))` |
| `load(..., mask=m, other=0)` | `load(..., fill=0)` |
| `s - max(s, axis=1)` | `s - max(s, axis=1)[:, None]` |
| `max(a, b)`, `a @ b`, `mean(x)` | `maximum(a, b)`, `mma(a, b)`, `sum(x, axis=1) / N` |
| `x.sum()`, `x.to(f16)`, `x.shape` | `sum(x)`, `cast(x, f16)`, the dim's name |
| `store(y, ..., acc)` for `y: Out[bf16]` | `store(y, ..., cast(acc, bf16))` |
| `(BM, N)` as a shape | loop over N with a tunable BN |
| `eps=1e-6`, `causal=True` as parameters | `eps: f32 = 1e-6`, `causal: const = True` |
| `while`, `break`, `x[i] = v`, lists, imports | counted loops, `where`, tuples, nothing |
"""


def guide() -> str:
    """The text of `language.md`."""
    rules = _RULES.replace("{dtypes}", " ".join(dtypes.DTYPES))
    examples = "\n".join(f"### {title}\n{shows}\n```python\n{text}```" for title, shows, text in EXAMPLES)
    return "\n".join([rules, _WORDS_HEAD + _word_lists(), _HABITS, "## Examples", examples, ""])


def _word_lists() -> str:
    """Signatures by group, then one line for each word whose name does not say it."""
    groups: list[tuple[str, tuple[Group, ...]]] = [
        ("memory", ("memory",)),
        ("making", ("make",)),
        ("arithmetic", ("elementwise", "index")),
        ("reductions", ("reduce", "matrix")),
        ("shape", ("shape",)),
    ]
    lines = [f"- {title}: {', '.join(_usages(names))}." for title, names in groups]
    lines.append(
        f"- policy in `on(...)`: {', '.join(POLICY_VALUES.values())}. Targets: cpu, avx512, cuda, sm_80, sm_90a."
    )
    lines += [f"- `{word.name}`: {word.doc}." for word in WORDS.values() if word.name in _EXPLAINED]
    return "\n".join([*lines, ""])


POLICY_VALUES = {
    "stages": "`stages=3`", "warps": "`warps=8`", "persistent": "`persistent=True`", "unroll": "`unroll=2`",
    "raster": "`raster=grouped` (row, column, hilbert, or 1 to 64 rows)", "cluster": "`cluster=2` or `(1, 2)` tiles",
    "roles": "`roles=cooperative` (overlapped, pingpong)", "promote": "`promote=4` (k-steps of an fp8 sum)",
    "via": "`via=tma` (cpu: stream, cached)", "layout": "`layout=packed` (cpu; or direct)",
}  # fmt: skip
"""The words of `on(...)`, each with a value and what else it takes."""

_EXPLAINED = (
    "gather", "scatter", "atomic_add", "coords", "cast", "fill", "where", "argmax", "scan", "reshape", "window",
)  # fmt: skip


def _usages(groups: tuple[Group, ...]) -> list[str]:
    """Signatures; words with the same one share it: `sum max(x, *, axis=None)`."""
    by_signature: dict[str, list[str]] = {}
    for word in WORDS.values():
        if word.group in groups:
            by_signature.setdefault(word.signature, []).append(word.name)
    return [f"`{' '.join(names)}({signature})`" for signature, names in by_signature.items()]


def main() -> None:
    PATH.write_text(guide(), encoding="utf-8")


if __name__ == "__main__":
    main()
