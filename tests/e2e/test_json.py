"""Every `--json` prints one object, and wrong calls exit with 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from kernelagent.cli import main; main()"
SOFTMAX = """edition(1)

@kernel
def softmax(x: In[T, R, C], y: Out[T, R, C], BR=4, BC=1024):
    for i in tiles((R,), (BR,)):
        for j in pipeline(0, C, BC):
            store(y, (i, j), load(x, (i, j), (BR, BC)))
"""


def kernelagent(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=environment | {"KERNELAGENT_HOME": str(home)}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["runs", "list"], {"runs"}),
        (["problems", "list"], {"problems"}),
        (["chips", "list"], {"chips"}),
        (["kb", "search", "tile"], {"query", "results"}),
        (["kb", "stats"], {"trials"}),
        (["leaderboard"], {"entries"}),
        (["problems", "show", "softmax"], {"name", "workloads"}),
        (["problems", "validate", "softmax"], {"problem", "ok", "findings"}),
        (["sol", "softmax", "--chip", "h100-sxm"], {"problem", "chip", "workloads"}),
        (["explain"], {"unknown-word"}),
        (["explain", "unknown-word"], {"code", "title", "text"}),
        (["doctor"], {"ok"}),
        (["check", "copy.tile"], {"ok", "verdict", "semantics", "notes", "obligations"}),
        (["inspect", "copy.tile", "--schedule"], {"file", "arch", "kernels"}),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_json_is_one_object(arguments: list[str], keys: set[str], tmp_path: Path) -> None:
    (tmp_path / "copy.tile").write_text(SOFTMAX)
    done = kernelagent(*(tmp_path / a if a.endswith(".tile") else a for a in arguments), "--json", home=tmp_path)
    assert done.returncode in (0, 3), done.stderr  # doctor says 3 where something is lacking
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert keys <= set(found)


@pytest.mark.parametrize(
    "arguments",
    [
        ["optimize", "run", "nowhere.py"],
        ["sol", "nowhere.py"],
        ["sol", "no/such/folder"],
        ["problems", "show", "nowhere.py"],
        ["problems", "validate", "nowhere.py"],
        ["check", "nowhere.tile"],
        ["check", "copy.tile", "--problem", "nowhere.py"],
        ["check", "copy.tile", "--trace", "3"],
        ["bench", "copy.tile", "--problem", "nowhere.py"],
        ["runs", "show", "nothing"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_not_there_is_a_wrong_call(arguments: list[str], as_json: bool, tmp_path: Path) -> None:
    (tmp_path / "copy.tile").write_text(SOFTMAX)
    told = [str(tmp_path / a) if a.startswith("copy.tile") else a for a in arguments]
    done = kernelagent(*told, *(["--json"] if as_json else []), home=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
