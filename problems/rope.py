"""Rotary position embedding on interleaved pairs."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def rope(x: In[T, B, H, S, 2 * P], c: In[T, S, P], s: In[T, S, P], y: Out[T, B, H, S, 2 * P],
         BS=choices(32, 16, 64), BP=choices(32, 16, 64)):
    for b, h, i, j in tiles((B, H, S, P), (1, 1, BS, BP)):
        pair = reshape(load(x[b, h], (i, 2 * j), (BS, 2 * BP), fill=0), (BS, BP, 2))
        ci, si = load(c, (i, j), (BS, BP), fill=0), load(s, (i, j), (BS, BP), fill=0)
        even, odd = pair[:, :, 0], pair[:, :, 1]
        turned = stack(even * ci - odd * si, even * si + odd * ci)
        store(y[b, h], (i, 2 * j), cast(reshape(turned, (BS, 2 * BP)), T))
"""


def reference(xp: Any, x: Any, c: Any, s: Any) -> Any:
    pairs = xp.reshape(x, (*x.shape[:-1], x.shape[-1] // 2, 2))
    even, odd = pairs[..., 0], pairs[..., 1]
    return xp.reshape(xp.stack([even * c - odd * s, even * s + odd * c], axis=-1), x.shape)


def numpy_reference(np: Any, out: Any, x: Any, c: Any, s: Any) -> None:
    even, odd = x[..., 0::2], x[..., 1::2]
    np.subtract(even * c, odd * s, out=out[..., 0::2])
    np.add(even * s, odd * c, out=out[..., 1::2])


def torch_reference(torch: Any, out: Any = None, *, x: Any, c: Any, s: Any) -> Any:
    if out is None:
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * c - odd * s, even * s + odd * c), dim=-1).flatten(-2)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.complex(c, s)
    out.unflatten(-1, (-1, 2)).copy_(torch.view_as_real(turned))
    return out


PROBLEM = Problem(
    name="rope",
    title="pairs (x[2p], x[2p+1]) turned by the angle of their position",
    inputs=(
        Tensor("x", "f32", ("B", "H", "S", "2 * P")),
        Tensor("c", "f32", ("S", "P"), "rotary_cos"),
        Tensor("s", "f32", ("S", "P"), "rotary_sin"),
    ),
    outputs=(Tensor("y", "f32", ("B", "H", "S", "2 * P")),),
    workloads=(
        Workload("2x16x2048x128", {"B": 2, "H": 16, "S": 2048, "P": 64}),
        Workload("1x8x1024x64", {"B": 1, "H": 8, "S": 1024, "P": 32}),
        Workload("ragged", {"B": 2, "H": 3, "S": 101, "P": 37}, ragged=True),
        Workload("small", {"B": 1, "H": 2, "S": 16, "P": 16}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6),
    tags=("pointwise", "memory-bound", "layout"),
    variants=("uniform", "positive", "large", "same_sign"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
