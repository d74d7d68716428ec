"""`kernelagent optimize run|resume`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE

from .groups import HelpfulGroup
from .output import is_terminal, json_option, milliseconds, print_json

Command = Callable[..., Any]

BUDGET_OPTIONS = (
    click.option("--trials", type=click.IntRange(min=1), help="Stop after this many trials.  [default: 40]"),
    click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after this time."),
    click.option("--tokens", type=click.IntRange(min=1), help="Stop after this many model tokens."),
    click.option(
        "--max-cost", "max_cost_usd", type=click.FloatRange(min=0, min_open=True), help="Stop at this cost, USD."
    ),
)
MODEL_OPTIONS = (
    click.option("--model", help="Model of the llm proposer."),
    click.option("--base-url", help="Any OpenAI-compatible endpoint; the key comes from OPENAI_API_KEY."),
)


def options(decorators: tuple[Command, ...]) -> Callable[[Command], Command]:
    """Several options as one decorator."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


@click.group(cls=HelpfulGroup)
def optimize() -> None:
    """Find a faster kernel for a problem."""


@optimize.command()
@click.argument("problem")
@click.option("--target", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--proposer", type=click.Choice(["auto", "search", "llm", "replay"]), default="auto", show_default=True)
@click.option("--replay", type=click.Path(exists=True, path_type=Path), help="Recorded answers, or a run to replay.")
@options(MODEL_OPTIONS)
@options(BUDGET_OPTIONS)
@click.option("--chip", help="GPU to rank candidates for, with --target cuda.  [default: h100-sxm]")
@click.option("--arch", help="Its architecture, instead of its name (sm_80, sm_90a ...).")
@click.option("--workload", help="Optimise for this workload.  [default: the problem's first]")
@click.option("--seed", type=int, help="Seed of the search.")
@click.option("--unproved", is_flag=True, default=None, help="Let kernels win that are only tested; labelled.")
@json_option
@click.pass_context
def run(ctx: click.Context, /, problem: str, as_json: bool, **chosen: Any) -> None:
    """Optimise PROBLEM: a built-in name or a problem file.

    With --target cuda no device is used: candidates are proved, compiled, emulated and ranked by a static model for the
    chip. Everything about them is labelled UNTIMED.
    """
    from kernelagent.api import optimize as start

    with _view(as_json) as view:
        result = start(problem, observer=view, **{k: v for k, v in chosen.items() if v is not None})
    _finish(ctx, result.to_dict(), as_json)


@optimize.command()
@click.argument("run_id", metavar="RUN")
@options(MODEL_OPTIONS)
@options(BUDGET_OPTIONS)
@json_option
@click.pass_context
def resume(ctx: click.Context, /, run_id: str, as_json: bool, **chosen: Any) -> None:
    """Go on with an interrupted RUN.

    RUN is its id, the beginning of it, a folder, or `last`.
    """
    from kernelagent.agent.events import read_events
    from kernelagent.agent.run import run_folder
    from kernelagent.api import resume as go_on
    from kernelagent.settings import load_settings

    past = read_events(run_folder(load_settings().runs, run_id))
    with _view(as_json) as view:
        view.board.past(past)
        result = go_on(run_id, observer=view, **_resume_options(chosen))
    _finish(ctx, result.to_dict(), as_json)


def _resume_options(chosen: dict[str, Any]) -> dict[str, Any]:
    """Limits given anew replace the run's own; without any the run keeps what it was started with."""
    given = {name: value for name, value in chosen.items() if value is not None}
    limits = {name: given.pop(name) for name in ("trials", "minutes", "tokens", "max_cost_usd") if name in given}
    if limits:
        from kernelagent.agent.budget import Budget

        given["budget"] = Budget(**limits)
    return given


def _view(as_json: bool) -> Any:
    """Redrawn in place on a terminal; plain lines for pipes and `--json`."""
    if is_terminal() and not as_json:
        from kernelagent.views.live import LiveView

        return LiveView()
    from kernelagent.views.plain import PlainView

    return PlainView()


def _finish(ctx: click.Context, record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        click.echo("\n".join(closing_lines(record)))
    ctx.exit(0 if record["best"] else EXIT_WRONG_CANDIDATE)


def closing_lines(record: dict[str, Any]) -> list[str]:
    """What was found, where it lies, how to call it from Python, what to try next."""
    best, withheld = record["best"], record.get("withheld")
    if not best and withheld:
        return [
            f"no kernel may win: the fastest right one (trial {withheld['trial']}) is {withheld['verdict']}",
            "`kernelagent check` says what its proof lacks; --unproved lets it win, labelled",
            f"look at: kernelagent runs show {record['run']}",
        ]
    if not best:
        return [
            f"no correct kernel was found in {record['trials']} trials",
            f"look at: kernelagent runs show {record['run']}",
        ]
    if record["untimed"]:
        return _untimed_lines(record, best)
    lines = [_found(record, best)]
    if best["trial"] == 0:
        lines.append("winner: the problem's own kernel; no trial was faster")
    rivals = [f"{ratio:.2f}x {name}" for name, ratio in best["speedup"].items()]
    if rivals:
        lines.append(f"speed: {', '.join(rivals)} (times taken in turns, outputs preallocated)")
    slower = [name for name, ratio in best["speedup"].items() if name.startswith("torch") and ratio < 1]
    if slower:
        lines.append(f"keep torch: {slower[0]} is still faster on this workload")
    if best.get("suspect"):
        lines.append(f"suspect: {best['suspect']}")
    return [
        *lines,
        f"checked: {_checked(best)}",
        f"kernel: {best['text_path']}",
        f'call it: import kernelagent; y = kernelagent.load_run("{record["run"]}").kernel(*arrays)',
        f"next: kernelagent optimize resume {record['run']} --trials {record['trials'] + 40}"
        f"   or   kernelagent leaderboard --html leaderboard.html",
    ]


def _untimed_lines(record: dict[str, Any], best: dict[str, Any]) -> list[str]:
    """Nothing was timed: how the winner was chosen, and that it is no result yet."""
    estimate = best["estimate"] or {}
    from kernelagent.solar import load_chip

    bound = (record["sol"] or {}).get("time_ms")
    arch, problem = load_chip(record["chip"]).arch, record["source"] or record["problem"]
    least = f"; the speed of light is {milliseconds(bound)} ms" if bound else ""
    return [
        f"{record['problem']} {record['workload']} for {record['chip']}: UNTIMED, after {record['trials']} trials in "
        f"{record['seconds']:.0f} s ({record['stop_reason']})",
        f"estimate: {milliseconds(estimate.get('time_ms'))} ms by a static model ({estimate.get('bound')}){least}",
        f"checked: {_checked(best)}",
        f"kernel: {best['text_path']}",
        f"next: kernelagent check {best['text_path']} --problem {problem} --target cuda --arch {arch}",
    ]


def _checked(best: dict[str, Any]) -> str:
    """Obligations by verdict, and how far the kernel is its reference."""
    from kernelagent.dsl.verify.summary import level_text

    found = [f"{n} {verdict}" for verdict, n in sorted(best["proofs"].items())]
    level = level_text(best.get("semantics") or "")
    return ", ".join([*found, *([level] if level else [])])


def _found(record: dict[str, Any], best: dict[str, Any]) -> str:
    from kernelagent.views.summary import share

    near = f", {share(best['sol_fraction'])} of this machine's ceiling" if best.get("sol_fraction") else ""
    return (
        f"{record['problem']} {record['workload']}: {milliseconds(best['time_ms'])} ms{near}, "
        f"{best['status']}, after {record['trials']} trials in {record['seconds']:.0f} s ({record['stop_reason']})"
    )
