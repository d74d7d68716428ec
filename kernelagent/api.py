"""The library's front door: `optimize`, `resume`, `check`, `bench`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from kernelagent.agent.assembly import ProblemLike, Wish, assemble, find_problem, wish_again
from kernelagent.agent.budget import Budget
from kernelagent.agent.campaign import share
from kernelagent.agent.events import Observer, RunError, read_events
from kernelagent.agent.outcome import result_record
from kernelagent.agent.run import complete, run_folder, start
from kernelagent.agent.run import resume as resume_run
from kernelagent.agent.state import replay_state
from kernelagent.errors import CallError
from kernelagent.problems.problem import Problem
from kernelagent.settings import Settings, load_settings

if TYPE_CHECKING:
    from kernelagent.dsl.check_gpu import GpuTarget
    from kernelagent.dsl.check_text import CheckReport
    from kernelagent.dsl.verify.proofs import Use
    from kernelagent.harness.records import Evaluation


@dataclass(frozen=True)
class Result:
    """What a run found. `record` has the promised keys of `optimize run --json`; times in ms."""

    record: Mapping[str, Any]
    folder: Path
    problem: Problem

    @property
    def run(self) -> str:
        return str(self.record["run"])

    @property
    def best(self) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.record["best"]
        return found

    @property
    def time_ms(self) -> float | None:
        return self.best["time_ms"] if self.best else None

    @property
    def speedup(self) -> Mapping[str, float]:
        """By baseline, `seed` among them; above 1 the kernel is faster."""
        return self.best["speedup"] if self.best else {}

    @property
    def stop_reason(self) -> str | None:
        reason: str | None = self.record["stop_reason"]
        return reason

    @property
    def text(self) -> str:
        """The winning kernel. Raises CallError when no kernel was right."""
        if self.best is None:
            raise CallError(f"run {self.run} found no right kernel")
        return (self.folder / "best.tile").read_text(encoding="utf-8")

    @cached_property
    def kernel(self) -> Callable[..., Any]:
        """The winner as a function: `result.kernel(*inputs, **scalars)` allocates and returns the output, or a tuple.

        Inputs are arrays in the problem's order; scalars default to the problem's values. Any sizes that the kernel
        accepts will do. Raises CallError or KernelError for arrays that do not fit.
        """
        from kernelagent.agent.calling import CallableKernel

        return CallableKernel(self.text, self.problem)

    def to_dict(self) -> dict[str, Any]:
        """The record, with the kernel's place on this machine (within the folder it is relative: folders travel)."""
        best = {**self.best, "text_path": str(self.folder / self.best["text_path"])} if self.best else None
        return {**self.record, "best": best}


@overload
def optimize(problem: ProblemLike, *args: Any, **options: Any) -> Result: ...
@overload
def optimize(problem: Sequence[ProblemLike], *args: Any, **options: Any) -> list[Result]: ...
def optimize(
    problem: ProblemLike | Sequence[ProblemLike],
    target: str = "auto",
    budget: Budget | None = None,
    proposer: str = "auto",
    *,
    workload: str | None = None,
    observer: Observer | None = None,
    settings: Settings | None = None,
    replay: str | os.PathLike[str] | None = None,
    measure: bool = True,
    remember: bool = True,
    rivals: tuple[str, ...] | None = None,
    chip: str | None = None,
    arch: str | None = None,
    **options: Any,
) -> Result | list[Result]:
    """Find a faster kernel for a problem; for a list of problems, share the budget where it helps most.

    `problem`: a built-in name, a problem file, or a `Problem`. `proposer`: `search`, `llm`, `replay` (with `replay=`
    a recording), or `auto`: `llm` when a model and a key are set, else `search`. `observer` receives every event as it
    is written. `measure=False` takes the times from the replayed run. `remember=False` leaves the knowledge base alone.
    `rivals` names the baselines (default: all that this machine has). With `target="cuda"` nothing is timed: texts are
    ranked for `chip` (default: an H100, or the first of `arch`) by a static model, labelled UNTIMED. Further options
    are settings by name (`model=`, `seed=`, `patience=` ...).

    Raises CallError and its kin for a wrong call, EnvironmentLack for what the machine lacks, ModelError when a
    model cannot be used, Interrupted (a KeyboardInterrupt) when stopped; what was done until then can be resumed.
    """
    chosen = settings or load_settings(options)
    limits = budget or Budget(chosen.trials, chosen.minutes, chosen.tokens, chosen.max_cost_usd)
    wanted = [problem] if isinstance(problem, Problem | str | os.PathLike) else list(problem)
    wishes = [
        Wish(p, chosen, limits, target, proposer, workload, replay, measure, remember, rivals, chip, arch)
        for p in wanted
    ]
    found = _run(wishes, limits, chosen.runs, observer)
    return found[0] if isinstance(problem, Problem | str | os.PathLike) else found


