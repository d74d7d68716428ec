"""Soundness of the proofs, tried at random: schedules with random edits that are proved, run in the emulator.

    python benchmarks/gpu/soundness.py [--seed N] [--seconds S] [--base NAME ...] [--random] [--alarms SHARE] [--write]

Every schedule is changed by 1 to 3 edits of its syntax (numbers, names, operators, conditions, statements), parsed and
proved. Those proved whose code is another one run in the emulator at odd, even and far sizes, with copies late, early
and at random, and are compared with the interpreter of the kernel of tiles. Whatever goes wrong is a hole in the
proofs. `--random` takes schedules of random kernels instead of the fixtures'. `--alarms` runs a share of the refuted
ones too. `--write` puts the counts into benchmarks/results/soundness.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "soundness.json"

sys.path.insert(0, str(ROOT / "tests"))

from support.random_products import FAMILIES  # noqa: E402 - tests are no package
from support.soundness import (  # noqa: E402
    Subject,
    Tally,
    attack,
    fixtures,
    random_subject,
    refuted_at_birth,
    subject,
)


def subjects(options: argparse.Namespace, source: random.Random) -> Iterator[Subject]:
    """Without end."""
    while True:
        if options.random:
            made = random_subject(
                source.choice(sorted(FAMILIES)), source.randrange(100_000), source.choice(("sm_80", "sm_90a"))
            )
            if made is not None:
                yield made
        else:
            yield subject(source.choice(options.base or fixtures()))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--seconds", type=float, default=300.0)
    asked.add_argument("--each", type=int, default=12, help="edits of a schedule before the next one's turn")
    asked.add_argument("--base", action="append")
    asked.add_argument("--random", action="store_true")
    asked.add_argument("--alarms", type=float, default=0.0)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    np.seterr(all="ignore")
    source, tally = random.Random(options.seed), Tally()
    end = time.monotonic() + options.seconds
    known: dict[str, Subject] = {}
    for made in subjects(options, source):
        if time.monotonic() > end:
            break
        if made.name not in known and (said := refuted_at_birth(made)):
            print(f"BASE {made.name}: {said}", flush=True)
            continue
        made = known.setdefault(made.name, made)
        attack(made, source, options.each, tally, lambda: time.monotonic() > end, options.alarms)
        sys.stdout.flush()
    print(json.dumps(asdict(tally)))
    if options.write:
        write(options.seed, tally)


def write(seed: int, tally: Tally) -> None:
    record = {"date": str(date.today()), "seed": seed, **asdict(tally)}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
