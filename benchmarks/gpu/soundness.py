"""Soundness of the proofs, tried at random: whatever is proved of texts with random edits has to hold when it runs.

    python benchmarks/gpu/soundness.py [--seed N] [--seconds S] [--set NAME ...] [--base NAME ...] [--alarms SHARE]
                                       [--write]

A text is changed by 1 to 3 edits of its syntax: numbers, names, operators, conditions, statements. Sets:

    schedules  those that mutants are made of; proved ones whose code is another one run in the emulator at odd, even
               and far sizes, with copies late, early and at random, and are compared with the interpreter of the
               kernel of tiles that the unchanged schedule was made for
    random     the same with schedules of random kernels
    kernels    kernels of tiles: what is argued of them for all sizes is held against runs of the interpreter with NaN
               in every void element, and a few run compiled for the CPU

Whatever goes wrong is a hole in the proofs. `--alarms` runs a share of the refuted schedules too. Each set gets its
part of the seconds. `--write` puts the counts into benchmarks/results/soundness.json. Needs a C++ compiler and no GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "soundness.json"
EACH = 6
"""Edits of a text before the next one's turn."""

sys.path.insert(0, str(ROOT / "tests"))

from support import soundness, soundness_kernels  # noqa: E402 - tests are no package
from support.random_products import FAMILIES  # noqa: E402
from support.soundness import Subject, Tally  # noqa: E402

Expired = Callable[[], bool]


def of_schedules(options: argparse.Namespace, source: random.Random, tally: Tally, expired: Expired) -> None:
    known: dict[str, Subject] = {}
    while not expired():
        name = source.choice(options.base or soundness.fixtures())
        made = known.setdefault(name, soundness.subject(name))
        soundness.attack(made, source, EACH, tally, expired, options.alarms)


def of_random(options: argparse.Namespace, source: random.Random, tally: Tally, expired: Expired) -> None:
    while not expired():
        family, arch = source.choice(sorted(FAMILIES)), source.choice(("sm_80", "sm_90a"))
        made = soundness.random_subject(family, source.randrange(100_000), arch)
        if made is None:
            continue
        if said := soundness.refuted_at_birth(made):
            print(f"{made.name} itself: {said[:200]}", flush=True)
        else:
            soundness.attack(made, source, 2 * EACH, tally, expired, options.alarms)


def of_kernels(options: argparse.Namespace, source: random.Random, tally: Tally, expired: Expired) -> None:
    while not expired():
        name, text = soundness_kernels.kernel(source)
        soundness_kernels.attack(name, text, source, 2 * EACH, tally, expired, compiled=0.03)


SETS = {"schedules": of_schedules, "random": of_random, "kernels": of_kernels}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--seconds", type=float, default=300.0)
    asked.add_argument("--set", action="append", choices=SETS, help="default: all")
    asked.add_argument("--base", action="append", help="only these schedules")
    asked.add_argument("--alarms", type=float, default=0.0)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    np.seterr(all="ignore")
    names = options.set or list(SETS)
    tallies = {name: Tally() for name in names}
    for name, tally in tallies.items():
        end = time.monotonic() + options.seconds / len(names)
        SETS[name](options, random.Random(f"{options.seed} {name}"), tally, lambda end=end: time.monotonic() > end)
        print(f"{name}: {json.dumps(asdict(tally))}", flush=True)
    if options.write:
        write(options, tallies)


def write(options: argparse.Namespace, tallies: dict[str, Tally]) -> None:
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    run = {"date": str(date.today()), "seed": options.seed, "seconds": options.seconds}
    last = {"last": {**run, **{name: asdict(t) for name, t in tallies.items()}}}
    RESULTS.write_text(json.dumps({**known, **last}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
