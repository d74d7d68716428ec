"""Operators: exact on index integers, folded on literals, promoted and broadcast on values."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate.context import Context, literal_value
from kernelagent.dsl.elaborate.live import Shape
from kernelagent.dsl.elaborate.operands import (
    Number,
    Operand,
    as_condition,
    describe,
    is_condition,
    shape_text,
    source_text,
    type_text,
)
from kernelagent.dsl.index import (
    FALSE,
    TRUE,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Index,
    Negation,
    Relation,
    decide,
    index,
)
from kernelagent.dsl.index import maximum as index_maximum
from kernelagent.dsl.index import minimum as index_minimum
from kernelagent.dsl.syntax import Fault, fault

OPERATORS: dict[type[ast.operator], ir.BinaryWord] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "shr",
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], tuple[ir.BinaryWord, Relation]] = {
    ast.Lt: ("lt", "<"), ast.LtE: ("le", "<="), ast.Gt: ("gt", ">"), ast.GtE: ("ge", ">="), ast.Eq: ("eq", "=="),
    ast.NotEq: ("ne", "!="),
}  # fmt: skip
_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "and": "&", "or": "|", "xor": "^",
    "shl": "<<", "shr": ">>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "maximum": max, "minimum": min,
    "shl": lambda a, b: a << min(b, 64), "shr": operator.rshift, "and": operator.and_, "or": operator.or_,
    "xor": operator.xor,
}  # fmt: skip
_INDEX: dict[str, Callable[[Index, Index], Index]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv, "mod": operator.mod,
    "maximum": index_maximum, "minimum": index_minimum,
}  # fmt: skip
_BITWISE = ("and", "or", "xor", "shl", "shr")
_MAX_TERMS = 64


def binary(k: Context, word: ir.BinaryWord, a: Operand, b: Operand, node: ast.expr) -> Operand:
    """`a word b` for an arithmetic or bitwise operator, `maximum` or `minimum`."""
    if isinstance(a, Index) and isinstance(b, Index):
        return _index_binary(k, word, a, b, node)
    if is_condition(a) and is_condition(b) and word in ("and", "or"):
        return conjunction([a, b]) if word == "and" else disjunction([a, b])  # type: ignore[list-item]
    if isinstance(a, Number | Index) and isinstance(b, Number | Index):
        folded = _fold(word, a, b, node)
        if folded is not None:
            return folded
    return value_binary(k, word, a, b, node)


def _index_binary(k: Context, word: str, a: Index, b: Index, node: ast.expr) -> Operand:
    if word == "div":
        hint = f"write `{source_text(node).replace('/', '//')}` for integers, or `cast(..., f32)` first"
        raise fault("integer-division", f"`/` needs floats, but {a} and {b} are index integers", node, hint)
    if word in ("floordiv", "mod") and b.constant == 0:
        raise fault("division-by-zero", f"`{source_text(node)}` divides by zero", node, "divide by a nonzero integer")
    if word in _BITWISE:
        return _index_bitwise(word, a, b, node)
    result = k.facts.minimum(a, b) if word == "minimum" else k.facts.maximum(a, b) if word == "maximum" else None
    if result is None:
        result = _INDEX[word](a, b)
    if len(result.terms) > _MAX_TERMS:
        hint = "name the parts, or simplify the arithmetic"
        raise fault("too-large", f"this index expression has {len(result.terms)} terms", node, hint)
    return _checked_constant(result, node)


def _index_bitwise(word: str, a: Index, b: Index, node: ast.expr) -> Index:
    x, y = a.constant, b.constant
    if x is None or y is None or (word in ("shl", "shr") and y < 0):
        message = f"`{_SIGNS[word]}` is for tiles and literals, not for the index integers {a} and {b}"
        raise fault("index-operator", message, node, "use `*`, `//` and `%` on index integers")
    return _checked_constant(index(_PYTHON[word](x, y)), node)


def _checked_constant(value: Index, node: ast.expr) -> Index:
    if value.constant is not None and abs(value.constant) > 2**62:
        raise fault("literal", "the integer is too large", node, "integers go up to 2 ** 53")
    return value


def _fold(word: str, a: Number | Index, b: Number | Index, node: ast.expr) -> Operand | None:
    """Arithmetic on literals of which one is a float."""
    x, y = literal_value(a), literal_value(b)
    if x is None or y is None or word in _BITWISE:
        return None
    try:
        return Number(float(_PYTHON[word](x, y)))
    except ZeroDivisionError:
        raise fault(
            "division-by-zero", f"`{source_text(node)}` divides by zero", node, "write `inf` or `nan`"
        ) from None
    except OverflowError:
        raise fault("literal", "the number overflows", node, "write `inf`") from None


# Conditions --------------------------------------------------------------------------------------


def conjunction(parts: list[Condition]) -> Condition:
    known = [decide(p) for p in parts]
    if False in known:
        return FALSE
    left = [p for p, value in zip(parts, known, strict=True) if value is None]
    return left[0] if len(left) == 1 else AllOf(tuple(left))


def disjunction(parts: list[Condition]) -> Condition:
    known = [decide(p) for p in parts]
    if True in known:
        return TRUE
    left = [p for p, value in zip(parts, known, strict=True) if value is None]
    return left[0] if len(left) == 1 else AnyOf(tuple(left))


def negation(part: Condition) -> Condition:
    known = decide(part)
    return Negation(part) if known is None else (FALSE if known else TRUE)


def compare(k: Context, op: ast.cmpop, a: Operand, b: Operand, node: ast.expr) -> Operand:
    word, relation = COMPARISONS[type(op)]
    if isinstance(a, Index) and isinstance(b, Index):
        return Compare(relation, a, b)
    x, y = literal_value(a), literal_value(b)
    if x is not None and y is not None:
        return TRUE if getattr(operator, word)(x, y) else FALSE
    return value_binary(k, word, a, b, node)


# Values ------------------------------------------------------------------------------------------


def as_value(k: Context, operand: Operand, dtype: str, node: ast.expr) -> ir.Value:
    """A value of this dtype from a literal, an index integer, a condition, or a value that has it already."""
    if isinstance(operand, ir.Value):
        return cast(k, operand, dtype, node)
    literal = literal_value(operand)
    if literal is not None and (isinstance(operand, Index | Number) or is_condition(operand)):
        return k.emit(ir.Full(_converted(literal, dtype, node)), dtype, (), node)
    if isinstance(operand, Index) and dtype != "bool":
        _warn_tunable_value(k, operand, node)
        return k.emit(ir.FromIndex(operand), dtype, (), node)
    condition = as_condition(operand)
    if condition is not None and dtype == "bool":
        return k.emit(ir.FromCondition(condition), "bool", (), node)
    raise _not_a_value(operand, node, dtype)


def _warn_tunable_value(k: Context, value: Index, node: ast.expr) -> None:
    tunables = sorted(s.name for s in value.symbols() if s.kind == "tunable")
    if tunables and not any(k.is_loop_symbol(s) for s in value.symbols()):
        message = f"the tunable `{tunables[0]}` becomes a number of the result; a tuner may change it"
        hint = f"if it changes the result, write `{tunables[0]}: const = ...`; else make sure that it cancels"
        k.warn("tunable-changes-meaning", message, node, hint)


def _converted(literal: float | int | bool, dtype: str, node: ast.expr) -> float | int | bool:
    if isinstance(literal, float) and not dtypes.may_be_float(dtype):
        hint = f"write an integer literal, or `cast` the tile to f32 before meeting {literal!r}"
        raise fault("dtype", f"the float literal {literal!r} cannot become {dtype}", node, hint, dtype=dtype)
    if isinstance(literal, bool) != (dtype == "bool"):
        hint = "compare or `cast` first: bool and numbers do not mix"
        raise fault("dtype", f"{literal!r} cannot become {dtype}", node, hint, dtype=dtype)
    if not dtypes.represents(literal, dtype):
        hint = f"choose a value that {dtype} holds, or a wider dtype"
        raise fault("literal-range", f"{literal!r} does not fit in {dtype}", node, hint, dtype=dtype, value=literal)
    return float(literal) if dtypes.is_float(dtype) else literal


def _not_a_value(operand: Operand, node: ast.expr, wanted: str = "") -> Fault:
    if isinstance(operand, ir.View):
        hint = "write `load(x, position, shape)` first; arrays are memory, tiles are values"
        return fault("array-as-value", f"`{source_text(node)}` is {describe(operand)}, not a tile", node, hint)
    what = f"; {wanted} is needed" if wanted else ""
    return fault("not-a-value", f"`{source_text(node)}` is {describe(operand)}{what}", node, "use a tile or a number")


def need_value(operand: Operand, node: ast.expr, word: str) -> ir.Value:
    """The operand as a tile, or a fault that says what it is instead."""
    if isinstance(operand, ir.Value):
        return operand
    if isinstance(operand, Index | Number) or is_condition(operand):
        hint = f"`{word}` takes a tile; give a number a dtype with `cast(x, f32)`"
        raise fault("not-a-value", f"`{source_text(node)}` is {describe(operand)}, not a tile", node, hint)
    raise _not_a_value(operand, node)


def cast(k: Context, value: ir.Value, dtype: str, node: ast.AST) -> ir.Value:
    if value.type.dtype == dtype:
        return value
    return k.emit(ir.Cast(value), dtype, value.type.shape, node)


def widened(k: Context, value: ir.Value, node: ast.expr) -> ir.Value:
    """The value in the dtype that arithmetic on it is done in."""
    k.need_float(value.type.dtype)
    return cast(k, value, dtypes.arithmetic(value.type.dtype), node)


def broadcast(k: Context, value: ir.Value, shape: Shape, node: ast.AST) -> ir.Value:
    if value.type.shape == shape:
        return value
    return k.emit(ir.Broadcast(value), value.type.dtype, shape, node)


def value_binary(k: Context, word: ir.BinaryWord, a: Operand, b: Operand, node: ast.expr) -> ir.Value:
    """Elementwise `a word b` where at least one side is computed at run time."""
    left, right = promote(k, a, b, node, word)
    shape = common_shape([left, right], node, word)
    result = "bool" if word in ("lt", "le", "gt", "ge", "eq", "ne") else left.type.dtype
    left, right = broadcast(k, left, shape, node), broadcast(k, right, shape, node)
    return k.emit(ir.Binary(word, left, right), result, shape, node)


def promote(k: Context, a: Operand, b: Operand, node: ast.expr, word: str) -> tuple[ir.Value, ir.Value]:
    """Both operands in one dtype: floats widen to f32, literals follow the other side, mixtures are refused."""
    dtype = _common_dtype(k, a, b, node, word)
    left_node, right_node = _operand_nodes(node)
    return as_value(k, a, dtype, left_node), as_value(k, b, dtype, right_node)


def _operand_nodes(node: ast.expr) -> tuple[ast.expr, ast.expr]:
    match node:
        case ast.BinOp(left=left, right=right) | ast.Compare(left=left, comparators=[right]):
            return left, right
        case ast.Call(args=[*_, left, right]) if len(node.args) in (2, 3):
            return left, right
    return node, node


def _common_dtype(k: Context, a: Operand, b: Operand, node: ast.expr, word: str) -> str:
    left_node, right_node = _operand_nodes(node)
    for operand, at in ((a, left_node), (b, right_node)):
        if isinstance(operand, ir.View | tuple):
            raise _not_a_value(operand, at)
    found = [x.type.dtype for x in (a, b) if isinstance(x, ir.Value)]
    moves = word == "where"
    if not found:
        return _weak_dtype(a, b, node)
    if moves and len(set(found)) == 1:
        return found[0]
    for dtype in found:
        k.need_float(dtype)
    dtype = _joined([dtypes.arithmetic(d) for d in found], found, node, word)
    if not moves:
        _check_operator(word, dtype, node)
    return dtype


def _weak_dtype(a: Operand, b: Operand, node: ast.expr) -> str:
    if any(isinstance(x, Number) for x in (a, b)):
        return "f32"
    if all(is_condition(x) for x in (a, b)):
        return "bool"
    hint = "give one of them a dtype: `cast(0, i32)`"
    raise fault("literal-dtype", f"`{source_text(node)}` joins numbers without a dtype", node, hint)


def _joined(widened_dtypes: list[str], found: list[str], node: ast.expr, word: str) -> str:
    if len(set(widened_dtypes)) == 1:
        return widened_dtypes[0]
    text = " and ".join(dict.fromkeys(found))
    sign = _SIGNS.get(word, word)
    hint = f"`cast` one side: `cast(x, {found[0] if dtypes.is_float(found[0]) else found[-1]})`"
    raise fault("dtype", f"`{sign}` of {text}: these dtypes do not mix", node, hint, dtypes=found)


def _check_operator(word: str, dtype: str, node: ast.expr) -> None:
    sign, info = _SIGNS.get(word, word), dtypes.DTYPES[dtype]
    comparison = word in ("lt", "le", "gt", "ge", "eq", "ne")
    if info.kind == "bool" and word not in ("and", "or", "xor", "eq", "ne"):
        hint = "`cast(c, i32)` first; on bools use `&`, `|`, `~`"
        raise fault("bool-arithmetic", f"`{sign}` is not defined on bool", node, hint)
    if dtype == "u4" and not comparison:
        raise fault("dtype", f"`{sign}` is not done on u4", node, "`cast` it to f32 or i32 first", dtype=dtype)
    if info.kind == "float" and word in _BITWISE:
        raise fault("dtype", f"`{sign}` needs integers or bools, not {dtype}", node, "compare first, or `cast` to i32")
    if info.kind == "float" and word in ("floordiv", "mod"):
        raise fault("dtype", f"`{sign}` needs integers, not {dtype}", node, "write `floor(a / b)`")
    if info.kind in ("int", "uint") and word == "div":
        hint = "write `//`, or `cast` to f32 first"
        raise fault("integer-division", f"`/` needs floats, not {dtype}", node, hint)


def common_shape(values: list[ir.Value], node: ast.expr, word: str) -> Shape:
    """The shape that the operands stretch to. Faults: rank-mismatch, shape-mismatch."""
    shape: Shape = ()
    for value in values:
        if not value.type.shape:
            continue
        if not shape:
            shape = value.type.shape
        elif len(shape) != value.type.rank:
            raise _rank_mismatch(shape, value, node, word)
        else:
            shape = tuple(
                _common_extent(x, y, shape, value, node, word) for x, y in zip(shape, value.type.shape, strict=True)
            )
    return shape


def _common_extent(x: Index, y: Index, shape: Shape, value: ir.Value, node: ast.expr, word: str) -> Index:
    if x == y or y.constant == 1:
        return x
    if x.constant == 1:
        return y
    text = f"{shape_text(shape)} {_SIGNS.get(word, word)} {shape_text(value.type.shape)}"
    hint = f"make the extents the same expression ({x} or {y}), or 1 where one side is to be stretched"
    raise fault("shape-mismatch", f"{text}: extents {x} and {y} differ", node, hint, shapes=text)


def _rank_mismatch(shape: Shape, value: ir.Value, node: ast.expr, word: str) -> Fault:
    other = value.type.shape
    text = f"{shape_text(shape)} {_SIGNS.get(word, word)} {shape_text(other)}"
    low, high = sorted((shape, other), key=len)
    left, right = _operand_nodes(node)
    name = source_text(left if len(shape) < len(other) else right)
    if len(low) == 1 and len(high) == 2:
        rows = f"`{name}[:, None]` for one value a row"
        columns = f"`{name}[None, :]` for one value a column"
        match (low[0] == high[0], low[0] == high[1]):
            case (True, False):
                hint = f"write {rows}"
            case (False, True):
                hint = f"write {columns}"
            case _:
                hint = f"write {rows}, or {columns}"
    else:
        hint = "insert unit axes with `None`: `x[:, None, :]`"
    return fault("rank-mismatch", f"{text}: ranks {len(shape)} and {len(other)} differ", node, hint, shapes=text)


# Unary -------------------------------------------------------------------------------------------

_FOLDABLE: dict[str, Callable[[float], float]] = {
    "exp": math.exp, "exp2": lambda x: 2.0**x, "log": math.log, "log2": math.log2, "sqrt": math.sqrt,
    "tanh": math.tanh, "sin": math.sin, "cos": math.cos, "rsqrt": lambda x: 1 / math.sqrt(x), "abs": abs,
    "erf": math.erf, "floor": math.floor, "ceil": math.ceil, "round": round,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}  # fmt: skip


def unary(k: Context, word: ir.UnaryWord, x: Operand, node: ast.expr, at: ast.expr) -> Operand:
    """`neg`, `abs` and the math words; literals fold."""
    if isinstance(x, Index):
        if word == "neg":
            return -x
        if word == "abs":
            return k.facts.maximum(x, -x)
    if isinstance(x, Number):
        return _fold_unary(word, x.value, node)
    if isinstance(x, Index) or is_condition(x):
        hint = f"write `{word}(cast({source_text(at)}, f32))`"
        raise fault("dtype", f"`{word}` needs floats; `{source_text(at)}` is {describe(x)}", at, hint)
    value = need_value(x, at, word)
    kind = dtypes.DTYPES[value.type.dtype].kind if dtypes.is_concrete(value.type.dtype) else "float"
    if kind == "bool" or (kind in ("int", "uint") and word not in ("neg", "abs")):
        hint = f"write `{word}(cast({source_text(at)}, f32))`" if word != "neg" else "bools have no sign; write `~c`"
        raise fault("dtype", f"`{word}` needs floats; `{source_text(at)}` is {type_text(value.type)}", at, hint)
    value = widened(k, value, at)
    return k.emit(ir.Unary(word, value), value.type.dtype, value.type.shape, node)


def _fold_unary(word: str, x: float, node: ast.expr) -> Number:
    if word == "neg":
        return Number(-x)
    try:
        return Number(float(_FOLDABLE[word](x)))
    except (ValueError, OverflowError, ZeroDivisionError):
        raise fault("literal", f"`{source_text(node)}` has no finite value", node, "write `inf` or `nan`") from None


def invert(k: Context, x: Operand, node: ast.expr, *, scalar: bool) -> Operand:
    """`not c` on scalars, `~c` on bool tiles."""
    condition = as_condition(x)
    if condition is not None:
        return negation(condition)
    value = need_value(x, node, "not")
    if value.type.dtype != "bool":
        hint = "compare first: `~(x > 0)`"
        raise fault("dtype", f"`{source_text(node)}` needs a bool, not {type_text(value.type)}", node, hint)
    if scalar and value.type.shape:
        raise fault("tile-as-condition", f"`not` takes a scalar, not {type_text(value.type)}", node, "write `~c`")
    return k.emit(ir.Unary("not", value), "bool", value.type.shape, node)


def power(k: Context, x: Operand, exponent: Operand, node: ast.expr) -> Operand:
    """`x ** n` for a literal n from 2 to 4: a product (also 0 and 1 for index integers)."""
    n = exponent.constant if isinstance(exponent, Index) else None
    if n is None or not (2 <= n <= 4):
        hint = "write a product for 2 to 4, `sqrt(x)` for 0.5, else `exp(log(x) * y)`"
        raise fault("power", f"`{source_text(node)}`: the exponent must be a literal from 2 to 4", node, hint)
    result = x
    for _ in range(n - 1):
        result = binary(k, "mul", result, x, node)
    return result
