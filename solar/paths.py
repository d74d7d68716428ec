"""Where state lives: $KERNELAGENT_HOME, else the platform's data directory."""

from __future__ import annotations

import os
from pathlib import Path


def calibrated_chips() -> Path:
    """The folder of chip descriptions measured on this machine; not created here."""
    home = os.environ.get("KERNELAGENT_HOME")
    if home:
        return Path(home) / "chips"
    from platformdirs import user_data_path

    return user_data_path("kernelagent") / "chips"
