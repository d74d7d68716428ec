"""Two runs at once on one knowledge base: both complete, both are recorded, and they never time at the same moment."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

SPY = """
import contextlib, json, os, time
from kernelagent.harness import timing
from kernelagent.cli import main

lock = timing.timing_lock

@contextlib.contextmanager
def watched(*arguments, **options):
    with lock(*arguments, **options) as held:
        begin = time.monotonic()
        yield held
        with open(os.environ["TIMING_LOG"], "a") as log:
            log.write(json.dumps([os.getpid(), begin, time.monotonic()]) + "\\n")

timing.timing_lock = watched
main()
"""


def start(home: Path, log: Path, problem: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "KERNELAGENT_"))}
    arguments = ["optimize", "run", problem, "--workload", "small", "--trials", "2", "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", SPY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"KERNELAGENT_HOME": str(home), "TIMING_LOG": str(log)},
    )


def test_two_runs_at_once(tmp_path: Path) -> None:
    log = tmp_path / "timing.jsonl"
    runs = [start(tmp_path / "home", log, name) for name in ("row_sum", "transpose")]
    outputs = [run.communicate(timeout=240) for run in runs]
    for run, (_, errors) in zip(runs, outputs, strict=True):
        assert run.returncode == 0, errors
    records = [json.loads(out) for out, _ in outputs]
    assert {r["problem"] for r in records} == {"row_sum", "transpose"}

    from kernelagent.knowledge_base import KnowledgeBase

    kept = {t.run for t in KnowledgeBase(tmp_path / "home" / "knowledge.db").trials()}
    assert kept == {r["run"] for r in records}

    spans = sorted((begin, end, pid) for pid, begin, end in map(json.loads, log.read_text().splitlines()))
    assert len({pid for _, _, pid in spans}) == 2, "both must have timed something"
    for (_, end, _), (begin, _, _) in itertools.pairwise(spans):
        assert begin >= end
