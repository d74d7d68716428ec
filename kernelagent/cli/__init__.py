"""The command line. Each command is a thin wrapper over one library call, imported only when it runs."""

from __future__ import annotations

import importlib
import sys

import click

from kernelagent import __version__

from .failures import report_failure
from .groups import HelpfulGroup

# name -> (module under kernelagent.cli, attribute, line of help)
COMMANDS = {
    "optimize": ("optimize", "optimize", "Find a faster kernel for a problem, or resume a run."),
    "runs": ("runs", "runs", "List, show and compare runs."),
    "problems": ("problems", "problems", "List, show, create and validate problems."),
    "sol": ("sol", "sol", "How fast a problem could possibly run on a chip."),
    "chips": ("chips", "chips", "List chips; measure this machine."),
    "check": ("check", "check", "Parse, type and verify a kernel text."),
    "bench": ("bench", "bench", "Test and time a kernel text on a problem."),
    "inspect": ("inspect", "inspect", "What a kernel text becomes on a GPU: registers, occupancy, opcodes, schedule."),
    "explain": ("explain", "explain", "What a diagnostic code means, with examples."),
    "leaderboard": ("leaderboard", "leaderboard", "The best kernels of all runs: HTML, Markdown, JSON."),
    "kb": ("kb", "kb", "The knowledge base: what was learned."),
    "doctor": ("doctor", "doctor", "What this machine has and what it lacks."),
}


class LazyGroup(HelpfulGroup):
    """Commands by name; a module is imported when its command runs, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        loaded = importlib.import_module(f"{__name__}.{module}")
        command: click.Command = getattr(loaded, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kernelagent")
def cli() -> None:
    """Find kernels that are proved safe, checked, timed honestly, and judged by the speed of light.

    Start with:  kernelagent optimize run softmax
    """


def main() -> None:
    """Entry point: run the command line and turn every known failure into a message and an exit code."""
    try:
        code = cli.main(standalone_mode=False, prog_name="kernelagent")
    except Exception as failure:  # noqa: BLE001 - the one place where everything ends
        sys.exit(report_failure(failure))
    except KeyboardInterrupt as interruption:
        click.echo(str(interruption) or "interrupted", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
