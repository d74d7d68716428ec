"""A click group that names the nearest subcommand when one is misspelt."""

from __future__ import annotations

from typing import Any

import click

from kernelagent.errors import nearest


class HelpfulGroup(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            guess = nearest(name, self.list_commands(ctx))
            ctx.fail(f"No such command '{name}'." + (f" Did you mean '{guess}'?" if guess else ""))
        return super().resolve_command(ctx, args)
