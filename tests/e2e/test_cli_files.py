"""Files that are no kernels, and texts with many mistakes: one sentence each, at once, and never Python's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from kernelagent.cli import main; main()"
HEAD = """edition(1)

@kernel
def copy(x: In[T, R, C], y: Out[T, R, C], BR=4, BC=64):
    for i, j in tiles((R, C), (BR, BC)):
"""
STORE = "        store(y, (i, j), load(x, (i, j), (BR, BC)))\n"


def kernelagent(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7fELF\x02\x01\xff\xfe", "is no text in UTF-8: byte 6 is 0xff"),
        ((HEAD + STORE).encode("utf-16"), "is a text in UTF-16, not in UTF-8"),
        ((HEAD + STORE).replace("copy", "co\0py").encode(), "has a NUL character, at 26"),
    ],
)
@pytest.mark.parametrize("command", ["check", "inspect"])
def test_what_is_no_text_is_told_as_that(command: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "k.tile").write_bytes(data)
    done = kernelagent(command, "k.tile", folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout


def test_lines_may_end_as_on_any_system(tmp_path: Path) -> None:
    (tmp_path / "k.tile").write_bytes(b"\xef\xbb\xbf" + (HEAD + STORE).replace("\n", "\r\n").encode())
    assert kernelagent("check", "k.tile", folder=tmp_path).returncode == 0


def test_a_mistake_made_often_is_told_once_with_all_lines(tmp_path: Path) -> None:
    wrong = "".join(f"        v{n} = lod(x, (i, j), (BR, BC))\n" for n in range(50))
    (tmp_path / "k.tile").write_text(HEAD + wrong + STORE)
    done = kernelagent("check", "k.tile", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("did you mean `load`?") == 1
    assert "also: lines 7, 8, 9, 10, 11, 12, 13, 14 and 11 more" in done.stdout
    assert "only the first 20 mistakes were looked for" in done.stdout


def test_different_mistakes_stay_within_a_screen(tmp_path: Path) -> None:
    wrong = "".join(f"        v{n} = word{n}(x)\n" for n in range(15))
    (tmp_path / "k.tile").write_text(HEAD + wrong + STORE)
    lines = kernelagent("check", "k.tile", folder=tmp_path).stdout.splitlines()
    assert len(lines) <= 40
    assert "9 more in --json" in lines


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("__global__ void k(float* x) { x[0] = 1; }\n", "this looks like CUDA C++"),
        ("import triton\nimport triton.language as tl\n", "this looks like code for triton"),
        ("```python\n" + HEAD + STORE + "```\n", "leave out the lines with ```"),
    ],
)
def test_texts_of_other_languages_are_named(text: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "k.tile").write_text(text)
    done = kernelagent("check", "k.tile", folder=tmp_path)
    assert done.returncode == 1
    assert hint in done.stdout


def test_a_text_of_megabytes_is_refused_before_it_is_parsed() -> None:
    import tracemalloc

    from kernelagent.dsl.level2 import is_level_two, target_of

    text = HEAD + "".join(f"        v{n} = 1.0\n" for n in range(200_000))
    tracemalloc.start()
    assert not is_level_two(text)
    assert target_of(text) is None
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
