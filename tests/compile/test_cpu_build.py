"""The road from text to shared object: cache keys, compiler lookup, feature levels, refusals, reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernelagent.dsl import KernelError, parse
from kernelagent.dsl.targets import cache, cpu
from kernelagent.dsl.targets.cpu import build, compiler, features

SCALE = """edition(1)

@kernel
def scale(x: In[T, M, N], y: Out[T, M, N], s: f32, BM=4, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), cast(load(x, (i, j), (BM, BN)) * s, T))
"""


def compiled(folder: Path, text: str = SCALE, **choices: object) -> cpu.CpuArtifact:
    options = {"cache_dir": folder, **{k: choices.pop(k) for k in ("features", "compiler", "strides") if k in choices}}
    given = {"dtypes": {"T": "f32"}, **choices}
    return cpu.compile(parse(text), options=cpu.CpuOptions(**options), **given)  # type: ignore[arg-type]


def test_a_second_compilation_is_found(tmp_path: Path) -> None:
    first, second = compiled(tmp_path), compiled(tmp_path)
    assert first.key == second.key
    assert first.library_path == second.library_path
    stamp = Path(first.library_path).stat().st_mtime_ns
    compiled(tmp_path)
    assert Path(first.library_path).stat().st_mtime_ns == stamp


def test_what_changes_the_key(tmp_path: Path) -> None:
    keys = {
        compiled(tmp_path).key,
        compiled(tmp_path, tunables={"BN": 128}).key,
        compiled(tmp_path, dtypes={"T": "bf16"}).key,
        compiled(tmp_path, text=SCALE.replace("* s", "* s + 1.0")).key,
        compiled(tmp_path, strides="any").key,
        *(compiled(tmp_path, features=level).key for level in features.detect().levels[1:]),
    }
    assert len(keys) == 5 + len(features.detect().levels[1:])


def test_sizes_do_not_change_the_key_unless_they_are_extents(tmp_path: Path) -> None:
    assert compiled(tmp_path, dims={"M": 5, "N": 7}).key == compiled(tmp_path, dims={"M": 50, "N": 70}).key
    text = SCALE.replace("BN=64", "").replace("BM=4, ", "BM=4").replace("BN", "N")
    text = text.replace("    for", "    assume(N in (32, 64))\n    for")
    narrow, wide = (compiled(tmp_path, text=text, dims={"M": 5, "N": n}) for n in (32, 64))
    assert narrow.key != wide.key
    assert wide.dims == {"N": 64}


def test_another_compiler_is_another_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same command, another version: as after an upgrade of the system's compiler."""
    before = compiled(tmp_path)
    found = compiler.find_compiler()
    upgraded = compiler.Compiler(found.command, found.identity + " (upgraded)")
    monkeypatch.setattr(build, "find_compiler", lambda asked: upgraded)
    assert compiled(tmp_path).key != before.key


def test_no_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    compiler.identity_of.cache_clear()
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(cpu.NoCompiler, match="install gcc or clang"):
        compiled(tmp_path)
    compiler.identity_of.cache_clear()


def test_cc_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = compiler.find_compiler().command
    named = tmp_path / "my-cc"
    named.write_text(f'#!/bin/sh\nexec {" ".join(real)} "$@"\n')
    named.chmod(0o755)
    monkeypatch.setenv("CC", str(named))
    assert compiler.find_compiler().command == (str(named),)


def test_a_failing_compiler_leaves_no_entry(tmp_path: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo broken 1.0 && exit 0\necho "no" >&2\nexit 1\n')
    broken.chmod(0o755)
    with pytest.raises(cpu.CompilerFailed, match="no"):
        compiled(tmp_path / "cache", compiler=str(broken))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_two_processes_build_one_entry(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom kernelagent.dsl import parse\n"
        "from kernelagent.dsl.targets import cpu\n"
        f"print(cpu.compile(parse({SCALE!r}), {{'T': 'f32'}}, options=cpu.CpuOptions(cache_dir=Path(sys.argv[1]))).key)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    keys = {p.communicate()[0] for p in running}
    assert len(keys) == 1
    assert not list(tmp_path.rglob(".building-*"))


def test_the_entry_appears_whole(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        cache.entry(tmp_path, "abcdef", fail)
    assert not (tmp_path / "ab" / "abcdef").exists()


def test_the_home_variable_moves_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))
    assert cache.cache_root("cpu") == tmp_path / "cache" / "cpu"
    assert cache.cache_root("cpu", Path("/elsewhere")) == Path("/elsewhere")


def test_artifacts_survive_json(tmp_path: Path) -> None:
    artifact = compiled(tmp_path)
    assert cpu.CpuArtifact.from_dict(json.loads(json.dumps(artifact.to_dict()))) == artifact
    with pytest.raises(ValueError, match="schema"):
        cpu.CpuArtifact.from_dict({**artifact.to_dict(), "schema": 99})


def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neon"):
        compiled(tmp_path, features="neon" if features.detect().level != "neon" else "avx512")


@pytest.mark.parametrize("level", features.detect().levels)
def test_every_level_compiles_without_warnings(tmp_path: Path, level: str) -> None:
    artifact = compiled(tmp_path, features=level)
    flags = (*features.flags(level), f"-I{features.prelude_folder()}", f"-I{build.SUPPORT}", "-Wall", "-Werror")
    quiet = ("-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-function")
    found = compiler.find_compiler().command
    command = [*found, *flags, *quiet, "-fsyntax-only", artifact.source_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unsupported_dtypes_are_diagnostics(tmp_path: Path) -> None:
    text = SCALE.replace("[T,", "[f8e4m3,").replace(", T))", ", f8e4m3))")
    with pytest.raises(KernelError) as caught:
        compiled(tmp_path, text=text, dtypes={})
    assert {d.code for d in caught.value.diagnostics} == {"cpu-unsupported"}


def test_policy_of_another_target_is_reported_or_refused(tmp_path: Path) -> None:
    dropped = compiled(tmp_path, text=SCALE.replace("    for", "    on(cluster=2)\n    for", 1))
    assert any("cluster" in line and "dropped" in line for line in dropped.report)
    with pytest.raises(KernelError):
        compiled(tmp_path, text=SCALE.replace("    for", "    on(cpu, cluster=2)\n    for", 1))


def test_a_missing_extent_is_a_diagnostic(tmp_path: Path) -> None:
    text = SCALE.replace("BN=64", "").replace("BM=4, ", "BM=4").replace("BN", "N")
    with pytest.raises(KernelError):
        compiled(tmp_path, text=text.replace("    for", "    assume(N in (32, 64))\n    for"))


def test_the_package_imports_without_numpy() -> None:
    code = "import sys, kernelagent.dsl.targets.cpu; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_what_cannot_be_compiled_is_a_diagnostic() -> None:
    """A data position on a merged view has no affine address yet: refused, never a traceback or a wrong kernel."""
    text = """edition(1)

@kernel
def pick(x: In[f32, A, B], idx: In[i32, N], y: Out[f32, N], BN=16):
    assume(0 <= idx < A * B)
    for i in tiles((N,), (BN,)):
        v = load(idx, (i,), (BN,), fill=0)
        store(y, (i,), gather(reshape(x, (A * B,)), (v,), (BN,)))
"""
    with pytest.raises(KernelError) as caught:
        cpu.compile(parse(text))
    assert [d.code for d in caught.value.diagnostics] == ["cpu-unsupported"]
