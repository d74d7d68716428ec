"""Names given beside a kernel text: one that the text does not have would change nothing, so it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernelagent.errors import CallError


def refuse_unknown(text: str, dtypes: Mapping[str, str], dims: Mapping[str, int]) -> None:
    """Raises CallError for a dtype variable or dim that the entry does not have. A text that is wrong has no names to
    compare with; its own mistakes are told elsewhere."""
    from kernelagent.dsl.diagnostics import KernelError
    from kernelagent.dsl.level2 import read_module

    if not dtypes and not dims:
        return
    try:
        entry = read_module(text).entry
    except KernelError:
        return
    _refuse("dtype variable", dtypes, entry.dtype_variables)
    _refuse("dim", dims, entry.dims)


def _refuse(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = tuple(known)
    for name in given:
        if name not in names:
            raise CallError(f"the text has no {what} `{name}`", f"it has {', '.join(names) if names else 'none'}")
