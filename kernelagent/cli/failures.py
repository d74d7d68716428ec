"""Which failure ends in which exit code, and how it is worded. Unknown ones ask for a report, with a traceback file."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from pathlib import Path

import click

from kernelagent.errors import EXIT_ENVIRONMENT, EXIT_WRONG_CALL, EXIT_WRONG_CANDIDATE, UserError

# Exceptions of the lower floors, by class name: importing their modules here would cost start-up time.
EXIT_CODES = {
    "KernelError": EXIT_WRONG_CANDIDATE,
    "ProblemError": EXIT_WRONG_CANDIDATE,
    "NoProblemFile": EXIT_WRONG_CALL,
    "UnknownProblem": EXIT_WRONG_CALL,
    "UnknownChip": EXIT_WRONG_CALL,
    "SettingsError": EXIT_WRONG_CALL,
    "RunError": EXIT_WRONG_CALL,
    "ChipError": EXIT_WRONG_CANDIDATE,
    "KnowledgeBaseError": EXIT_ENVIRONMENT,
    "NotAnExport": EXIT_WRONG_CANDIDATE,
    "TechniqueError": EXIT_WRONG_CANDIDATE,
    "TraceError": EXIT_WRONG_CANDIDATE,
    "NoCompiler": EXIT_ENVIRONMENT,
    "MissingTool": EXIT_ENVIRONMENT,
    "ModelError": EXIT_ENVIRONMENT,
}


_NO_FAULT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""For want of rights or space; in the state folder any failure is the machine's."""


def report_failure(failure: Exception) -> int:
    """Print the failure to stderr and return the exit code."""
    if isinstance(failure, click.exceptions.Exit):
        return failure.exit_code
    if isinstance(failure, click.Abort):
        click.echo(str(failure.__cause__ or "") or "aborted", err=True)  # an interrupted run says how to go on
        return 130
    if isinstance(failure, click.ClickException):
        failure.show()
        return EXIT_WRONG_CALL
    if isinstance(failure, OSError) and failure.filename is not None:
        in_home = _in_home(failure)
        if in_home or failure.errno in _NO_FAULT:
            click.echo(f"error: {failure.strerror}: {failure.filename}", err=True)
            if in_home:
                click.echo("  help: set KERNELAGENT_HOME to a folder that can be written, with space left", err=True)
            return EXIT_ENVIRONMENT
    code = exit_code(failure)
    if code is None:
        return _unexpected(failure)
    click.echo(f"error: {failure}", err=True)
    hint = getattr(failure, "hint", None)
    if hint:
        click.echo(f"  help: {hint}", err=True)
    return code


def _in_home(failure: OSError) -> bool:
    from kernelagent.settings import load_settings

    return Path(os.fsdecode(failure.filename)).is_relative_to(load_settings().home)


def exit_code(failure: Exception) -> int | None:
    """The exit code of a known failure, looked up along its class hierarchy; None for a surprise."""
    if isinstance(failure, UserError):
        return failure.exit_code
    names = [cls.__name__ for cls in type(failure).__mro__]
    return next((EXIT_CODES[name] for name in names if name in EXIT_CODES), None)


def _unexpected(failure: Exception) -> int:
    with tempfile.NamedTemporaryFile("w", prefix="kernelagent-", suffix=".log", delete=False) as log:
        traceback.print_exception(failure, file=log)
    click.echo(f"internal error: {type(failure).__name__}: {failure}", err=True)
    click.echo(f"  This is a fault of kernelagent, not yours. The traceback is in {Path(log.name)}.", err=True)
    return 70
