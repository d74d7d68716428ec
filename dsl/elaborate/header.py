"""The header of a kernel: `on`, `assume`, `require`."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate.claims import read_claims
from kernelagent.dsl.elaborate.context import Context, literal_value
from kernelagent.dsl.elaborate.expressions import evaluate
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.elaborate.operands import Operand, Word, as_condition, describe, source_text
from kernelagent.dsl.index import Index
from kernelagent.dsl.raster import RASTERS
from kernelagent.dsl.syntax import fault, span_of

POLICY_WORDS = ("stages", "warps", "cluster", "raster", "persistent", "roles", "via", "layout", "unroll", "promote")
ROLES = ("cooperative", "overlapped", "pingpong")
"""What consumer warpgroups do: share each tile; also overlap the products of a step with the next one's other work;
or take turns as well."""
MAX_GROUP = 64
WARPS = (1, 2, 4, 8, 16, 32)
"""Of a block: a GPU's block has at most 1024 threads."""
MAX_UNROLL = 64
MAX_PROMOTE = 64
_BARE = ("deterministic", "no_spills")

FAMILIES = {
    "cpu": "cpu", "avx512": "cpu", "avx2": "cpu", "neon": "cpu", "portable": "cpu", "cuda": "cuda", "hip": "hip",
}  # fmt: skip
_ARCHITECTURE = re.compile(r"sm_\d+[af]?|gfx\w+")

PolicyValue = int | bool | str | tuple[int, ...]


def family(target: str) -> str | None:
    """The family of a target: cpu, cuda or hip; None if the target is not known."""
    if target in FAMILIES:
        return FAMILIES[target]
    if _ARCHITECTURE.fullmatch(target):
        return "cuda" if target.startswith("sm_") else "hip"
    return None


def split_header(body: Sequence[ast.stmt]) -> tuple[list[ast.Call], list[ast.stmt]]:
    """The leading `on`, `assume`, `require`, `claim` calls (and a docstring), and the rest."""
    calls: list[ast.Call] = []
    for n, statement in enumerate(body):
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id="on" | "assume" | "require" | "claim")) as call):
                calls.append(call)
            case ast.Expr(value=ast.Constant(value=str())):
                pass
            case _:
                return calls, list(body[n:])
    return calls, []


def read_header(k: Context, calls: list[ast.Call]) -> tuple[list[ir.Assume], list[ir.Policy], list[ir.Claim]]:
    claims = [c for call in calls if _is_claim(call) for c in read_claims(k, call)]
    assumes: list[ir.Assume] = []
    policies: list[ir.Policy] = []
    for call in (c for c in calls if not _is_claim(c)):
        assert isinstance(call.func, ast.Name)
        if call.func.id == "assume":
            for argument in call.args:
                with k.recovering():
                    assumes.append(_assume(k, argument))
                    k.facts.add(assumes[-1])
            for keyword in call.keywords:
                with k.recovering():
                    raise fault("unknown-keyword", "`assume` takes no keywords", keyword, "write a condition")
        else:
            with k.recovering():
                policies.append(_policy(k, call, required=call.func.id == "require"))
    _refuse_ties(k, policies)
    return assumes, policies, claims


