"""Import this first to run from a checkout that is not installed: the folders beside it are the package's own."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if find_spec("kernelagent") is None or find_spec("kernelagent.dsl") is None:
    sys.path.insert(0, str(ROOT))
    import kernelagent

    kernelagent.__path__.append(str(ROOT))
