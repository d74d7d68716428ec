"""CUDA C++ -> cubin: which compiler there is, what identifies it, and how it is called.

NVRTC runs in this process (a warm small kernel takes 0.03 s, nvcc ten times that), so it goes first. It is called
through cuda-bindings, the layer below cuda-core: the import is three times faster and gives the log of good and bad
compilations alike. NVRTC has no host headers: sources include at most cuda_fp16.h, cuda_bf16.h, cuda_fp8.h and what the
prelude brings. Neither compiler needs a GPU or a driver.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.targets.cuda import ptxas, tools
from kernelagent.dsl.targets.cuda.archs import arch as arch_named

UNIT = "kernel.cu"
"""What the compilers call the source; lines below a #line mark carry the name in the mark instead."""
KERNEL_TEXT = "kernel"
"""The name in #line marks that lead to the kernel's text."""
INSTALL_COMPILER = (
    'pip install "nvidia-cuda-nvrtc==13.0.*" "nvidia-cuda-runtime==13.0.*" "cuda-bindings==13.0.*", '
    "or put nvcc on PATH or below CUDA_HOME"
)


class CudaCompilerFailed(KernelError):
    """The compiler refused the source: a fault of the emitted code or of a hand-written prelude. `log` has it all."""

    def __init__(self, log: str, arch: str, compiler: str) -> None:
        self.log = log
        found = ptxas.complaints(log) or (ptxas.Complaint(None, 0, (log.strip() or "no output").splitlines()[0]),)
        super().__init__([_diagnostic(c, arch, compiler, log if c is found[0] else "") for c in found])


def _diagnostic(complaint: ptxas.Complaint, arch: str, compiler: str, log: str) -> Diagnostic:
    at_text = complaint.file == KERNEL_TEXT
    span = Span(complaint.line, 1, complaint.line, 2) if at_text else None
    facts = {"arch": arch, "compiler": compiler, "file": complaint.file, "line": complaint.line}
    if few := ptxas.too_few_registers(complaint):
        return _too_few(*few, arch, facts)
    hint = f"the emitted code or its prelude is at fault, not the kernel text; the log:\n{log.strip()}" if log else None
    message = f"the CUDA compiler refused the code for {arch}: {complaint.message}"
    return Diagnostic("cuda-compiler", message, span, hint=hint, facts=facts)


def _too_few(function: str, has: int, needs: int, arch: str, facts: Mapping[str, object]) -> Diagnostic:
    name = function.removeprefix("k_")
    message = f"a thread of {name} begins with {has} registers on {arch}, but one of its products takes {needs}"
    hint = "use fewer threads or narrower products; `registers=` of a role moves registers only when the block runs"
    return Diagnostic("cuda-registers", message, hint=hint, facts={**facts, "registers": has, "needed": needs})


@dataclass(frozen=True)
class CompileOptions:
    """What may vary. `flags` are spelled alike by NVRTC and nvcc; `includes` are folders of further headers.

    `max_registers` bounds registers per thread where a launch bound does not. Line information costs nothing at run
    time and leads each instruction to its #line mark.
    """

    line_info: bool = True
    max_registers: int | None = None
    flags: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()

    def arguments(self, arch: str) -> list[str]:
        """Arguments that both compilers take."""
        found = [f"--gpu-architecture={arch}", "--std=c++17", "--ptxas-options=-v"]
        if self.line_info:
            found.append("-lineinfo")
        if self.max_registers is not None:
            found.append(f"--maxrregcount={self.max_registers}")
        return [*found, *self.flags, *(f"-I{folder}" for folder in self.includes)]


@dataclass(frozen=True)
class Compiled:
    """A cubin and what its compilation said; `seconds` is 0 for what came out of the cache, `toolchain` an identity."""

    cubin: bytes
    log: str
    seconds: float
    toolchain: str
    arch: str
    cached: bool = False

    @cached_property
    def resources(self) -> tuple[ptxas.Resources, ...]:
        """Registers, spills, stack and static shared memory of each kernel."""
        return ptxas.resources(self.log)

    @property
    def notes(self) -> tuple[str, ...]:
        """What ptxas remarked beyond the usual."""
        return ptxas.notes(self.log)

    @property
    def serialised(self) -> tuple[str, ...]:
        """Notes after which asynchronous products do not overlap: a reason to drop the kernel."""
        return ptxas.serialised(self.log)

    def kernel(self, name: str | None = None) -> ptxas.Resources:
        """The resources of a kernel, or of the only one. Raises KeyError for another name."""
        found = [r for r in self.resources if name in (None, r.function)]
        if len(found) != 1:
            raise KeyError(f"{name}: kernels are {', '.join(r.function for r in self.resources)}")
        return found[0]


