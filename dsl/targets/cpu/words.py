"""What each word of the tile IR becomes in C, on scalars and on vectors. Data, plus the few words that need care."""

from __future__ import annotations

from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets.cpu.ctypes_of import COMPUTED, FLOATS, LANE_FLOATS, LANE_INTEGERS, STORED


class NotVectorisable(Exception):
    """The expression has no vector form; the nest is emitted on scalars."""


COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
MATH = frozenset({"exp", "exp2", "log", "log2", "tanh", "erf", "sin", "cos", "sigmoid", "rsqrt"})
ROUNDING = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "nearbyint", "abs": "fabs"}


def scalar_word(word: str, arguments: list[str], dtype: str, source: str) -> str:
    """C expression of computed type `dtype`; `source` is the dtype of the (first) operand."""
    if len(arguments) == 1:
        return _scalar_unary(word, arguments[0], dtype)
    a, b = arguments
    if word in COMPARISONS:
        return f"({a} {COMPARISONS[word]} {b})"
    if word in ("maximum", "minimum"):
        return _scalar_extremum(word, a, b, dtype)
    if word in ("floordiv", "mod", "pow", "shl", "shr"):
        return f"ka_{word}_{'f64' if dtype == 'f64' else 'f32' if dtype in FLOATS else dtype}({a}, {b})"
    if dtype == "bool" or dtype in FLOATS:
        return f"({a} {OPERATORS[word]} {b})"
    return f"(({STORED[dtype]})({a} {OPERATORS[word]} {b}))"


def _scalar_unary(word: str, a: str, dtype: str) -> str:
    suffix = "" if dtype == "f64" else "f"
    prefix = "f64" if dtype == "f64" else "f32"
    if word == "not":
        return f"(!{a})" if dtype == "bool" else f"(({STORED[dtype]})~{a})"
    if word in MATH and dtype in FLOATS:
        return f"{prefix}_{word}({a})"
    if word in ROUNDING and dtype in FLOATS:
        return f"__builtin_{ROUNDING[word]}{suffix}({a})"
    if word == "abs":
        return a if dtype.startswith("u") else f"(({STORED[dtype]})({a} < 0 ? -{a} : {a}))"
    if word == "neg":
        return f"(-{a})" if dtype in FLOATS else f"(({STORED[dtype]})-{a})"
    raise Unsupported(f"{word} on {dtype}")


def _scalar_extremum(word: str, a: str, b: str, dtype: str) -> str:
    if dtype in FLOATS:
        return f"{'f64' if dtype == 'f64' else 'f32'}_{word[:3]}({a}, {b})"
    return f"({a} {'>' if word == 'maximum' else '<'} {b} ? {a} : {b})"


def scalar_cast(text: str, source: str, target: str) -> str:
    """A value of dtype `source` as one of dtype `target`, rounded, saturated or wrapped as the language says."""
    if target == source:
        return text
    if target == "bool":
        return f"({text} != 0)"
    if target in ("bf16", "f16"):
        return f"f32_from_{target}({target}_from_f32((float){text}))"
    if target in FLOATS or source not in FLOATS:
        return f"(({COMPUTED[target]}){text})"
    return f"ka_saturate_{target}({text})"


def vector_kind(dtype: str) -> str:
    """vf, vi or vm. Raises NotVectorisable."""
    if dtype in LANE_FLOATS:
        return "vf"
    if dtype in LANE_INTEGERS:
        return "vi"
    if dtype == "bool":
        return "vm"
    raise NotVectorisable(dtype)


def vector_word(word: str, arguments: list[str], dtype: str, source: str) -> str:
    """C expression of a vector; operands are vectors of dtype `source`. Raises NotVectorisable."""
    kind = vector_kind(source)
    if kind == "vm":
        return _mask_word(word, arguments)
    if source not in ("f32", "i32"):
        raise NotVectorisable(f"{word} on {source}")
    if len(arguments) == 1:
        return _vector_unary(word, arguments[0], kind)
    a, b = arguments
    if word in COMPARISONS:
        return f"{kind}_{word}({a}, {b})"
    if word in ("maximum", "minimum"):
        return f"{kind}_{word[:3]}({a}, {b})"
    integer_only = word in ("and", "or", "xor")
    if word not in OPERATORS or (word == "div" and kind == "vi") or (integer_only and kind == "vf"):
        raise NotVectorisable(f"{word} on {source}")
    return f"({a} {OPERATORS[word]} {b})"


def _vector_unary(word: str, a: str, kind: str) -> str:
    if word == "neg":
        return f"(-{a})"
    if kind == "vf" and (word in MATH or word in ROUNDING):
        return f"vf_{word}({a})"
    if kind == "vi" and word == "not":
        return f"(~{a})"
    if kind == "vi" and word == "abs":
        return f"vi_max({a}, -{a})"
    raise NotVectorisable(f"{word} on {kind}")


def _mask_word(word: str, arguments: list[str]) -> str:
    if word == "not":
        return f"vm_not({arguments[0]})"
    if word in ("and", "or", "xor"):
        return f"vm_{word}({', '.join(arguments)})"
    if word == "ne":
        return f"vm_xor({', '.join(arguments)})"
    if word == "eq":
        return f"vm_not(vm_xor({', '.join(arguments)}))"
    raise NotVectorisable(f"{word} on bool")


def vector_cast(text: str, source: str, target: str) -> str:
    """Raises NotVectorisable."""
    kinds = vector_kind(source), vector_kind(target)
    if kinds == ("vf", "vf"):
        widening = target == "f32" or target == source
        return text if widening else f"vf_round_{target}({text})"
    if kinds == ("vi", "vi") and target == "i32":
        return text
    if kinds == ("vi", "vf"):
        return vector_cast(f"vf_from_vi({text})", "f32", target)
    if kinds == ("vm", "vf"):
        return vector_cast(f"vf_from_vi(vi_from_mask({text}))", "f32", target)
    if kinds == ("vm", "vi"):
        return f"vi_from_mask({text})"
    if kinds == ("vi", "vm"):
        return f"vm_from_vi({text})"
    if kinds == ("vf", "vi") and target == "i32":
        return f"vi_from_vf({text})"
    if kinds == ("vf", "vm"):
        return f"vf_ne({text}, vf_zero())"
    raise NotVectorisable(f"cast {source} to {target}")


COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "or", "all": "and"}
