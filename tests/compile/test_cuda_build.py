"""Texts as CUDA artifacts: what is in them, and when they are made again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.cuda import build, compiler, tools
from kernelagent.dsl.targets.cuda.artifact import CudaArtifact, CudaOptions

from tests.support.cuda import TOOLCHAINS, needs_compiler
from tests.support.gpu_cases import CASES

SOFTMAX = next(c for c in CASES if c.name == "softmax_bf16")
GEMM = next(c for c in CASES if c.name == "gemm_nt_bf16")
TRANSPOSE = next(c for c in CASES if c.name == "transpose")
SPILLING = GEMM.text.replace("on(cuda, stages=3)", "on(cuda, BM=256, BN=128, warps=4)")
REFUSED = GEMM.text.replace("on(cuda, stages=3)", "require(stages=16)")


def compiled(text: str, folder: Path, arch: str = "sm_80", **options: object) -> CudaArtifact:
    return build.compile(parse(text), {"T": "bf16"}, arch=arch, options=CudaOptions(cache_dir=folder, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share which ask for nothing new."""
    return tmp_path_factory.mktemp("cache")


@needs_compiler
def test_an_artifact_has_every_shape_class(folder: Path) -> None:
    made = compiled(GEMM.text, folder)
    aligned, general = made.binaries()
    assert (aligned.shape_class, general.shape_class) == ("aligned", "general")
    assert "divides(K, 8)" in aligned.guard_texts
    assert not general.guards
    for binary in (aligned, general):
        assert Path(binary.cubin_path).read_bytes()[:4] == b"\x7fELF"
        assert f"KA_KERNEL({binary.function}, " in binary.body
        assert 32 <= binary.resources.registers <= 255
        assert binary.resources.dynamic_shared_bytes == 49152
        assert binary.resources.limiter in ("registers", "shared memory")
        assert any("stages: 3 (policy)" in line for line in binary.report)
    assert made.dims == {}
    assert not made.diagnostics


@needs_compiler
def test_it_survives_json(folder: Path) -> None:
    made = compiled(SPILLING, folder, gate=False)
    assert made.diagnostics
    again = CudaArtifact.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    with pytest.raises(ValueError, match="schema"):
        CudaArtifact.from_dict({"schema": 0})


@needs_compiler
def test_a_second_compilation_neither_lowers_nor_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(SOFTMAX.text, tmp_path)
    monkeypatch.setattr(build, "device_units", lambda *_: pytest.fail("lowered again"))
    monkeypatch.setattr(build, "cached_cubin", lambda *_: pytest.fail("compiled again"))
    begin = time.perf_counter()
    assert compiled(SOFTMAX.text, tmp_path).units == first.units
    assert time.perf_counter() - begin < 0.5  # 0.01 on a quiet machine
    with pytest.raises(pytest.fail.Exception, match="lowered again"):
        compiled(SOFTMAX.text, tmp_path, "sm_89")


@needs_compiler
def test_what_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {compiled(TRANSPOSE.text, tmp_path).key, compiled(TRANSPOSE.text, tmp_path, "sm_89").key}
    keys.add(compiled(TRANSPOSE.text.replace("BN=64", "BN=32"), tmp_path).key)
    monkeypatch.setattr(build, "sources_digest", lambda: "another version of this compiler")
    keys.add(compiled(TRANSPOSE.text, tmp_path).key)
    assert len(keys) == 4
    if len(TOOLCHAINS) > 1:
        keys.add(compiled(TRANSPOSE.text, tmp_path, compiler=TOOLCHAINS[1].kind).key)
        assert len(keys) == 5


@needs_compiler
def test_a_cubin_that_is_gone_is_made_again(tmp_path: Path) -> None:
    first = next(compiled(SOFTMAX.text, tmp_path).binaries())
    os.rename(Path(first.cubin_path).parent, tmp_path / "elsewhere")
    again = next(compiled(SOFTMAX.text, tmp_path).binaries())
    assert Path(again.cubin_path).is_file()


@needs_compiler
def test_a_program_has_a_unit_for_each_call(tmp_path: Path) -> None:
    case = next(c for c in CASES if c.name == "gemm_splitk")
    made = compiled(case.text, tmp_path)
    assert [[b.shape_class for b in unit] for unit in made.units] == [["aligned", "general"]] * 2
    assert len({b.kernel for b in made.binaries()}) == 2


@needs_compiler
def test_fixed_dims_are_in_the_artifact(tmp_path: Path) -> None:
    case = next(c for c in CASES if c.name.startswith("attention"))
    options = CudaOptions(cache_dir=tmp_path)
    made = build.compile(parse(case.text), case.dtypes, dims={"D": 64, "M": 999}, options=options)
    assert made.dims == {"D": 64}
    with pytest.raises(KernelError) as caught:
        build.compile(parse(case.text), case.dtypes, options=options)
    assert caught.value.diagnostics[0].code == "missing-choice"


# Without a compiler ---------------------------------------------------------------------------------


def test_no_compiler_is_a_missing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_find_nvrtc", lambda: None)
    monkeypatch.setattr(tools, "find_program", lambda _: None)
    with pytest.raises(tools.MissingTool) as caught:
        compiled(SOFTMAX.text, tmp_path)
    assert "pip install" in caught.value.hint
    assert "cpu and emu" in caught.value.hint


def test_a_refused_text_is_refused_before_any_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_find_nvrtc", lambda: None)
    monkeypatch.setattr(tools, "find_program", lambda _: None)
    with pytest.raises(KernelError) as caught:
        compiled(REFUSED, tmp_path)
    assert caught.value.diagnostics[0].code == "shared-limit"


def test_an_unknown_architecture_is_named_first(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        compiled(SOFTMAX.text, tmp_path, "sm_99")
    assert caught.value.diagnostics[0].code == "unknown-arch"


def test_entries_appear_whole(tmp_path: Path) -> None:
    """A build that fails leaves nothing behind."""

    def failing(_: Path) -> None:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        cache.entry(tmp_path, "abcdef", failing)
    assert not cache.place(tmp_path, "abcdef").exists()
