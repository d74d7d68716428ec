"""Functions that references need and the array API standard lacks, for every namespace references run in."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

ERF_STEP = 64  # grid points per unit; the Taylor polynomial of degree 6 then errs by less than 1e-16
ERF_END = 6.0  # erf(6) rounds to 1 in float64


def erf(xp: Any, x: Any) -> Any:
    """The error function, elementwise; absolute error below 4e-16 in numpy's float64."""
    return _own(xp, "erf")(x) if _own(xp, "erf") else _by_module(xp, "erf", x)


def rsqrt(xp: Any, x: Any) -> Any:
    """1 / sqrt(x), elementwise."""
    own = _own(xp, "rsqrt")
    return own(x) if own else 1.0 / xp.sqrt(x)


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)), elementwise; no overflow for large |x| because exp is taken of a clipped argument."""
    own = _own(xp, "sigmoid")
    return own(x) if own else 1.0 / (1.0 + xp.exp(xp.clip(-x, -700.0, 700.0)))


def gelu(xp: Any, x: Any) -> Any:
    """x * Phi(x), the exact (erf) form."""
    if _own(xp, "erf") or _root(xp) != "numpy":
        return 0.5 * x * (1.0 + erf(xp, x * math.sqrt(0.5)))
    return _numpy_pieces(lambda piece: 0.5 * piece * (1.0 + _erf_piece(piece * math.sqrt(0.5))), x)


def silu(xp: Any, x: Any) -> Any:
    """x * sigmoid(x)."""
    return x * sigmoid(xp, x)


def take_along_last(xp: Any, x: Any, indices: Any) -> Any:
    """x[..., indices] along the last axis: shapes (..., n) and (..., m) give (..., m)."""
    if _root(xp) == "torch":
        return xp.take_along_dim(x, indices.to(xp.int64), dim=-1)
    return xp.take_along_axis(x, indices, axis=-1)


def arange(xp: Any, n: int, like: Any) -> Any:
    """0 .. n-1 on the device of `like`."""
    device = getattr(like, "device", None)
    return xp.arange(n) if device is None or _root(xp) == "numpy" else xp.arange(n, device=device)


def _own(xp: Any, name: str) -> Any:
    return getattr(xp, name, None)


def _root(xp: Any) -> str:
    """numpy, cupy, torch, ... also when wrapped by array-api-compat."""
    parts = str(getattr(xp, "__name__", "")).split(".")
    return parts[1] if parts[0] == "array_api_compat" and len(parts) > 1 else parts[0]


def _by_module(xp: Any, name: str, x: Any) -> Any:
    if _root(xp) == "cupy":
        return getattr(import_module("cupyx.scipy.special"), name)(x)
    return _numpy_pieces(_erf_piece, x)


def _numpy_pieces(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` in float64 on pieces that stay in the cache, rounded back to the dtype of x."""
    import numpy as np

    values = np.asarray(x)
    flat = values.reshape(-1)
    result = np.empty(flat.shape, values.dtype if values.dtype.kind not in "iub" else np.float64)
    for start in range(0, flat.size, 8192):
        piece = slice(start, start + 8192)
        result[piece] = function(flat[piece].astype(np.float64, copy=False))
    return result.reshape(values.shape)


def _erf_piece(x: Any) -> Any:
    """Taylor polynomial around the nearest grid point."""
    import numpy as np

    table = _erf_table()
    clipped = np.clip(x, -ERF_END, ERF_END)  # a NaN stays NaN
    nearest = np.rint(clipped * ERF_STEP)
    h = clipped - nearest / ERF_STEP
    k = (np.where(nearest == nearest, nearest, 0.0) + ERF_END * ERF_STEP).astype(np.intp)
    value = table[-1][k]
    for coefficients in table[-2::-1]:
        value *= h
        value += coefficients[k]
    return value


@functools.cache
def _erf_table() -> Any:
    """Rows: Taylor coefficients 0..6 of erf at each grid point -ERF_END .. ERF_END.

    The derivatives of erf are Hermite polynomials times the Gaussian (Abramowitz and Stegun 7.1.19).
    """
    import numpy as np

    n = round(ERF_END * ERF_STEP)
    x = np.arange(-n, n + 1) / ERF_STEP
    gauss = 2.0 / math.sqrt(math.pi) * np.exp(-x * x)
    hermite = [np.ones_like(x), 2.0 * x]
    for degree in range(1, 5):
        hermite.append(2.0 * x * hermite[degree] - 2.0 * degree * hermite[degree - 1])
    rows = [np.array([math.erf(v) for v in x])]
    rows += [(-1.0) ** d * hermite[d] * gauss / math.factorial(d + 1) for d in range(6)]
    return np.stack(rows)
