"""The prompts: everything that is known, rendered from templates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from kernelagent.dsl.diagnostics import Diagnostic, Span, render_all
from kernelagent.errors import EnvironmentLack
from kernelagent.knowledge_base.records import Suggestion, Trial
from kernelagent.problems.problem import Problem, Tensor

from .base import Context, Failed

SUGGESTIONS = 6
TRIALS_SHOWN = 12
LONGEST_TEXT = 20_000
"""Characters of a failed text that are sent back."""


@cache
def _templates() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("kernelagent.proposers", "prompts"), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def guide() -> str:
    """The language guide that is shipped with the compiler. Raises EnvironmentLack when it is missing."""
    try:
        return (resources.files("kernelagent.dsl") / "language.md").read_text(encoding="utf-8")
    except OSError:
        raise EnvironmentLack(
            "the language guide is missing from this installation", "install kernelagent again"
        ) from None


def system_prompt(language: str) -> str:
    return str(_templates().get_template("system.j2").render(guide=language))


def proposal_prompt(context: Context) -> str:
    """Problem, bound, best kernel, techniques, and what became of the trials so far."""
    problem, best = context.problem, context.best
    return str(_templates().get_template("propose.j2").render(
        problem=problem, workload=context.workload, target=context.target, chip=context.chip,
        reference=reference_source(problem), inputs=_tensors(problem.inputs), outputs=_tensors(problem.outputs),
        scalars=", ".join(f"{s.name}: {s.dtype} = {s.value}" for s in problem.scalars),
        sizes=_dims(context.workload.dims), all_sizes="; ".join(_dims(w.dims) for w in problem.workloads),
        ceiling=context.ceiling or context.bound, timed=context.timed, best=best, report=_report(context, best),
        seed_ms=context.history[0].time_ms if context.history else None, seed_text=problem.seed_kernel,
        bottleneck=context.bottleneck, regime=context.regime, suggestions=list(context.suggestions)[:SUGGESTIONS],
        tried=context.history[-TRIALS_SHOWN:], last_failure=_last_failure(context), ms=_ms, expected=_expected,
    ))  # fmt: skip


def repair_prompt(failed: Failed) -> str:
    """What is wrong with the last answer, as the compiler says it."""
    text = failed.proposal.text
    found = [_diagnostic(d) for d in failed.diagnostics]
    said = render_all(found, text) if text is not None else ""
    return str(_templates().get_template("repair.j2").render(
        text=_ended(text[:LONGEST_TEXT]) if text is not None else "", diagnostics=said,
        failure=failed.proposal.failure or "it holds no kernel",
    ))  # fmt: skip


def reference_source(problem: Problem) -> str:
    """Source of the reference; empty where Python does not have it (typed at a prompt)."""
    try:
        return inspect.getsource(problem.reference).rstrip()
    except (OSError, TypeError):
        return ""


def _last_failure(context: Context) -> Trial | None:
    """The trial just before this one, if it failed with a text."""
    last = context.history[-1] if context.history else None
    return last if last is not None and last.time_ms is None and last.text else None


def _report(context: Context, best: Trial | None) -> list[str]:
    facts: Mapping[str, Any] = context.facts.get(best.id, {}) if best else {}
    return [str(line) for line in (facts.get("evaluation") or {}).get("report", ())][:12]


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name}: {t.dtype}[{', '.join(map(str, t.dims))}]" for t in tensors)


def _dims(dims: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in dims.items())


def _ms(value: float) -> str:
    return f"{value:.4g}"


def _expected(suggestion: Suggestion) -> float:
    return math.exp(suggestion.expected_log_gain)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _diagnostic(record: Mapping[str, Any]) -> Diagnostic:
    span = record.get("span")
    return Diagnostic(
        record["code"], record["message"], Span(**span) if span else None, record["severity"], record.get("hint")
    )
