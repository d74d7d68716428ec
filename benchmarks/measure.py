"""Interleaved timing in one process: on noisy machines only ratios taken in turns mean anything."""

from __future__ import annotations

import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

Subject = Callable[[], object]
PAUSE_S = 0.3
RESULTS = Path(__file__).parent / "results"


def interleave(
    subjects: Mapping[str, Subject],
    rounds: int = 25,
    warmups: int = 3,
    between: Subject | None = None,
    pause_s: float = PAUSE_S,
) -> dict[str, float]:
    """Median ms of each subject. A round runs all in a new random order; `between` runs untimed right before each.

    A pause precedes both: the threads of a BLAS spin for tens of milliseconds after a call, and would slow whatever
    comes next.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    shuffler = random.Random(0)
    for number in range(-warmups, rounds):
        shuffler.shuffle(order)
        for name in order:
            time.sleep(pause_s)
            if between:
                between()
            start = time.perf_counter_ns()
            subjects[name]()
            elapsed = (time.perf_counter_ns() - start) / 1e6
            if number >= 0:
                samples[name].append(elapsed)
    return {name: statistics.median(values) for name, values in samples.items()}


def emptied_caches() -> Subject:
    """What empties the caches before each run, exactly as the harness does: it only reads, so the lines it leaves are
    clean. A flush that writes leaves the last-level cache full of dirty lines, whose write-back takes memory bandwidth
    from the timed run: streaming kernels took 3 to 12% longer behind one."""
    import numpy as np
    from kernelagent.harness.caches import available_cpus, flush, flush_bytes

    buffer, cpus = np.ones(flush_bytes() // 4, np.int32), available_cpus()
    return lambda: flush(buffer, cpus)


def aligned(array: Any) -> Any:
    """A copy that starts at a multiple of 64 bytes, as torch's tensors and the harness's arrays do."""
    import numpy as np

    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    place = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import numpy
    from kernelagent.dsl.targets.cpu import features

    record = {
        "cpu": features.detect().model,
        "features": features.detect().level,
        "threads": threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "date": date.today().isoformat(),
    }
    if "torch" in sys.modules:
        record["torch"] = sys.modules["torch"].__version__
    return record


def threads() -> int:
    import os

    return len(os.sched_getaffinity(0))


def save(name: str, record: Mapping[str, Any]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **record}, indent=2) + "\n", encoding="utf-8")
    return path
