"""What each case is timed beside: the vendor's library on the same tensors, or a device copy of as many bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from cases import Case

Tensors = Mapping[str, Any]
Call = Callable[[], object]


def rival(case: Case, x: Tensors, outputs: Tensors) -> tuple[str, Call]:
    """Name and call of the rival. It allocates its output where the library has no other way."""
    match case.large.rival:
        case "copy":
            tensors = (*x.values(), *outputs.values())
            return "device copy of as many bytes", copy_of(sum(t.nbytes for t in tensors), tensors[0].device)
        case "sdpa":
            return "torch scaled_dot_product_attention", _attention(case, x)
        case "cudnn":
            return "cuDNN through torch", _convolution(x)
        case _:
            return _product(case, x)


def copy_of(moved: int, where: Any) -> Call:
    """Half of the bytes are read and half written."""
    import torch

    source = torch.zeros(moved // 2, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _attention(case: Case, x: Tensors) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    causal, scale = bool(case.scalars["causal"]), float(case.scalars["scale"])
    q, k, v = x["q"], x["k"], x["v"]
    return lambda: scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=True)


def _convolution(x: Tensors) -> Call:
    """Channels are last in memory, as cuDNN prefers."""
    from torch.nn.functional import conv2d

    image, weights = x["x"].permute(0, 3, 1, 2), x["w"].permute(0, 3, 1, 2)
    return lambda: conv2d(image, weights, stride=2, padding=1)


def _product(case: Case, x: Tensors) -> tuple[str, Call]:
    special = {
        "gemm_epilogue": _epilogue, "gemm_int8": _int8, "gemm_int8_scaled": _int8_scaled, "gemm_fp8": _fp8,
        "gemm_fp8_blocks": _fp8, "gemm_moe": _gathered, "gemm_grouped": _grouped, "gemm_int4": _int4,
        "gemm_swiglu": _swiglu,
    }  # fmt: skip
    if case.kernel in special:
        return special[case.kernel](case, x)
    return "cuBLAS through torch", _plain(case, x)


def _plain(case: Case, x: Tensors) -> Call:
    """Transposed operands are views: cuBLAS reads them as they lie."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    a = x["a"].mT if case.ins["a"].endswith("K M") else x["a"]
    b = x["b"].mT if case.ins["b"].endswith("N K") else x["b"]
    return lambda: torch.matmul(a, b)


def _epilogue(case: Case, x: Tensors) -> tuple[str, Call]:
    from torch.nn.functional import gelu, linear

    return "cuBLAS, gelu and addition through torch", lambda: gelu(linear(x["x"], x["w"], x["bias"])) + x["res"]


def _swiglu(case: Case, x: Tensors) -> tuple[str, Call]:
    from torch.nn.functional import linear, silu

    return (
        "cuBLAS twice, silu and product through torch",
        lambda: silu(linear(x["x"], x["wg"])) * linear(x["x"], x["wu"]),
    )


def _int8(case: Case, x: Tensors) -> tuple[str, Call]:
    import torch

    b = x["w"].t()
    return "cuBLAS int8 through torch", lambda: torch._int_mm(x["a"], b)


def _int8_scaled(case: Case, x: Tensors) -> tuple[str, Call]:
    import torch

    b, rows = x["w"].t(), x["sa"][:, None]

    def call() -> object:
        return (torch._int_mm(x["a"], b) * rows * x["sw"]).to(torch.float16)

    return "cuBLAS int8 and scaling through torch", call


def _fp8(case: Case, x: Tensors) -> tuple[str, Call]:
    """With one scale for the whole product, also beside kernels that scale blocks."""
    import torch

    b, one = x["w"].t(), torch.ones((), device=x["w"].device)
    scale = one * float(case.scalars.get("scale", 1.0))

    def call() -> object:
        return torch._scaled_mm(x["a"], b, scale_a=scale, scale_b=one, out_dtype=torch.bfloat16)

    return "cuBLAS fp8 through torch", call


def _gathered(case: Case, x: Tensors) -> tuple[str, Call]:
    """A gather and a product for each expert."""
    pairs = _pairs(x)
    return "gather and cuBLAS for each group through torch", lambda: _each(x["x"][x["rows"]], x["w"], pairs)


def _grouped(case: Case, x: Tensors) -> tuple[str, Call]:
    """A product for each expert."""
    pairs = _pairs(x)
    return "cuBLAS for each group through torch", lambda: _each(x["x"], x["w"], pairs)


def _pairs(x: Tensors) -> list[tuple[int, int]]:
    """First and last row of each group."""
    return list(pairwise(x["offsets"].tolist()))


def _each(rows: Any, weights: Any, pairs: list[tuple[int, int]]) -> list[Any]:
    import torch

    return [torch.matmul(rows[lo:hi], weights[e].t()) for e, (lo, hi) in enumerate(pairs)]


def _int4(case: Case, x: Tensors) -> tuple[str, Call]:
    """On weights widened beforehand: four times the bytes, none of the work."""
    import torch

    rows, pairs = x["wq"].shape
    weights = torch.randn((rows, 2 * pairs), dtype=x["a"].dtype, device=x["a"].device).t()
    return "cuBLAS on widened weights through torch", lambda: torch.matmul(x["a"], weights)