def _is_claim(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "claim"


# assume ------------------------------------------------------------------------------------------


def _assume(k: Context, node: ast.expr) -> ir.Assume:
    text, span = source_text(node, 200), span_of(node)
    data = _data_statement(k, node)
    if data is not None:
        return ir.Assume(None, data, text, span)
    condition = as_condition(evaluate(k, node))
    if condition is None:
        hint = "write a condition on dims (`K % 128 == 0`), or on index data (`0 <= table < P`)"
        raise fault("assume", f"`{text}` is not a condition that can be assumed", node, hint)
    return ir.Assume(condition, None, text, span)


def _data_statement(k: Context, node: ast.expr) -> tuple[str, str, tuple[Index, ...]] | None:
    """`distinct(idx)`, `partition(offsets, M)`, or bounds of an integer array's elements."""
    match node:
        case ast.Call(func=ast.Name(id="distinct"), args=[array], keywords=[]):
            return ("distinct", _integer_array(k, array), ())
        case ast.Call(func=ast.Name(id="partition"), args=[array, total], keywords=[]):
            return ("partition", _integer_array(k, array, rank=1), (_index(k, total),))
        case ast.Call(func=ast.Name(id="distinct" | "partition" as word)):
            usage = "distinct(idx)" if word == "distinct" else "partition(offsets, M)"
            raise fault("arity", f"`{source_text(node)}` does not fit {usage}", node, f"write `{usage}`")
        case ast.Compare(left=low, ops=[lower, upper], comparators=[ast.Name() as array, high]):
            if _is_array(k, array):
                return _range(k, node, low, lower, array, upper, high)
        case ast.Compare(left=left, ops=[_], comparators=[right]):
            if _is_array(k, left) or _is_array(k, right):
                array = left if _is_array(k, left) else right
                hint = f"give both bounds: `assume(0 <= {source_text(array)} < N)`"
                raise fault("assume", "index data needs both bounds", node, hint)
    return None


def _is_array(k: Context, node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in k.arrays


def _integer_array(k: Context, node: ast.expr, rank: int | None = None) -> str:
    if isinstance(node, ast.Name) and node.id not in k.arrays and node.id in k.names:
        k.lookup(node)  # silent if the parameter was reported
    if not (isinstance(node, ast.Name) and node.id in k.arrays):
        raise fault("assume", f"`{source_text(node)}` is not an array parameter", node, "name an integer `In` array")
    array = k.arrays[node.id]
    if not dtypes.is_integer(array.dtype) or array.role != "In" or (rank is not None and len(array.dims) != rank):
        what = f"{array.role}[{array.dtype}] of rank {len(array.dims)}"
        hint = "data statements are about integer `In` arrays" + (f" of rank {rank}" if rank else "")
        raise fault("assume", f"`{array.name}` is {what}", node, hint)
    k.used.add(array.name)
    return array.name


def _range(
    k: Context, node: ast.expr, low: ast.expr, lower: ast.cmpop, array: ast.expr, upper: ast.cmpop, high: ast.expr
) -> tuple[str, str, tuple[Index, ...]]:
    if not isinstance(lower, ast.Lt | ast.LtE) or not isinstance(upper, ast.Lt | ast.LtE):
        raise fault("assume", f"`{source_text(node)}` is not a range", node, "write `0 <= table < N`")
    lo = _index(k, low) + (1 if isinstance(lower, ast.Lt) else 0)
    hi = _index(k, high) + (1 if isinstance(upper, ast.LtE) else 0)
    return ("range", _integer_array(k, array), (lo, hi))


def _index(k: Context, node: ast.expr) -> Index:
    found = evaluate(k, node)
    if not isinstance(found, Index):
        raise fault("assume", f"`{source_text(node)}` is {describe(found)}", node, "use an index integer")
    return found


# on, require -------------------------------------------------------------------------------------


def _policy(k: Context, call: ast.Call, required: bool) -> ir.Policy:
    target: str | None = None
    words: list[tuple[str, PolicyValue]] = []
    for n, argument in enumerate(call.args):
        name = argument.id if isinstance(argument, ast.Name) else source_text(argument)
        if name in _BARE and required:
            words.append((name, True))
        elif n == 0 and family(name) is not None:
            target = name
        else:
            raise _unknown_target(argument, name)
    for keyword in call.keywords:
        words.append((_policy_name(k, keyword), _policy_value(k, keyword)))
    return ir.Policy(target, tuple(words), required, span_of(call))


def _unknown_target(node: ast.expr, name: str) -> Exception:
    close = nearest(name, [*FAMILIES, "sm_80", "sm_89", "sm_90a", "sm_100a"])
    hint = f"did you mean `{close}`?" if close else "targets are cpu, avx512, avx2, neon, cuda, sm_80, sm_90a ..."
    return fault("unknown-target", f"`{name}` is not a target", node, hint, nearest=close)


def _policy_name(k: Context, keyword: ast.keyword) -> str:
    name = keyword.arg or "**"
    if name in POLICY_WORDS or name in k.tunables:
        k.used.add(name)
        return name
    close = nearest(name, [*POLICY_WORDS, *k.tunables])
    hint = f"did you mean `{close}`?" if close else f"policy words are {', '.join(POLICY_WORDS)}, and tunables"
    raise fault("unknown-policy", f"`{name}` is neither a policy word nor a tunable", keyword, hint, nearest=close)


def _policy_value(k: Context, keyword: ast.keyword) -> PolicyValue:
    node = keyword.value
    value = _plain_value(k, node)
    name = keyword.arg or ""
    message = f"`{name}={source_text(node)}` is not a value of `{name}`"
    if name in k.tunables:
        if isinstance(value, str | tuple) or isinstance(value, bool) != isinstance(k.tunables[name].default, bool):
            raise fault("policy-value", message, node, "give a value like the tunable's default")
        return value
    if name == "unroll" and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_UNROLL):
        hint = f"write a literal from 1 to {MAX_UNROLL}"
        raise fault("unroll-bound", f"unroll={source_text(node)} is unbounded or too large", node, hint)
    if name == "stages" and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 16):
        raise fault("policy-value", message, node, "write a literal from 1 to 16")
    if name == "warps" and (isinstance(value, bool) or not isinstance(value, int) or value not in WARPS):
        raise fault("policy-value", message, node, f"write a power of two from 1 to {WARPS[-1]}")
    if name == "raster" and value not in RASTERS and not (type(value) is int and 1 <= value <= MAX_GROUP):
        hint = f"write {', '.join(RASTERS)}, or the rows of a group: 1 to {MAX_GROUP}"
        raise fault("policy-value", message, node, hint)
    if name == "roles" and not isinstance(value, bool) and value not in (*ROLES, 1, 2):
        raise fault("policy-value", message, node, f"write {', '.join(ROLES)}, or 1 for none")
    if name == "persistent" and not isinstance(value, bool):
        raise fault("policy-value", message, node, "write persistent=True")
    if name == "promote" and not (type(value) is int and 0 <= value <= MAX_PROMOTE):
        raise fault("policy-value", message, node, f"write the k-steps of a sum, 1 to {MAX_PROMOTE}, or 0 for all")
    if name == "cluster" and not _is_cluster(value):
        raise fault("policy-value", message, node, "write cluster=2, or cluster=(2, 1): rows and columns of tiles")
    return value