@dataclass(frozen=True)
class Toolchain:
    """A compiler that is there. `identity` has its exact version and goes into cache keys."""

    kind: Literal["nvrtc", "nvcc"]
    identity: str
    command: str = ""

    def compile(self, source: str, arguments: Sequence[str]) -> tuple[bytes | None, str]:
        """The cubin, or None, and the log."""
        return _nvrtc(source, arguments) if self.kind == "nvrtc" else _nvcc(self.command, source, arguments)


def compile_cubin(
    source: str, arch: str, options: CompileOptions | None = None, toolchain: Toolchain | None = None
) -> Compiled:
    """Compile CUDA C++ for one architecture of archs.toml, without any cache.

    Raises KernelError (`unknown-arch`), MissingTool without a compiler, CudaCompilerFailed with the compiler's log.
    """
    arch_named(arch)
    toolchain = toolchain or find_toolchain()
    begin = time.perf_counter()
    cubin, log = toolchain.compile(source, (options or CompileOptions()).arguments(arch))
    if cubin is None:
        raise CudaCompilerFailed(log, arch, toolchain.identity)
    return Compiled(cubin, log, time.perf_counter() - begin, toolchain.identity, arch)


def find_toolchain(asked: str = "auto") -> Toolchain:
    """NVRTC if its wheels are installed, else nvcc; or exactly `nvrtc`, `nvcc` or the nvcc at a path.

    Raises MissingTool.
    """
    found = _find_nvrtc() if asked in ("auto", "nvrtc") else None
    if found is None and asked != "nvrtc":
        found = _find_nvcc(tools.find_program("nvcc") if asked in ("auto", "nvcc") else asked)
    if found is None:
        name = "a CUDA compiler" if asked == "auto" else asked
        raise tools.MissingTool(name, "to compile for the cuda target", INSTALL_COMPILER)
    return found


def _find_nvrtc() -> Toolchain | None:
    versions = [tools.wheel_version(f"nvidia-cuda-{part}") for part in ("nvrtc", "runtime", "cccl", "crt")]
    if versions[0] is None or tools.wheel_version("cuda-bindings") is None:
        return None
    headers = ", ".join(v or "none" for v in versions[1:])
    return Toolchain("nvrtc", f"nvrtc {versions[0]} (headers {headers})")


def _find_nvcc(command: str | None) -> Toolchain | None:
    identity = _nvcc_identity(command) if command else None
    return Toolchain("nvcc", identity, command) if command and identity else None


@lru_cache(maxsize=8)
def _nvcc_identity(command: str) -> str | None:
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("Cuda compilation", "Build "))]
    return f"nvcc {', '.join(lines)}" if done.returncode == 0 and lines else None


@lru_cache(maxsize=1)
def _nvrtc_includes() -> tuple[str, ...]:
    """Where the wheels' headers are: NVRTC does not look there by itself."""
    root = tools.wheel_folder("include")
    return () if root is None else (f"-I{root}", f"-I{root / 'cccl'}")


def _nvrtc(source: str, arguments: Sequence[str]) -> tuple[bytes | None, str]:
    from cuda.bindings import nvrtc

    error, program = nvrtc.nvrtcCreateProgram(source.encode(), UNIT.encode(), 0, [], [])
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return None, f"nvrtcCreateProgram: {error.name}"
    try:
        encoded = [a.encode() for a in (*arguments, *_nvrtc_includes())]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        log = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.rstrip(b"\0").decode(errors="replace").rstrip()
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            return None, text or error.name
        cubin = bytearray(nvrtc.nvrtcGetCUBINSize(program)[1])
        nvrtc.nvrtcGetCUBIN(program, cubin)
        return bytes(cubin), text
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvcc(command: str, source: str, arguments: Sequence[str]) -> tuple[bytes | None, str]:
    with tempfile.TemporaryDirectory(prefix="kernelagent-nvcc-") as folder:
        (Path(folder) / UNIT).write_text(source, encoding="utf-8")
        call = [command, "-cubin", *arguments, "-o", "kernel.cubin", UNIT]
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=folder)
        log = (done.stdout + done.stderr).strip()
        return (None if done.returncode else (Path(folder) / "kernel.cubin").read_bytes()), log
