"""The file that `problems new NAME` writes: a complete small problem with comments, ready to be changed."""

from __future__ import annotations

from pathlib import Path

_TEXT = '''"""{name}: say in one line what is computed."""

from kernelagent import Problem, Tensor, Tolerance, Workload

# A plain, correct kernel in the tile language: the search starts from it. Parameters are bound by name:
# inputs first, outputs last, then scalars and tunables. `kernelagent check` explains what it refuses.
SEED = """\\
edition(1)

@kernel
def {name}(x: In[T, R, C], w: In[T, C], y: Out[T, R, C], BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i, j in tiles((R, C), (BR, BC)):
        v = load(x, (i, j), (BR, BC)) * load(w, (j,), (BC,))[None, :]
        store(y, (i, j), cast(maximum(v, 0.0), T))
"""


# What is right. `xp` is an array-API namespace: numpy for the check, a tracer for the speed of light. Use only
# functions of the array API; kernelagent.problems.extra has erf, rsqrt, sigmoid, gelu and silu.
def reference(xp, x, w):
    return xp.maximum(x * w[None, :], 0.0)


# Optional: what to be faster than. Write to the preallocated `out`.
def numpy_reference(np, out, x, w):
    np.multiply(x, w, out=out)
    np.maximum(out, 0.0, out=out)


def torch_reference(torch, out=None, *, x, w):
    result = torch.relu(torch.mul(x, w, out=out))
    return result if out is None else out.copy_(result)


PROBLEM = Problem(
    name="{name}",
    title="y = max(x * w, 0)",
    # Tensor(name, dtype, dims, distribution): dims are names, integers, or expressions such as "2 * P"
    inputs=(Tensor("x", "f32", ("R", "C")), Tensor("w", "f32", ("C",), "uniform")),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    # The first workload is the one that is optimised; one must be ragged: sizes that no tile divides
    workloads=(
        Workload("4096x4096", {{"R": 4096, "C": 4096}}),
        Workload("ragged", {{"R": 131, "C": 1021}}, ragged=True),
        Workload("small", {{"R": 8, "C": 64}}),
    ),
    reference=reference,
    seed_kernel=SEED,
    # reduction=("C",) if elements are sums over C: rounding errors grow with its length
    tolerance=Tolerance(relative=1e-5, absolute=1e-6),
    tags=("pointwise", "memory-bound"),
    numpy_reference=numpy_reference,
    torch_reference=torch_reference,
)
'''


def write_template(path: str | Path, name: str) -> Path:
    """Write a commented problem file called `name` at `path` (a folder, or the file itself) and return its path.

    Raises ValueError for a name that is no identifier, FileExistsError rather than overwrite.
    """
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not a name: use letters, digits and _, not starting with a digit")
    target = Path(path)
    if target.suffix != ".py":
        target = target / f"{name}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("x", encoding="utf-8") as file:
        file.write(_TEXT.format(name=name))
    return target
