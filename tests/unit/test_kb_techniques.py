"""The curated techniques load, and what they tell the search to do can be done."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from kernelagent.dsl import moves
from kernelagent.knowledge_base import Technique, TechniqueError, load_file, techniques
from kernelagent.knowledge_base.learning import State
from kernelagent.knowledge_base.learning import applies as applies_in

from kernelagent import problems

SEEDS = [problems.load(name).seed_kernel for name in problems.names()]

GOOD = """
title = "t"
when = "w"
what = "x"
bottlenecks = ["memory"]
targets = ["cpu"]
tags = []
evidence = "e"
claim = 1.5
[[moves]]
name = "unroll"
arguments = [{ factor = 2 }]
"""


def texts() -> list[str]:
    """The seeds, and what one move makes of them: some techniques follow another."""
    steps = ("fuse_passes", "whole_row", "fuse_moments", "split_masked_tiles", "recompute", "split_loop")
    made = [moves.apply(n, s, **a) for s in SEEDS for n, a in moves.applicable(s, only=steps)]
    return [*SEEDS, *made]


def applies(technique: Technique, candidates: list[str]) -> bool:
    for move in technique.moves:
        for arguments in move.arguments:
            for text in candidates:
                try:
                    moves.apply(move.name, text, **arguments)
                except moves.MoveError:
                    continue
                return True
    return False


def test_there_are_enough_and_enough_are_executable() -> None:
    assert len(techniques()) >= 24
    assert sum(bool(t.moves) for t in techniques()) >= 12
    assert len({t.name for t in techniques()}) == len(techniques())


def test_every_move_of_a_technique_exists_and_takes_its_arguments() -> None:
    for technique in techniques():
        for move in technique.moves:
            for arguments in move.arguments:
                with pytest.raises(moves.MoveError) as caught:
                    moves.apply(move.name, "edition(1)\n", **arguments)
                assert "argument" not in str(caught.value), (technique.name, move.name)
                assert "no move" not in str(caught.value), (technique.name, move.name)


@pytest.mark.parametrize("technique", [t for t in techniques() if t.moves], ids=lambda t: t.name)
def test_an_executable_technique_applies_to_a_seed_or_to_its_successor(technique: Technique) -> None:
    assert applies(technique, SEEDS) or applies(technique, texts())


HOPPER_STEPS = {
    "warp-specialisation", "hopper-ring-stages", "hopper-wide-tile", "hopper-cluster-multicast", "persistent-grid",
    "gpu-tile-order", "hopper-pingpong", "two-level-accumulation",
}  # fmt: skip
"""Steps of the published Hopper recipe that are policy words."""


def test_every_step_of_the_hopper_recipe_is_executable_and_says_that_nothing_was_measured() -> None:
    found = {t.name: t for t in techniques() if t.name in HOPPER_STEPS}
    assert set(found) == HOPPER_STEPS
    for technique in found.values():
        assert technique.moves, technique.name
        assert "not measured on a GPU here" in technique.evidence, technique.name
        assert technique.targets == ("cuda",), technique.name
        assert all(moves.get(m.name).family == "device" for m in technique.moves), technique.name


def test_techniques_of_an_architecture_stay_there() -> None:
    (hopper,) = (t for t in techniques() if t.name == "hopper-cluster-multicast")
    on = {arch: State({"arch": arch}, "compute", "chip", "cuda") for arch in ("sm_80", "sm_90a")}
    assert applies_in(hopper, on["sm_90a"])
    assert not applies_in(hopper, on["sm_80"])
    assert not applies_in(hopper, State({}, "compute", "chip", "cuda"))


def test_claims_are_modest_and_sourced() -> None:
    for technique in techniques():
        assert technique.claim is None or math.log(technique.claim) < 1.0, technique.name
        assert any(c.isdigit() for c in technique.evidence), f"{technique.name}: no figure, section or year"


def test_a_sound_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "my_trick.toml"
    path.write_text(GOOD)
    found = load_file(path)
    assert (found.name, found.claim, found.moves[0].arguments) == ("my-trick", 1.5, ({"factor": 2},))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "t"', "", "`title` must be a text"),
        ('when = "w"', 'when = " "', "`when` must be a text"),
        ('["memory"]', '["memori"]', "`bottlenecks` does not know 'memori'"),
        ('["memory"]', "[]", "`bottlenecks` must not be empty"),
        ('["cpu"]', '"cpu"', "`targets` must be a list"),
        ("claim = 1.5", 'archs = ["sm_12"]', "`archs` does not know 'sm_12'"),
        ("claim = 1.5", "claim = 0", "`claim` must be a speed-up"),
        ("claim = 1.5", "claim = true", "`claim` must be a speed-up"),
        ("claim = 1.5", "speed = 2", "`speed` is not a key"),
        ('name = "unroll"', "name = 3", "`moves.name`"),
        ("[{ factor = 2 }]", "[2]", "`moves.arguments`"),
        ("[{ factor = 2 }]", "[]", "`moves.arguments`"),
        ("factor = 2", "factor =", "not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "wrong.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(TechniqueError) as caught:
        load_file(path)
    assert str(caught.value).startswith("wrong.toml: ")
    assert message in str(caught.value)