def _is_cluster(value: PolicyValue) -> bool:
    """A number of blocks, or the rows and columns of tiles that they compute."""
    counts = value if isinstance(value, tuple) else (value, 1)
    return len(counts) == 2 and all(type(n) is int and n >= 1 for n in counts)


def _plain_value(k: Context, node: ast.expr) -> PolicyValue:
    """An integer, a bool, a tuple of integers, or a plain name."""
    if isinstance(node, ast.Name) and node.id not in k.names and node.id not in k.constants:
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    found: Operand = evaluate(k, node)
    parts = [literal_value(p) for p in found] if isinstance(found, tuple) else [literal_value(found)]
    integers = [p for p in parts if isinstance(p, int)]
    if isinstance(found, Word) or len(integers) != len(parts):
        hint = "write an integer, True, False, a tuple of integers, or a name"
        raise fault("policy-value", f"`{source_text(node)}` is not a policy value", node, hint)
    return tuple(integers) if isinstance(found, tuple) else integers[0]


def _refuse_ties(k: Context, policies: list[ir.Policy]) -> None:
    """The same word twice for the same target has no most specific value."""
    seen: dict[tuple[str | None, str, bool], ir.Policy] = {}
    for policy in policies:
        for word, _ in policy.words:
            key = (policy.target, word, policy.required)
            if key in seen:
                scope = policy.target or "every target"
                with k.recovering():
                    raise fault("policy-tie", f"`{word}` is given twice for {scope}", policy.span, "keep one of them")
            seen[key] = policy
