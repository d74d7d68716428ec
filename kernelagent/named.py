"""Names given beside a kernel text: one that the text does not have would change nothing, so it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernelagent.errors import CallError


def refuse_unknown(text: str, dtypes: Mapping[str, str], dims: Mapping[str, int]) -> None:
    """Raises CallError for a dtype variable or dim that the entry does not have, and for a dim that changes nothing. A
    text that is wrong has no names to compare with; its own mistakes are told elsewhere."""
    from kernelagent.dsl.diagnostics import KernelError
    from kernelagent.dsl.ir import Module
    from kernelagent.dsl.level2 import read_module
    from kernelagent.dsl.targets.calls import entry_dims

    if not dtypes and not dims:
        return
    try:
        module = read_module(text)
    except KernelError:
        return
    entry = module.entry
    _refuse("dtype variable", dtypes, entry.dtype_variables)
    _refuse("dim", dims, entry.dims)
    if isinstance(module, Module):
        _refuse_free(dims, entry_dims(module, dict.fromkeys(entry.dims, 1)))


def _refuse(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = tuple(known)
    for name in given:
        if name not in names:
            raise CallError(f"the text has no {what} `{name}`", f"it has {', '.join(names) if names else 'none'}")


def _refuse_free(given: Iterable[str], extents: Iterable[str]) -> None:
    """Code depends on dims that are tile extents only."""
    fixed = tuple(extents)
    for name in given:
        if name not in fixed:
            hint = (
                f"leave out --dim {name}; tile extents are {', '.join(fixed)}" if fixed else f"leave out --dim {name}"
            )
            raise CallError(f"no tile has the extent `{name}`: the code is the same for every size of it", hint)
