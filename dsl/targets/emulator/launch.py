"""Run an emitted body in a process of its own, and read what was found."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kernelagent.dsl.targets.emulator.arguments import ArrayArgument, ScalarArgument, Storage, TensorMapArgument
from kernelagent.dsl.targets.emulator.build import Built, build
from kernelagent.dsl.targets.emulator.facts import Placed
from kernelagent.dsl.targets.emulator.report import EmulatorReport, Finding, findings_from

Completion = Literal["late", "early", "random"]

LARGEST_CLUSTER = 16
"""Blocks; 8 without an attribute of the kernel."""


class EmulatorFailed(RuntimeError):
    """The emulator could not run the body: arguments that do not fit it, or a fault of the emulator."""


def run(
    source: str,
    kernel_name: str,
    threads: int,
    blocks: int,
    shared_bytes: int,
    arrays: Sequence[ArrayArgument],
    ints: Sequence[int] = (),
    scalars: Sequence[ScalarArgument] = (),
    completion: Completion = "late",
    seed: int = 0,
    buffers: Sequence[Placed] = (),
    seconds_limit: int = 60,
    check_stored: bool = True,
    cache_dir: Path | None = None,
    maps: Sequence[TensorMapArgument] = (),
    cluster: int = 1,
) -> EmulatorReport:
    """Emulate `blocks` blocks of `threads` threads; outputs are written back into the arguments' arrays.

    Asynchronous copies complete as late as legal, as early, or at random by `seed`, which also orders the threads.
    `check_stored`: elements of outputs that nobody stored are findings. `maps` follow the scalars in the kernel's
    parameters; each `cluster` neighbouring blocks run together. Raises NoCxxCompiler, CompilerFailed, EmulatorFailed,
    and KernelError for a tensor map that no driver would encode; what the body does wrong is in the report.
    """
    if threads % 32 or not 0 < threads <= 1024:
        raise EmulatorFailed(f"{threads} threads: a block has 32 to 1024, in whole warps")
    if not 0 < cluster <= LARGEST_CLUSTER or blocks % cluster:
        raise EmulatorFailed(f"{blocks} blocks in clusters of {cluster}: 1 to {LARGEST_CLUSTER}, and no part of one")
    built = build(source, kernel_name, cache_dir)
    storage = Storage(arrays)
    try:
        storage.fill()
        values = [ScalarArgument(i, "i32") for i in ints] + list(scalars)
        launch = (threads, blocks, shared_bytes, cluster)
        job = [
            *_job(built, storage, launch, (completion, seed, check_stored)),
            *(f"value {v.bytes} {v.bits}" for v in values),
            *(storage.map_line(m) for m in maps),
        ]
        begin = time.perf_counter()
        records = _run(built.runner, job, storage, seconds_limit)
        seconds = time.perf_counter() - begin
        storage.copy_back()
        lines = {a.name: storage.lines(i) for i, a in enumerate(arrays) if a.role != "in" and a.data.size}
    finally:
        storage.close()
    found = findings_from(records, [a.name for a in arrays], buffers)
    errors = tuple(f for f in found if f.severity == "error")
    notes = tuple(f for f in found if f.severity == "note")
    return EmulatorReport(errors, seconds, built.seconds, completion, seed, notes, lines)


def _job(built: Built, storage: Storage, launch: tuple[int, int, int, int], how: tuple[str, int, bool]) -> list[str]:
    """What the runner reads first; values and maps follow in the kernel's order, then the time limit."""
    threads, blocks, shared_bytes, cluster = launch
    completion, seed, check_stored = how
    return [
        f"threads {threads}",
        f"blocks {blocks}",
        f"shared {shared_bytes}",
        f"cluster {cluster}",
        f"completion {completion}",
        f"seed {seed}",
        f"stores {int(check_stored)}",
        f"library {built.library}",
        *storage.job_lines(),
    ]


def _run(runner: Path, job: Sequence[str], storage: Storage, seconds_limit: int) -> list[dict[str, Any]]:
    text = "\n".join([*job, f"limit {seconds_limit}", "end\n"])
    try:
        done = subprocess.run(
            [str(runner)], input=text, capture_output=True, text=True, check=False,
            timeout=seconds_limit + 10, pass_fds=(storage.file.fileno(),),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EmulatorFailed(f"the emulator did not stop {seconds_limit + 10} seconds after its start") from None
    records = [json.loads(line) for line in done.stdout.splitlines()]
    if records and "error" in records[-1]:
        raise EmulatorFailed(records[-1]["error"])
    if not records or "end" not in records[-1]:
        raise EmulatorFailed(f"the emulator ended with status {done.returncode} and no report: {done.stderr[:200]}")
    return records[:-1]


__all__ = ["Completion", "EmulatorFailed", "EmulatorReport", "Finding", "run"]
