"""Puts a run together from what a person asked for: problem, workload, laboratory, proposer, knowledge base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelagent.errors import CallError, nearest
from kernelagent.problems import load
from kernelagent.problems.problem import Problem, Workload
from kernelagent.proposers.base import ModelError, Proposer
from kernelagent.redact import Redactor, secrets_of
from kernelagent.settings import Settings

from .budget import Budget
from .events import LOG_NAME, Observer, RunError, read_events
from .laboratory import Laboratory, Recording
from .run import Means, Plan
from .steering import Policy

if TYPE_CHECKING:
    from kernelagent.knowledge_base import KnowledgeBase

PROPOSERS = ("auto", "search", "llm", "replay")
ProblemLike = Problem | str | os.PathLike[str]


@dataclass(frozen=True)
class Wish:
    """A call of `optimize` for one problem. `measure` False takes the times of the replayed run."""

    problem: ProblemLike
    settings: Settings
    budget: Budget
    target: str = "auto"
    proposer: str = "auto"
    workload: str | None = None
    replay: str | os.PathLike[str] | None = None
    measure: bool = True
    remember: bool = True
    rivals: tuple[str, ...] | None = None
    chip: str | None = None
    arch: str | None = None


def assemble(wish: Wish, observer: Observer | None) -> tuple[Plan, Means]:
    """Plan and means of a new run. Raises CallError for what does not exist, EnvironmentLack for what is missing."""
    problem, source = find_problem(wish.problem)
    workload = find_workload(problem, wish.workload)
    settings = wish.settings
    name = proposer_name(wish)
    redactor = Redactor(secrets_of(extra=[settings.api_key]))
    laboratory = make_laboratory(wish, problem, workload)
    proposer = make_proposer(name, wish, laboratory, redactor, problem, workload)
    plan = Plan(
        problem, workload, source, wish.budget, Policy(settings.stop_within, settings.patience), settings.seed,
        settings.repairs, settings.public(), settings.model if name == "llm" else None,
        str(_recording(wish).resolve()) if name == "replay" else None, wish.measure, _untimed(wish),
    )  # fmt: skip
    return plan, Means(laboratory, proposer, make_base(wish, redactor), redactor, observer)


def wish_again(started: Mapping[str, Any], wish: Wish) -> Wish:
    """The wish of a run that is resumed: its own problem, workload, target, proposer, model and seed.

    Where the model is (address, key, prices) comes from the settings of today.
    """
    problem = wish.problem if isinstance(wish.problem, Problem) else started["source"]
    if problem is None:
        raise CallError(f"the problem of run {started['run']} was built in memory", "resume it with problem=...")
    settings = replace(wish.settings, seed=started["seed"], model=started.get("model") or wish.settings.model,
                       stop_within=started["policy"]["within"], patience=started["policy"]["patience"],
                       repairs=started["repairs"])  # fmt: skip
    return replace(wish, problem=problem, workload=started["workload"], target=started["target"],
                   proposer=started["proposer"], settings=settings, replay=wish.replay or started.get("replay"),
                   measure=wish.measure and started.get("measure", True),
                   chip=started["chip"] if started.get("untimed") else None)  # fmt: skip


def find_problem(wanted: ProblemLike) -> tuple[Problem, str | None]:
    """The problem, and where it is found again (None for one in memory). Raises UnknownProblem, ProblemError."""
    if isinstance(wanted, Problem):
        from kernelagent.harness.problem_source import source_of

        found = source_of(wanted)
        return wanted, found.location if found else None
    problem = load(os.fspath(wanted))
    path = Path(os.fspath(wanted))
    return problem, str(path.resolve()) if path.is_file() else os.fspath(wanted)


def find_workload(problem: Problem, name: str | None) -> Workload:
    """By name, the headline for None. Raises CallError with the nearest name."""
    names = [w.name for w in problem.workloads]
    if name is None:
        return problem.headline
    if name not in names:
        guess = nearest(name, names)
        hint = f"did you mean '{guess}'?" if guess else f"known: {', '.join(names)}"
        raise CallError(f"{problem.name} has no workload '{name}'", hint)
    return problem.workload(name)


def proposer_name(wish: Wish) -> str:
    """`auto` asks a model when one is set up, a recording when one is given, and searches otherwise."""
    if wish.proposer not in PROPOSERS:
        guess = nearest(wish.proposer, PROPOSERS)
        raise CallError(f"unknown proposer '{wish.proposer}'", f"did you mean '{guess or 'search'}'?")
    if wish.proposer != "auto":
        return wish.proposer
    if wish.replay is not None:
        return "replay"
    return "llm" if wish.settings.model and (wish.settings.api_key or wish.settings.base_url) else "search"


def make_laboratory(wish: Wish, problem: Problem, workload: Workload) -> Laboratory:
    """Compiler and clock, or the measurements of the replayed run; for a GPU, compiler and static model."""
    if wish.target != "cuda" and (wish.chip or wish.arch):
        raise CallError("a chip or an architecture is chosen for a GPU only", "add --target cuda")
    if not wish.measure:
        return Recording(read_events(_recording(wish)))
    if wish.target == "cuda":
        from .untimed import UntimedBench, chip_for

        return UntimedBench(problem, workload, chip_for(wish.chip, wish.arch))
    from .workbench import Workbench

    return Workbench(problem, workload, wish.target, **({} if wish.rivals is None else {"rivals": wish.rivals}))


def _untimed(wish: Wish) -> bool:
    """Whether the run has estimates instead of times; a replay without measurements is what its recording is."""
    if wish.measure:
        return wish.target == "cuda"
    return any(e.get("untimed") for e in read_events(_recording(wish)) if e["kind"] == "run-started")


def make_proposer(
    name: str, wish: Wish, laboratory: Laboratory, redactor: Redactor, problem: Problem, workload: Workload
) -> Proposer:
    """Raises CallError or ModelError for what a proposer lacks."""
    if name == "replay":
        from kernelagent.proposers.replay import replay_file

        return replay_file(_recording(wish))
    if name == "llm":
        from kernelagent.proposers.chat import Chat
        from kernelagent.proposers.llm import LlmProposer

        return LlmProposer(Chat(endpoint(wish.settings)), redactor)
    from kernelagent.proposers.emitted import emitted_code
    from kernelagent.proposers.search import SearchProposer
    from kernelagent.proposers.static_cost import static_cost

    def acceptable(text: str) -> bool:
        return all(d.severity != "error" for d in laboratory.check(text))

    if laboratory.target == "cuda":
        from .estimating import device_code, quick_estimate
        from .untimed import rates_for

        rates = rates_for(laboratory.chip)
        return SearchProposer(acceptable, quick_estimate(problem, workload, rates),
                              device_code(problem, workload, rates.arch))  # fmt: skip
    code = emitted_code(problem, workload) if laboratory.target == "cpu" else None
    return SearchProposer(acceptable, static_cost(problem, workload, os.cpu_count() or 1), code)


def endpoint(settings: Settings) -> Any:
    """Raises CallError without a model, ModelError without a key (an endpoint of one's own may need none)."""
    from kernelagent.proposers.chat import Endpoint

    if not settings.model:
        raise CallError("the llm proposer needs a model", "name one with --model or KERNELAGENT_MODEL")
    if not settings.api_key and not settings.base_url:
        raise ModelError(
            "there is no key for the model's endpoint", "set OPENAI_API_KEY, or --base-url of your own server"
        )
    return Endpoint(
        model=settings.model, api_key=settings.api_key or "none", base_url=settings.base_url, stream=settings.stream,
        temperature=settings.temperature, timeout_s=settings.timeout_s, retries=settings.retries,
        max_answer_bytes=settings.max_answer_bytes, input_usd_per_million=settings.input_usd_per_million,
        output_usd_per_million=settings.output_usd_per_million, longest_wait_s=settings.longest_wait_s,
    )  # fmt: skip


def make_base(wish: Wish, redactor: Redactor) -> KnowledgeBase | None:
    """The base of this user; none for a replay without measurements, which would teach it the same things twice."""
    if not wish.remember or not wish.measure:
        return None
    from kernelagent.knowledge_base import KnowledgeBase

    return KnowledgeBase(wish.settings.knowledge_base, redactor.secrets)


def _recording(wish: Wish) -> Path:
    """A file or folder as given, else a run by its name."""
    if wish.replay is None:
        raise CallError("a replay needs a recording", "name a run or a file of answers")
    path = Path(os.fspath(wish.replay))
    if path.exists():
        return path
    folder = wish.settings.runs / path
    if (folder / LOG_NAME).is_file():
        return folder
    raise RunError(f"there is no recording {wish.replay}")


__all__: Sequence[str] = ["PROPOSERS", "ProblemLike", "Wish", "assemble", "find_problem", "find_workload", "wish_again"]
