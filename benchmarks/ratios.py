"""The ratios that the project promises, measured in one process, in turns, all outputs preallocated, fp32.

    python benchmarks/ratios.py            # needs torch; writes benchmarks/results/ratios-cpu.json

Arrays start at multiples of 64 bytes, as torch's do. Kernels are those of benchmarks/kernels; each is compared with a
rival that does the same work: a copy of as many bytes (the faster of torch's and our own streaming copy), numpy's BLAS,
torch compiled, torch's attention (which allocates its output: it has no `out`). Before each run the caches are emptied
by reading, or whatever ran before would leave its dirty lines to be written back by the next. Results of the kernels
are compared with torch's before anything is timed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernelagent.dsl.targets import cpu
from measure import Subject, aligned, emptied_caches, interleave, save, threads

from kernelagent import dsl

KERNELS = Path(__file__).parent / "kernels"
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """`wanted`: least value of rival time / kernel time (scaled by `bytes_ratio`, kernel bytes / rival bytes)."""

    name: str
    kernel: str
    arrays: Callable[[], Arrays]
    output: str
    torch_form: Callable[..., torch.Tensor]
    rival: str
    wanted: float
    scalars: Mapping[str, float] | None = None
    bytes_ratio: float = 1.0


def normal(*shape: int) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(len(shape) * 7919 + shape[-1]).standard_normal(shape, dtype=np.float32)
    place: np.ndarray[Any, Any] = aligned(values)
    return place


def gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def rmsnorm(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), w, 1e-6)


S = (4096, 4096)
CASES = (
    Case("softmax 4096x4096", "softmax", lambda: {"x": normal(*S), "y": normal(*S)}, "y",
         lambda x: torch.softmax(x, 1), "copy", 0.80),
    Case("rmsnorm 4096x4096", "rmsnorm", lambda: {"x": normal(*S), "w": normal(4096), "y": normal(*S)}, "y",
         rmsnorm, "copy", 0.80, {"eps": 1e-6}),
    Case("bias_gelu_residual 4096x4096", "bias_gelu_residual",
         lambda: {"x": normal(*S), "b": normal(4096), "r": normal(*S), "y": normal(*S)}, "y",
         lambda x, b, r: gelu(x + b) + r, "copy", 0.60, bytes_ratio=1.5),
    Case("transpose 4096x4096", "transpose", lambda: {"x": normal(*S), "y": normal(*S)}, "y",
         lambda x: x.T.contiguous(), "copy", 0.50),
    Case("gemm 1024", "gemm", lambda: {n: normal(1024, 1024) for n in "abc"}, "c",
         lambda a, b: a @ b, "numpy", 0.80),
    Case("linear_gelu 1024x1024 by 4096", "linear_gelu",
         lambda: {"x": normal(1024, 1024), "w": normal(4096, 1024), "b": normal(4096), "y": normal(1024, 4096)}, "y",
         lambda x, w, b: gelu(torch.nn.functional.linear(x, w, b)), "torch_compile", 1.20),
    Case("attention_causal 8x1024x64", "attention_causal",
         lambda: {n: normal(1, 8, 1024, 64) for n in "qkvo"}, "o", attention, "torch_eager", 0.80, {"scale": 0.125}),
)  # fmt: skip


def main() -> int:
    torch.set_num_threads(threads())
    rows = [run(case) for case in CASES if not sys.argv[1:] or any(word in case.name for word in sys.argv[1:])]
    if not sys.argv[1:]:
        print(f"wrote {save('ratios-cpu', {'rows': rows})}")
    return 0 if all(row["reached"] for row in rows) else 1


def run(case: Case) -> dict[str, Any]:
    arrays = case.arrays()
    artifact = compiled(case, arrays)
    kernel = cpu.load(artifact).bind(arrays, case.scalars or {}, threads())
    kernel()
    expected = case.torch_form(*tensors(case, arrays))
    error = float(np.abs(arrays[case.output] - expected.numpy()).max())
    if not error < 1e-3:
        raise SystemExit(f"{case.name}: the kernel is wrong by {error}")
    rivals = {
        "copy": partial(copies, artifact),
        "numpy": numpy_product,
        "torch_compile": torch_compiled,
        "torch_eager": torch_eager,
    }
    times = interleave({"kernel": kernel, **rivals[case.rival](case, arrays)}, rounds=31, between=emptied_caches())
    rival_ms = min(ms for name, ms in times.items() if name != "kernel")
    ratio = case.bytes_ratio * rival_ms / times["kernel"]
    reached = ratio >= case.wanted
    verdict = f"{'ok' if reached else 'MISSED':6} (wanted {case.wanted:.2f})"
    shown = ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items())
    print(f"{case.name:32} {ratio:5.2f} of {case.rival:14} {verdict}  {shown}", flush=True)
    return {"case": case.name, "rival": case.rival, "ratio": ratio, "wanted": case.wanted, "reached": reached,
            "times_ms": times, "max_error": error}  # fmt: skip


def compiled(case: Case, arrays: Arrays) -> cpu.CpuArtifact:
    module = dsl.parse((KERNELS / f"{case.kernel}.tile").read_text(encoding="utf-8"))
    dims = {"D": arrays["q"].shape[-1]} if "q" in arrays else {}
    return cpu.compile(module, dict.fromkeys(module.entry.dtype_variables, "f32"), {}, dims=dims)


def tensors(case: Case, arrays: Arrays) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for name, a in arrays.items() if name != case.output]


def copies(artifact: cpu.CpuArtifact, case: Case, arrays: Arrays) -> dict[str, Subject]:
    source, target = normal(*S), normal(*S)
    to, back = torch.from_numpy(target), torch.from_numpy(source)
    return {"torch_copy": lambda: to.copy_(back), "streaming_copy": streaming_copy(artifact, target, source)}


def streaming_copy(artifact: cpu.CpuArtifact, target: np.ndarray[Any, Any], source: np.ndarray[Any, Any]) -> Subject:
    """The copy of the kernels' own runtime, on all threads, around the caches."""
    copy = ctypes.CDLL(artifact.runtime_path).ka_copy_parallel
    arguments = (ctypes.c_void_p(target.ctypes.data), ctypes.c_void_p(source.ctypes.data))
    return lambda: copy(*arguments, ctypes.c_size_t(target.nbytes), 1, threads())


def numpy_product(case: Case, arrays: Arrays) -> dict[str, Subject]:
    out = np.empty_like(arrays["c"])
    return {"numpy": lambda: np.matmul(arrays["a"], arrays["b"], out=out)}


def torch_compiled(case: Case, arrays: Arrays) -> dict[str, Subject]:
    out = torch.empty(arrays[case.output].shape)
    function = torch.compile(lambda out, *inputs: out.copy_(case.torch_form(*inputs)), dynamic=False)
    return {"torch_compile": inference(lambda: function(out, *tensors(case, arrays)))}


def torch_eager(case: Case, arrays: Arrays) -> dict[str, Subject]:
    return {"torch_eager": inference(lambda: case.torch_form(*tensors(case, arrays)))}


def inference(call: Subject) -> Subject:
    def run() -> None:
        with torch.inference_mode():
            call()

    return run


if __name__ == "__main__":
    raise SystemExit(main())
