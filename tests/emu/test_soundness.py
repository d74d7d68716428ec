"""A small sample of `benchmarks/gpu/soundness.py`: what is proved of changed schedules and kernels holds in runs."""

from __future__ import annotations

import random

import numpy as np
import pytest
from support import soundness, soundness_kernels
from support.random_products import elementwise
from support.soundness import Tally, attack, subject


@pytest.mark.parametrize("name", ["softmax", "add_parts", "rope"])
def test_proved_schedules_do_what_their_kernels_do(name: str) -> None:
    tally = Tally()
    with np.errstate(all="ignore"):
        attack(subject(name), random.Random(f"sample {name}"), 4, tally, lambda: False)
    assert not tally.holes
    assert tally.emulated


def test_a_wrong_schedule_is_seen() -> None:
    """What judges proofs is no proof: it sees what is wrong by itself."""
    made = subject("add_parts")
    text = made.text.replace("(i, j)", "(i + 8, j)", 1)
    verdict, found = soundness.proved(made, made.text)
    assert verdict == "PROVED"
    assert soundness.wrong(made, text, found)[0]


def test_what_is_argued_of_kernels_holds() -> None:
    tally = Tally()
    for seed in range(2):
        text = elementwise(seed).text
        soundness_kernels.attack(str(seed), text, random.Random(seed), 8, tally, lambda: False)
    assert not tally.holes
    assert tally.emulated
