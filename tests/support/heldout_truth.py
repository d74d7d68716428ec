"""What the emulator and the interpreter say of the held-out mutants, at small sizes: never the verifier.

    python -m support.heldout_truth [BASE ...]      prints where they differ from the files

Some faults show at no size (`BY_HAND`): a sum that is rounded in every iteration, a guard whose loss lets in calls that
the base does not take; and with inputs far from zero only: a maximum that starts too high, or over an element too many.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.emulator.launch import Completion
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.emulated import Runs, emulated
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.shapes import completed
from kernelagent.dsl.verify.trials import Trial
from support.heldout import base_case, bases, heldout, schedule

ORDERS: tuple[Completion, ...] = ("late", "early", "random")
MNK = ("M", "N", "K")
HEADS = ("B", "H", "M", "G", "N")
GROUPS = ("M", "E", "N", "K")
SIZES: Mapping[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "add_parts": (("S", "M", "N"), ((3, 19, 150), (1, 8, 64), (5, 3, 7), (2, 16, 128), (2, 40, 40))),
    "atomic_columns": (("M", "N"), ((150, 136), (64, 64), (33, 72), (5, 8), (129, 8), (65, 200), (300, 8))),
    "attention_wide": (
        HEADS,
        (
            (1, 2, 70, 1, 85),
            (2, 4, 33, 2, 33),
            (1, 2, 64, 2, 64),
            (1, 2, 5, 1, 47),
            (1, 2, 1, 2, 1),
            (1, 2, 33, 1, 200),
        ),
    ),
    "batched": (
        ("B", "M", "N", "K"),
        ((3, 70, 136, 120), (2, 33, 72, 40), (2, 32, 64, 16), (1, 5, 8, 8), (2, 31, 56, 64), (2, 100, 40, 48)),
    ),
    "epilogue": (
        MNK,
        ((70, 72, 168), (33, 40, 40), (64, 64, 32), (5, 8, 8), (32, 32, 0), (100, 40, 64), (20, 200, 96)),
    ),
    "fp8_blocks": (MNK, ((72, 144, 384), (36, 40, 128), (64, 64, 256), (4, 8, 128), (100, 40, 128), (20, 200, 256))),
    "gemm_tt": (MNK, ((72, 72, 232), (40, 40, 40), (64, 64, 32), (8, 8, 8), (104, 40, 64), (24, 200, 96))),
    "grouped": (
        GROUPS,
        ((90, 3, 72, 88), (40, 4, 40, 40), (130, 2, 32, 24), (8, 1, 8, 8), (64, 2, 32, 0), (90, 1, 200, 32)),
    ),
    "hopper_attention_pingpong": (
        HEADS,
        (
            (1, 2, 130, 1, 205),
            (2, 4, 65, 2, 65),
            (1, 2, 64, 2, 128),
            (1, 2, 5, 1, 330),
            (1, 2, 1, 2, 1),
            (1, 2, 300, 1, 64),
        ),
    ),
    "hopper_cluster_columns": (
        MNK,
        ((136, 136, 328), (72, 72, 72), (256, 128, 128), (264, 72, 65), (200, 264, 8), (264, 400, 129), (136, 520, 64)),
    ),
    "hopper_fp8_blocks": (MNK, ((132, 136, 640), (72, 72, 128), (128, 128, 256), (260, 72, 128), (68, 264, 256))),
    "hopper_grouped": (GROUPS, ((190, 3, 136, 200), (70, 4, 72, 72), (8, 1, 8, 8), (300, 2, 72, 64), (200, 2, 264, 8))),
    "hopper_pingpong": (
        MNK,
        ((200, 200, 200), (130, 136, 456), (65, 72, 72), (5, 8, 8), (200, 200, 64), (300, 72, 8), (264, 264, 128)),
    ),
    "hopper_swiglu": (MNK, ((130, 72, 200), (65, 40, 72), (5, 8, 8), (64, 32, 320), (300, 40, 64), (72, 200, 8))),
    "hopper_tf32_nt": (
        MNK,
        ((130, 136, 164), (65, 72, 36), (256, 128, 64), (300, 72, 32), (72, 264, 4), (200, 200, 36)),
    ),
    "int4": (MNK, ((70, 72, 384), (33, 40, 128), (64, 64, 256), (100, 40, 128), (20, 200, 256))),
    "int8_scaled": (
        MNK,
        ((72, 72, 176), (36, 40, 80), (64, 64, 32), (4, 8, 16), (32, 32, 0), (100, 40, 64), (20, 200, 96)),
    ),
    "rmsnorm": (("M", "N"), ((5, 392), (3, 128), (2, 72), (4, 136), (17, 264), (1, 8))),
    "swiglu": (MNK, ((70, 72, 88), (33, 40, 40), (64, 64, 32), (5, 8, 8), (32, 32, 0), (100, 40, 64), (20, 200, 96))),
    "tf32_tn": (MNK, ((72, 72, 85), (40, 40, 33), (64, 64, 32), (8, 8, 1), (100, 40, 64), (20, 200, 97))),
}
"""Cut and whole tiles, more along one axis than along the other, of one to several rounds of the ring."""
BY_HAND = {
    "add_parts:13 round", "atomic_columns:7 guard", "hopper_fp8_blocks:50 round", "hopper_attention_pingpong:67 mask",
    "hopper_attention_pingpong:52 fill", "attention_wide:32 fill",
}  # fmt: skip


@cache
def trials(base: str) -> tuple[Trial, ...]:
    case = base_case(base)
    dims, given = SIZES[base]
    scalars = {s.name: case.scalars[s.name] for s in case.shapes.entry.scalars if s.name in case.scalars}
    sizes = [completed(case.shapes, dict(zip(dims, extents, strict=True))) for extents in given]
    return tuple(draw(case.shapes.entry, m, {}, scalars, {}, seed) for seed, m in enumerate(sizes) if m is not None)


def shown(base: str, text: str) -> str:
    """What shows that the text does not do what the base's kernel does, "" if nothing does."""
    try:
        found = _run(base, text)
    except KernelError as refusal:
        return f"refused: {refusal.diagnostics[0].message}"
    return found.counterexamples[0].message if found.counterexamples else ""


def _run(base: str, text: str) -> Findings:
    case = base_case(base)
    runs = Runs(case.kernel.target, ORDERS, lambda: False)
    found = emulated(scheduled(text), trials(base), Choice({}, {}, {}, case.kernel.target, {}), runs, case.oracle)
    assert found.counterexamples or found.obligations[0].verdict == "TESTED", found.obligations[0].detail
    return found


def main(names: list[str]) -> None:
    np.seterr(all="ignore")
    for base in names or bases():
        assert not (itself := shown(base, schedule(base))), f"{base}: {itself}"
        for mutant in heldout(base):
            said = shown(base, mutant.text)
            stated = mutant.is_fault and f"{base}:{mutant.first} {mutant.operator}" not in BY_HAND
            if bool(said) != stated and not mutant.undecided:
                print(f"{mutant.name}: {mutant.equivalent or 'a fault'}; {said or 'nothing shows'}")
        print(f"{base}: done")


if __name__ == "__main__":
    main(sys.argv[1:])
