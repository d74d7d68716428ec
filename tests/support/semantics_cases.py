"""Kernels written from the language's guide and the problems alone, with what equality over the reals should say.

`tests/fixtures/semantics/PROBLEM.toml` holds them: `expect` is "equal", "wrong", or "near" where floats cannot tell the
two apart but the reals can. `difference` judges a kernel without the verifier: the interpreter in f64 against the
problem's reference.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter import interpret
from kernelagent.problems import load
from kernelagent.problems.arrays import make_inputs, run_reference
from kernelagent.problems.problem import Problem, Workload

FOLDER = Path(__file__).parents[1] / "fixtures" / "semantics"
AGREES = 1e-6
"""Relative to the largest element; two formulas in f64 stay far below, and a constant written with 8 digits too."""

DIFFERS = 1e-5


@dataclass(frozen=True)
class Case:
    """One kernel. `stability` and `nan` are "warns" where the lint, and the NaN contract, must speak."""

    problem: str
    name: str
    expect: str
    text: str
    sizes: tuple[Mapping[str, int], ...]
    scalars: Mapping[str, float]
    stability: str = ""
    nan: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.name}"

    @property
    def of(self) -> Problem:
        own = FOLDER / "problems" / f"{self.problem}.py"
        return load(str(own) if own.exists() else self.problem)


def cases() -> tuple[Case, ...]:
    """Every kernel of every file, in order."""
    return tuple(case for path in sorted(FOLDER.glob("*.toml")) for case in read(path))


def read(path: Path) -> list[Case]:
    """The kernels of one file. A text is given whole, or as edits of an earlier one, each of which must bite."""
    whole = tomllib.loads(path.read_text(encoding="utf-8"))
    texts: dict[str, str] = {}
    found = []
    for record in whole["kernel"]:
        texts[record["name"]] = record["text"] if "text" in record else edited(texts[record["base"]], record["edits"])
        text = "edition(1)\n\n" + texts[record["name"]].replace("HEAD", whole["head"])
        extra = {key: record.get(key, "") for key in ("stability", "nan")}
        sizes, scalars = tuple(whole["sizes"]), whole.get("scalars", {})
        found.append(Case(path.stem, record["name"], record["expect"], text, sizes, scalars, **extra))
    return found


def edited(text: str, edits: list[dict[str, str]]) -> str:
    for edit in edits:
        assert edit["old"] in text, f"{edit['old']!r} is not in the text"
        text = text.replace(edit["old"], edit["new"])
    return text


def difference(case: Case) -> float:
    """The largest distance from the reference over the case's sizes, relative to the largest element; inf for NaN."""
    return max(distance(case, dims, seed) for seed, dims in enumerate(case.sizes))


def distance(case: Case, dims: Mapping[str, int], seed: int) -> float:
    workload = Workload("held out", dict(dims), dict(case.scalars))
    inputs = make_inputs(case.of, workload, seed)
    shapes: dict[str, Any] = dict(inputs)
    wanted = run_reference(case.of, inputs, case.scalars)
    shapes.update({name: np.empty(value.shape, np.float32) for name, value in wanted.items()})
    got = interpret(parse(case.text), shapes, case.scalars, widen=True)
    return max(_apart(got[name], value) for name, value in wanted.items())


def _apart(got: Any, wanted: Any) -> float:
    worst = float(np.max(np.abs(np.asarray(got, np.float64) - wanted)))
    return worst / float(np.max(np.abs(wanted))) if np.isfinite(worst) else float("inf")
