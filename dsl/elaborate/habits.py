"""What authors write out of habit, and what to write instead; and the nearest name for the rest."""

from __future__ import annotations

import ast
import difflib
from typing import TYPE_CHECKING

from kernelagent.dsl import dtypes
from kernelagent.dsl.elaborate.operands import Bound
from kernelagent.dsl.elaborate.words import RESERVED, WORDS
from kernelagent.dsl.syntax import Fault, fault

if TYPE_CHECKING:
    from kernelagent.dsl.elaborate.context import Context

_REPLACEMENTS = {
    "mean": "mean is not a word: write `sum(x, axis=1) / N`, N being the count of live elements",
    "var": "write the mean first, then `sum(d * d, axis=1) / N` with `d = x - mean[:, None]`",
    "std": "write `sqrt(variance)` after computing the variance with `sum`",
    "softmax": "write it out: `m = max(x, axis=1); p = exp(x - m[:, None]); p / sum(p, axis=1)[:, None]`",
    "dot": "write `mma(a, b)`: (m, k) x (k, n) -> (m, n)",
    "matmul": "write `mma(a, b)`: (m, k) x (k, n) -> (m, n)",
    "gemm": "write `acc += mma(a, b)` in a `pipeline` loop over k",
    "len": "extents are names: write the dim, for example `N`",
    "float": "write `cast(x, f32)`, or the literal; infinity is `inf`",
    "int": "index integers are exact already; for tiles write `cast(x, i32)`",
    "bool": "compare: `x != 0`",
    "arange": "write `iota(n)`, or `coords(start, n)` for start .. start+n-1",
    "program_id": "write `for i, j in tiles((M, N), (BM, BN)):`; i and j count elements",
    "num_programs": "the grid is `tiles(extents, sizes)`; it needs no program count",
    "cumsum": "write `scan(x, axis=1, op=sum)`",
    "cumprod": "write `scan(x, axis=1, op=prod)`",
    "ones": "write `full(shape, 1, dtype)`",
    "empty": "values are made by computing them; start an accumulator with `zeros(shape, dtype)`",
    "zeros_like": "write `zeros(shape, dtype)` with the tile's extents",
    "full_like": "write `full(shape, value, dtype)`",
    "transpose": "write `x.T` for rank 2, `permute(x, axes)` otherwise",
    "trans": "write `x.T`",
    "expand_dims": "write `x[:, None]` or `x[None, :]`",
    "broadcast_to": "operations stretch extent 1 by themselves; write `x[:, None]` to align ranks",
    "concatenate": "load the parts with `fill=` and choose with `where`, or store them separately",
    "concat": "load the parts with `fill=` and choose with `where`, or store them separately",
    "cat": "load the parts with `fill=` and choose with `where`, or store them separately",
    "pow": "write `x ** 2` (2 to 4), or `exp(log(x) * y)`",
    "power": "write `x ** 2` (2 to 4), or `exp(log(x) * y)`",
    "square": "write `x * x`",
    "relu": "write `maximum(x, 0)`",
    "gelu": "write `0.5 * x * (1 + erf(x * 0.7071067811865476))`",
    "silu": "write `x * sigmoid(x)`",
    "exp10": "write `exp(x * 2.302585092994046)`",
    "log10": "write `log(x) * 0.4342944819032518`",
    "log1p": "write `log(1 + x)`",
    "expm1": "write `exp(x) - 1`",
    "clip": "write `minimum(maximum(x, lo), hi)`",
    "clamp": "write `minimum(maximum(x, lo), hi)`",
    "select": "write `where(condition, a, b)`",
    "astype": "write `cast(x, f32)`",
    "convert": "write `cast(x, f32)`",
    "tid": "there are no threads at this level: work on tiles",
    "thread_id": "there are no threads at this level: work on tiles",
    "barrier": "there are no barriers at this level: values are in order",
    "syncthreads": "there are no barriers at this level: values are in order",
    "shared": "there is no shared memory at this level: the compiler places tiles",
    "parallel": "write `for i in tiles((M,), (BM,)):`",
    "prange": "write `for i in tiles((M,), (BM,)):`",
    "grid": "write `for i in tiles((M,), (BM,)):`",
    "static_range": "write `for i in range(0, n, 1):`",
    "enumerate": "write `for i in range(0, n, 1):`",
    "zip": "write one loop and index with its variable",
    "print": "there is no output at this level; delete it",
    "math": "delete `math.`: exp, sqrt, inf ... are words",
    "np": "delete `np.`: numpy does not exist here; the words are exp, sum, where ...",
    "torch": "delete `torch.`: the words are exp, sum, where ...",
    "tl": "delete `tl.`: the words are load, mma, exp ...",
    "minimum_": "write `minimum(a, b)`",
    "fmax": "write `maximum(a, b)`",
    "fmin": "write `minimum(a, b)`",
    "mod": "write `a % b`",
    "div": "write `a / b`, or `a // b` for integers",
    "not_": "write `not c` for scalars, `~c` for bool tiles",
    "logical_and": "write `a & b` for bool tiles",
    "logical_or": "write `a | b` for bool tiles",
    "logical_not": "write `~a` for bool tiles",
    "isnan": "write `x != x`",
    "sign": "write `where(x > 0, 1.0, where(x < 0, -1.0, 0.0))`",
    "atomic_max": "only `atomic_add` exists: store one value per tile, then reduce in a second kernel of a `@program`",
    "None": "`None` only marks optional arrays",
}

