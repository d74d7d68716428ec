"""Candidates for the CPU: parse, fit to the problem, check, compile one binary per class of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.targets import cpu
from kernelagent.dsl.verify.progress import say
from kernelagent.harness.build import BuildFailure, Built, KernelSizes
from kernelagent.harness.extents import fixed_dims, tile_extents
from kernelagent.harness.options import Options
from kernelagent.problems.problem import Problem, Workload

from kernelagent import dsl, problems


def build(text: str, problem: Problem, options: Options) -> Built:
    """Raises BuildFailure for whatever is the text's fault, NoCompiler where there is none."""
    try:
        module = dsl.parse(text)
        bindings = {w.name: _bind(module, problem, w) for w in problem.workloads}
        report = _check(text, problem, options, bindings)
        say("compiling")
        artifacts = _compile(module, bindings, options)
    except KernelError as error:
        raise _rejected(error.diagnostics) from None
    except cpu.CompilerFailed as failure:
        raise BuildFailure("COMPILE_ERROR", failure.output[:4000]) from None
    return _built(module, artifacts, report, _sizes(module, problem, artifacts))


def _sizes(module: ir.Module, problem: Problem, artifacts: Mapping[str, cpu.CpuArtifact]) -> KernelSizes:
    def accepts(workload: Workload, like: str) -> bool:
        try:
            return _fits(artifacts[like], _bind(module, problem, workload))
        except KernelError:
            return False

    first = artifacts[problem.workloads[0].name]
    return KernelSizes(tile_extents(module, problem, first), fixed_dims(module, problem, first), accepts)


def _bind(module: ir.Module, problem: Problem, workload: Workload) -> dsl.Binding:
    """Dims and dtypes of the call that a workload makes. Raises KernelError where the text does not fit."""
    shapes = problems.shapes(problem, workload)
    arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    return dsl.bind(module.entry, arrays, problems.scalars(problem, workload))


def _check(text: str, problem: Problem, options: Options, bindings: Mapping[str, dsl.Binding]) -> Any:
    """The check report, None if none is asked for. Raises BuildFailure if it refutes the text."""
    if options.check == "none":
        return None
    first = problem.workloads[0]
    report = dsl.check(
        text, target="cpu", quick=options.check == "quick", dtypes=bindings[first.name].dtypes,
        scalars=problems.scalars(problem, first), tunables=options.tunables,
    )  # fmt: skip
    if report.verdict == "REFUTED":
        found = tuple(_counterexample(c) for c in report.counterexamples)
        raise BuildFailure("REFUTED", found[0]["message"] if found else "a proof failed", found, _count(report))
    if not report.ok:
        raise _rejected(report.diagnostics)
    return report


def _compile(module: ir.Module, bindings: Mapping[str, dsl.Binding], options: Options) -> dict[str, cpu.CpuArtifact]:
    """A binary per workload; those that agree in the dims which a binary fixes share one."""
    made: list[cpu.CpuArtifact] = []
    result: dict[str, cpu.CpuArtifact] = {}
    for name, binding in bindings.items():
        fitting = next((a for a in made if _fits(a, binding)), None)
        if fitting is None:
            fitting = cpu.compile(module, binding.dtypes, options.tunables, binding.consts, binding.dims)
            made.append(fitting)
        result[name] = fitting
    return result


def _fits(artifact: cpu.CpuArtifact, binding: dsl.Binding) -> bool:
    same_dims = all(binding.dims.get(name) == size for name, size in artifact.dims.items())
    return same_dims and artifact.consts == binding.consts


def _built(
    module: ir.Module, artifacts: Mapping[str, cpu.CpuArtifact], report: Any, sizes: KernelSizes
) -> Built:  # fmt: skip
    first = next(iter(artifacts.values()))
    records = {a.key: {"kind": "cpu_artifact", "artifact": a.to_dict()} for a in artifacts.values()}
    shared = {"": records[first.key]}
    own = {name: records[a.key] for name, a in artifacts.items() if a.key != first.key}
    folders = {str(Path(p).parent) for a in artifacts.values() for p in (a.library_path, a.runtime_path)}
    return Built(
        subjects=shared | own,
        readable=tuple(sorted(folders)),
        deterministic=not any(_adds_atomically(k.body) for k in module.kernels),
        verdict=report.verdict if report else "UNKNOWN",
        proofs=_count(report) if report else {},
        diagnostics=tuple(d.to_dict() for d in report.diagnostics) if report else (),
        report=first.report,
        artifact=first.to_dict(),
        sizes=sizes,
    )


def _adds_atomically(body: Sequence[ir.Statement]) -> bool:
    """Whether the order of additions may differ from run to run: `atomic_add` of floats."""
    return any(s.atomic and s.value.type.dtype in ("f64", "f32", "f16", "bf16") for s in _scatters(body))


def _scatters(body: Sequence[ir.Statement]) -> Iterator[ir.Scatter]:
    for statement in body:
        match statement:
            case ir.Scatter():
                yield statement
            case ir.For():
                yield from _scatters(statement.body)
            case ir.If():
                yield from _scatters((*statement.then, *statement.otherwise))


def _rejected(diagnostics: Sequence[Diagnostic]) -> BuildFailure:
    first = next((d for d in diagnostics if d.severity == "error"), None)
    detail = f"{first.code}: {first.message}" if first else "rejected"
    return BuildFailure("REJECTED", detail, tuple(d.to_dict() for d in diagnostics))


def _counterexample(found: Any) -> dict[str, Any]:
    """A counterexample in the form of a diagnostic, with everything that it knows as facts."""
    line = found.lines[0] if found.lines else None
    return {
        "code": f"refuted-{found.family}", "severity": "error", "message": found.message, "hint": None, "line": line,
        "column": None, "facts": found.to_dict(),
    }  # fmt: skip


def _count(report: Any) -> dict[str, int]:
    from kernelagent.dsl.verify.records import counts

    return counts(report.obligations)
