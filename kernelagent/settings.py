"""Settings: options > `KERNELAGENT_*` variables > `kernelagent.toml` > defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from .errors import CallError, nearest

FILE_NAME = "kernelagent.toml"
PREFIX = "KERNELAGENT_"
KEY_VARIABLES = ("KERNELAGENT_API_KEY", "OPENAI_API_KEY")


class SettingsError(CallError):
    """A setting is unknown, has the wrong type or an impossible value; the message names where it came from."""


@dataclass(frozen=True)
class Settings:
    """What a person may set. `sources` says for each name where its value came from."""

    home: Path = field(default_factory=lambda: _data_directory())
    target: str = "auto"
    proposer: str = "auto"
    seed: int = 0
    trials: int = 40
    minutes: float | None = None
    tokens: int | None = None
    max_cost_usd: float | None = None
    stop_within: float = 0.05  # stop at (1 + this) times the bound
    patience: int = 16  # trials without progress before the run stops
    model: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    stream: bool = True
    temperature: float | None = None
    timeout_s: float = 120.0  # of one model request: to the first byte, and between bytes
    retries: int = 4
    unproved: bool = False  # kernels that are only tested, or proved for other sizes, may win
    repairs: int = 2  # times that a wrong text is sent back within a trial
    longest_wait_s: float = 60.0  # whatever a busy endpoint asks for
    max_answer_bytes: int = 200_000
    input_usd_per_million: float | None = None
    output_usd_per_million: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.home / "runs"

    @property
    def knowledge_base(self) -> Path:
        """File of the knowledge base."""
        return self.home / "knowledge.db"

    def public(self) -> dict[str, Any]:
        """Everything but the key, as JSON values: what a run records."""
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("sources", "api_key")}
        return {**record, "home": str(self.home), "api_key_set": self.api_key is not None}


_NAMES = tuple(f.name for f in fields(Settings) if f.name != "sources")
_POSITIVE = ("timeout_s", "max_answer_bytes", "patience")


def load_settings(
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settings from all sources; options whose value is None count as not given.

    `folder` (default: the working directory) and its parents are searched for `kernelagent.toml`.
    Raises SettingsError for an unknown name, a wrong type, or a key kept in a file.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    layers = (*_file_layer(folder or Path.cwd()), *_environment_layer(variables), *_option_layer(options or {}))
    for name, value, source in layers:
        values[name] = _checked(name, value, source)
        sources[name] = source
    return Settings(**values, sources=sources)


Entry = tuple[str, Any, str]


def _option_layer(options: Mapping[str, Any]) -> list[Entry]:
    return [(_known(name, "option"), value, f"option {name}") for name, value in options.items() if value is not None]


def _environment_layer(variables: Mapping[str, str]) -> list[Entry]:
    """Variables of other tools under the same prefix are left alone."""
    found = [(name, variables.get(PREFIX + name.upper()), PREFIX + name.upper()) for name in _NAMES]
    entries: list[Entry] = [(name, text, source) for name, text, source in found if text]
    for name, variable in (("api_key", "OPENAI_API_KEY"), ("base_url", "OPENAI_BASE_URL")):
        if not variables.get(PREFIX + name.upper()) and variables.get(variable):
            entries.append((name, variables[variable], variable))
    return entries


def _file_layer(folder: Path) -> list[Entry]:
    path = next((p / FILE_NAME for p in (folder, *folder.parents) if (p / FILE_NAME).is_file()), None)
    if path is None:
        return []
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if "api_key" in record:
        raise SettingsError(f"{path}: keys do not belong in files", f"set {' or '.join(KEY_VARIABLES)} instead")
    return [(_known(name, str(path)), _relative(name, value, path), str(path)) for name, value in record.items()]


def _relative(name: str, value: Any, path: Path) -> Any:
    """A folder in a file counts from that file."""
    return str(path.parent / value) if name == "home" and isinstance(value, str) else value


def _known(name: str, source: str) -> str:
    if name not in _NAMES:
        guess = nearest(name, _NAMES)
        raise SettingsError(f"{source}: unknown setting '{name}'", f"did you mean '{guess}'?" if guess else None)
    return name


def _checked(name: str, value: Any, source: str) -> Any:
    wanted = _TYPES[name]
    converted = _converted(value, wanted)
    if converted is None:
        raise SettingsError(f"{source}: '{name}' must be {_WORDS[wanted]}, got {value!r}")
    if wanted in (int, float) and name != "seed" and not 0 <= converted < float("inf"):
        raise SettingsError(f"{source}: '{name}' must not be negative, got {value!r}")
    if name in _POSITIVE and not converted > 0:
        raise SettingsError(f"{source}: '{name}' must be positive, got {value!r}")
    return converted


def _converted(value: Any, wanted: type) -> Any:
    """The value in the wanted type, from TOML, Python or the text of a variable; None when it does not fit.

    Paths become absolute: workers have folders of their own.
    """
    if wanted is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(str(value).lower())
    if wanted is Path:
        return Path(value).expanduser().absolute() if isinstance(value, str | os.PathLike) and str(value) else None
    if wanted is str:
        return value if isinstance(value, str) and value else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
        return number if wanted is float else int(value) if number == int(number) else None
    except (ValueError, OverflowError):
        return None


def _plain(hint: Any) -> type:
    """`int | None` -> int."""
    members = [m for m in getattr(hint, "__args__", (hint,)) if m is not type(None)]
    chosen: type = members[0]
    return chosen


_TYPES = {name: _plain(hint) for name, hint in get_type_hints(Settings).items() if name in _NAMES}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


def _data_directory() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("kernelagent", appauthor=False))