_METHODS = {
    "max": "write `max(x, axis=1)`", "min": "write `min(x, axis=1)`", "sum": "write `sum(x, axis=1)`",
    "mean": "write `sum(x, axis=1) / N`", "to": "write `cast(x, f32)`", "astype": "write `cast(x, f32)`",
    "shape": "dims have names: write `M`, `N` as in the signature", "dtype": "name a dtype variable: `x: In[T, M, N]`",
    "reshape": "write `reshape(x, shape)`", "view": "write `reshape(x, shape)`", "size": "write the dim's name",
    "transpose": "write `x.T`, or `permute(x, axes)`", "permute": "write `permute(x, axes)`",
    "exp": "write `exp(x)`", "sqrt": "write `sqrt(x)`", "dot": "write `mma(a, b)`", "t": "write `x.T`",
    "float": "write `cast(x, f32)`", "half": "write `cast(x, f16)`",
}  # fmt: skip

_KEYWORDS = {
    ("load", "mask"): "delete it: positions outside the view are void already; `fill=0` makes them count",
    ("load", "other"): "write `fill=0`",
    ("store", "mask"): "delete it: only elements that are live and inside the view are written",
    ("pipeline", "stages"): "write `on(sm_90a, stages=2)` at the top of the kernel",
    ("pipeline", "num_stages"): "write `on(sm_90a, stages=2)` at the top of the kernel",
    ("range", "num_stages"): "write `on(sm_90a, stages=2)` at the top of the kernel",
    ("sum", "dim"): "write `axis=`", ("max", "dim"): "write `axis=`", ("min", "dim"): "write `axis=`",
    ("sum", "keepdim"): "write `keepdims=True`", ("max", "keepdim"): "write `keepdims=True`",
    ("mma", "acc"): "write `acc += mma(a, b)`", ("mma", "out_dtype"): "mma gives f32; `cast` the result",
    ("zeros", "shape"): "write `zeros((BM, BN), f32)`",
    ("sum", "dtype"): "reductions of floats are f32; `cast` before or after",
}  # fmt: skip


def keyword_hint(word: str, keyword: str | None) -> str | None:
    return _KEYWORDS.get((word, keyword or ""))


def arity_hint(word: str, node: ast.Call) -> str | None:
    """A prepared replacement for a call with the wrong number of arguments."""
    texts = [ast.unparse(a) for a in node.args]
    if word in ("max", "min") and len(texts) == 2:
        return f"`{word}` reduces one tile; for two values write `{word}imum({texts[0]}, {texts[1]})`"
    if word in ("sum", "prod", "any", "all", "argmax", "argmin", "max", "min") and len(texts) > 1:
        return f"write `{word}({texts[0]}, axis={texts[1]})`"
    if word == "mma" and len(texts) == 3:
        return f"write `{texts[2]} += mma({texts[0]}, {texts[1]})`"
    if word == "zeros" and len(texts) == 1:
        return f"write `zeros({texts[0]}, f32)`: the dtype is required"
    if word in ("pipeline", "range") and len(texts) == 2:
        return f"write `{word}({texts[0]}, {texts[1]}, 1)`"
    return None


def unknown_name(node: ast.Name, context: Context) -> Fault:
    """An unknown name: a habit of another language, a misspelt name, or one that is not bound yet."""
    name = node.id
    message = f"`{name}` is not a word of the language and not a name of this kernel"
    if name in _REPLACEMENTS:
        return fault("unknown-word", message, node, _REPLACEMENTS[name])
    if name in dtypes.HABITS:
        return fault("unknown-word", message, node, f"the dtype is called `{dtypes.HABITS[name]}`")
    names = [n for n, b in context.names.items() if isinstance(b, Bound)]
    close = nearest(name, [*names, *WORDS, *dtypes.DTYPES, *context.constants, *context.source.functions])
    hint = f"did you mean `{close}`?" if close else "bind it first, add it as a parameter, or see the list of words"
    return fault("unknown-word", message, node, hint, nearest=close)


def unknown_attribute(node: ast.Attribute) -> Fault:
    owner = ast.unparse(node.value)
    modules = {"np", "numpy", "math", "torch", "tl", "triton", "jnp", "F"}
    if owner in modules:
        known = node.attr in WORDS
        hint = (
            f"write `{node.attr}` without `{owner}.`" if known else _REPLACEMENTS.get(node.attr, f"delete `{owner}.`")
        )
        return fault("attribute", f"`{owner}.{node.attr}`: there are no modules", node, hint)
    hint = _METHODS.get(node.attr, "the only attribute is `.T`; everything else is a word: `exp(x)`, `reshape(x, ...)`")
    return fault("attribute", f"`.{node.attr}` is not in the language", node, hint)


def nearest(name: str, known: list[str]) -> str | None:
    """The most similar known name, if it is similar enough to be meant."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def is_reserved(name: str) -> bool:
    return name in RESERVED or name in dtypes.DTYPES or name == "tf32"