def _run(wishes: Sequence[Wish], budget: Budget, runs: Path, observer: Observer | None) -> list[Result]:
    assembled = [assemble(wish, observer) for wish in wishes]
    if len(assembled) == 1:
        plan, means = assembled[0]
        with start(plan, means, runs) as run:
            records = [complete(run)]
    else:
        records = share(assembled, budget, runs)
    return [Result(r, runs / r["run"], plan.problem) for r, (plan, _) in zip(records, assembled, strict=True)]


def resume(
    run: str | os.PathLike[str],
    *,
    problem: Problem | None = None,
    budget: Budget | None = None,
    observer: Observer | None = None,
    settings: Settings | None = None,
    replay: str | os.PathLike[str] | None = None,
    measure: bool = True,
    remember: bool = True,
    rivals: tuple[str, ...] | None = None,
    **options: Any,
) -> Result:
    """Go on with a run that was interrupted, or, with a larger `budget`, with one that had ended.

    `problem` is needed for a run whose problem was built in memory. Raises RunError for a run that cannot be used.
    """
    chosen = settings or load_settings(options)
    folder = run_folder(chosen.runs, os.fspath(run))
    events = read_events(folder)
    state = replay_state(events)
    if not state.started:
        raise RunError(f"run {folder.name} never began", "start it anew")
    wish = Wish(problem or "", chosen, budget or state.budget, replay=replay, measure=measure, remember=remember,
                rivals=rivals)  # fmt: skip
    wish = wish_again(state.started, wish)
    if state.finished is not None and budget is None:
        record = result_record(events)
        assert record is not None
        return Result(record, folder, find_problem(wish.problem)[0])
    plan, means = assemble(wish, observer)
    with resume_run(folder, plan, means) as opened:
        return Result(complete(opened), folder, plan.problem)


def load_run(run: str | os.PathLike[str] = "last", problem: Problem | None = None) -> Result:
    """The result of a run as it stands, by its id, its beginning, its folder, or `last`.

    `problem` is needed for a run whose problem was built in memory. Raises RunError when nothing was evaluated yet.
    """
    folder = run_folder(load_settings().runs, os.fspath(run))
    record = result_record(read_events(folder))
    if record is None:
        raise RunError(f"run {folder.name} has evaluated nothing yet", f"kernelagent optimize resume {folder.name}")
    source = replay_state(read_events(folder)).started["source"]
    return Result(record, folder, problem or find_problem(source or record["problem"])[0])


def check(
    text: str,
    problem: ProblemLike | None = None,
    *,
    target: str = "cpu",
    quick: bool = False,
    arch: str | None = None,
    dtypes: Mapping[str, str] | None = None,
    dims: Mapping[str, int] | None = None,
    against: str | None = None,
    recheck: bool = False,
) -> CheckReport:
    """Parse, type and verify a kernel text, against a problem if one is given; never raises for its mistakes.

    `target` "cuda" proves its schedules and compiles it for `arch` too, "emu" runs the code for `arch` in the emulator;
    neither needs a GPU. `arch` is by default that of a level-two text, else sm_80. `against`: the level-one text whose
    values a level-two text must have. `recheck`: prove schedules again and compare with the kept proofs.
    `dtypes` (of dtype variables, default f32) and `dims` (that are tile extents) are for a text without a problem.
    Raises CallError for them beside a problem, MissingTool or NoCompiler for what this machine lacks.
    """
    if problem is not None and (dtypes or dims):
        raise CallError("the problem decides dtypes and dims", "leave out --dtype and --dim, or --problem")
    from kernelagent.dsl.level2 import target_of
    from kernelagent.named import refuse_unknown

    refuse_unknown(text, dtypes or {}, dims or {})
    own = target_of(text)
    if own is not None and problem is not None:
        raise CallError("a level-two text is checked without a problem", "leave out --problem, compare with --against")
    if against is not None and own is None:
        raise CallError("only a level-two text is compared with another", "compare a kernel with --problem")
    arch = arch or own or "sm_80"
    proofs: Use = "recheck" if recheck else "cached"
    if problem is None:
        from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
        from kernelagent.dsl.check_schedule import check_schedule
        from kernelagent.dsl.check_text import check as check_text

        if target in ("cuda", "emu"):
            calls = GpuCalls(arch, dtypes or {}, dims=dims or {}, against=against, proofs=proofs)
            return check_gpu(text, cast("GpuTarget", target), calls, None, quick)
        if own is not None:
            return check_schedule(text, quick, against, proofs)
        return check_text(text, target=target, quick=quick, dtypes=dtypes)
    from kernelagent.checking import check_for, check_gpu_for

    found = find_problem(problem)[0]
    if target in ("cuda", "emu"):
        return check_gpu_for(text, found, cast("GpuTarget", target), arch, quick)
    return check_for(text, found, target, quick)


def bench(text: str, problem: ProblemLike, target: str = "auto", workloads: Sequence[str] = ()) -> Evaluation:
    """Test a kernel text on every workload of a problem and time it on some (default: all), with all baselines."""
    from kernelagent.agent.workbench import bench as bench_text

    return bench_text(text, find_problem(problem)[0], target, tuple(workloads))
