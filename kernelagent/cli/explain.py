"""`kernelagent explain CODE`, also of a family of proofs."""

from __future__ import annotations

import click

from kernelagent.errors import CallError, nearest

from .output import json_option, print_json

NEAR = 0.7
"""Codes are words: less alike is another word."""
VERDICTS = {
    "PROVED": "It holds for all sizes that the kernel, or the shape class, takes.",
    "PROVED_BOUNDED": "It holds by a complete argument for the sizes that the detail names. Such a kernel wins a run "
    "only where they cover the workload: `check --problem` also tries those of the problem's workloads.",
    "TESTED": "There was no failure in the runs that the detail names; other sizes were not looked at.",
    "UNKNOWN": "Nothing was shown; the detail says what stopped it. Such a kernel is timed and labelled, and wins on "
    "request only (`optimize run --unproved`).",
    "REFUTED": "There is a counterexample, and it happened again before it was shown. Such a kernel is never compiled, "
    "timed or exported.",
    "EQUAL_OVER_REALS": "Every element of the output is the reference's formula, for all sizes; rounding is tested, "
    "not proved.",
    "FIELD_TESTED": "Kernel and reference were equal in that many runs over finite fields.",
    "NUMERICALLY_TESTED": "Kernel and reference were equal within rounding in that many runs.",
}
STATUSES = {
    "PASSED": "Right on every workload and distribution of inputs that was tried, and timed.",
    "INCONCLUSIVE": "Right, and timed, but the times scatter too much for a narrow interval.",
    "UNTIMED": "Proved, compiled through the static gates and emulated, but there is no device: its milliseconds are a "
    "static model's estimate, for ranking within the run.",
    "REJECTED": "The text does not parse, type or fit the problem, or was tried before; nothing was compiled.",
    "COMPILE_ERROR": "The compiler or a static gate (spills, shared memory) refused it.",
    "INCORRECT_NUMERICAL": "A value differs from the fp64 reference by more than rounding explains.",
    "INCORRECT_SHAPE": "An output has another shape than the problem says.",
    "INCORRECT_DTYPE": "An output has another dtype than the problem says.",
    "INVALID_REFERENCE": "The problem's reference fails, or is not finite: the problem is wrong, not the kernel.",
    "REWARD_HACK": "It changed arrays that it may only read, or other memory that is not its own.",
    "TIMEOUT": "It took far longer than it may.",
    "RUNTIME_ERROR": "It crashed, or could not be timed again.",
}


@click.command()
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """What a diagnostic CODE means, with a wrong and a right example. Without CODE: all codes.

    CODE may be a family of proofs too, as `check` names them: bounds, races, coverage ...
    """
    from kernelagent.dsl.catalogue import entries, families
    from kernelagent.dsl.catalogue import explain as explanation

    known, about = entries(), families()
    if code is None and as_json:
        return print_json({name: entry.title for name, entry in sorted(known.items())})
    if code is None:
        for name, entry in sorted(known.items()):
            click.echo(f"{name:28} {entry.title}")
        others = (("families of proofs", about), ("verdicts", VERDICTS), ("statuses of trials", STATUSES))
        for title, names in others:
            click.echo(f"\n{title}: {', '.join(names)}")
        return None
    if said := (VERDICTS | STATUSES).get(code.partition("(")[0].upper()):
        return _word(code.partition("(")[0].upper(), said, as_json)
    code = next((name for name in (*known, *about) if name == code.lower()), code)
    if code in about and code not in known:
        return _family(code, about[code], as_json)
    if code not in known:
        guess = nearest(code, (*known, *about), NEAR)
        hint = f"did you mean '{guess}'?" if guess else "`kernelagent explain` lists all codes"
        raise CallError(f"there is no diagnostic code or family '{code}'", hint)
    if as_json:
        return print_json({"code": code, "title": known[code].title, "text": explanation(code)})
    click.echo(explanation(code))
    return _family(code, about[code], as_json) if code in about else None


def _word(name: str, means: str, as_json: bool) -> None:
    from textwrap import fill

    kind = "a verdict or level of proofs" if name in VERDICTS else "a status of a trial"
    if as_json:
        return print_json({"code": name, "title": kind, "text": means})
    return click.echo(f"{name}: {kind}\n\n{fill(means, 100)}\n")


def _family(name: str, holds: str, as_json: bool) -> None:
    from textwrap import fill

    if as_json:
        return print_json({"code": name, "title": "a family of proofs", "text": holds})
    return click.echo(f"{name}: a family of proofs; it holds when\n\n{fill(holds, 100)}\n")
