"""Finding problems: the built-in ones by name, a user's own by the path of its file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from kernelagent.problems.problem import Problem

_BUILT_IN = (
    "bias_gelu_residual", "softmax", "rmsnorm", "layernorm", "cross_entropy", "row_sum", "transpose", "rope",
    "gemm_nn", "gemm_nt", "linear_gelu", "swiglu", "attention", "attention_causal",
)  # fmt: skip
_ALIASES = {"gemm": "gemm_nn"}


class UnknownProblem(Exception):
    """No built-in problem has this name; `nearest` lists similar ones."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nearest = tuple(difflib.get_close_matches(name, [*_BUILT_IN, *_ALIASES], n=3, cutoff=0.4))
        hint = f"did you mean {' or '.join(self.nearest)}?" if self.nearest else f"known: {', '.join(_BUILT_IN)}"
        super().__init__(f"unknown problem {name!r}; {hint}")


class ProblemError(Exception):
    """A problem file is wrong: `path`, `line` (None if unknown) and `reason`."""

    def __init__(self, path: str, line: int | None, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")


class NoProblemFile(ProblemError):
    """There is no such file: the call is wrong, not the problem."""


def names() -> tuple[str, ...]:
    """The built-in problems."""
    return _BUILT_IN


def load(name_or_path: str | Path) -> Problem:
    """A built-in problem by name, or the `PROBLEM` of a Python file.

    Raises UnknownProblem with the nearest names, or ProblemError with file, line and reason.
    """
    text = str(name_or_path)
    name = _ALIASES.get(text, text)
    if name in _BUILT_IN:
        problem = importlib.import_module(f".{name}", __package__).PROBLEM
        assert isinstance(problem, Problem)
        return problem
    if text.endswith(".py") or "/" in text or "\\" in text:
        return _load_file(Path(text))
    raise UnknownProblem(text)


def _load_file(path: Path) -> Problem:
    if path.is_dir():
        raise ProblemError(str(path), None, "is a folder; a problem is a Python file")
    if not path.is_file():
        raise NoProblemFile(str(path), None, "no such file")
    if path.suffix != ".py":
        raise ProblemError(str(path), None, "not a Python file; kernel texts go to `check`, `bench` and `inspect`")
    problem = getattr(_execute(path), "PROBLEM", None)
    if problem is None:
        raise ProblemError(str(path), None, "defines no PROBLEM; `problems new NAME` writes a file to start from")
    if not isinstance(problem, Problem):
        raise ProblemError(str(path), None, f"PROBLEM is a {type(problem).__name__}, not a kernelagent.Problem")
    return problem


def _execute(path: Path) -> ModuleType:
    """Run a user's problem file. It is the user's own program, unlike a candidate's kernel text."""
    module_name = f"_kernelagent_problem_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look the module up by name
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ProblemError(error.filename or str(path), error.lineno, f"syntax error: {error.msg}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's file raises is its own mistake
        raise ProblemError(str(path), _line_in(path, error), f"{type(error).__name__}: {error}") from None
    return module


def _line_in(path: Path, error: BaseException) -> int | None:
    """The last line of `path` that the error passed through."""
    own = str(path)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    return lines[-1] if lines else None
