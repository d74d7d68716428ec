"""The package list of pyproject.toml is written by hand (folders are imported under other names): keep it complete."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dsl", "solar", "knowledge_base", "harness", "problems")


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"kernelagent"}
    for init in (ROOT / "kernelagent").rglob("__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    for folder in FOLDERS:
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(("kernelagent", *init.parent.relative_to(ROOT).parts)))
    assert found == listed


def test_import_is_light() -> None:
    """`import kernelagent` and the command table load no heavy module."""
    heavy = "{'openai', 'langgraph', 'z3', 'cupy', 'torch', 'numpy', 'jinja2', 'sqlite_utils', 'rich'}"
    code = f"import sys, kernelagent, kernelagent.cli; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_constraints_name_no_addresses() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert all("==" in line for line in text.splitlines() if line and not line.startswith("#"))


def test_imports_point_one_way() -> None:
    """Lower floors import no upper floor: the rule of docs/architecture.md, read from the sources."""
    import ast

    allowed = {
        "problems": set(),
        "dsl": set(),
        "knowledge_base": set(),
        "solar": {"problems"},
        "harness": {"problems", "dsl"},
    }
    packages = {
        *allowed,
        "agent",
        "api",
        "cli",
        "proposers",
        "reports",
        "views",
        "settings",
        "errors",
        "redact",
        "doctor",
    }
    for folder, may in allowed.items():
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for target in _absolute_targets(node):
                    top = target.removeprefix("kernelagent.").split(".")[0]
                    ours = target.startswith("kernelagent.") and top in packages
                    assert not ours or top == folder or top in may, f"{path.relative_to(ROOT)} imports {target}"


def _absolute_targets(node: object) -> list[str]:
    import ast

    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []
