"""Selects parameters by names of modules or parameters, or by patterns."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .module import Module, Parameter

__all__ = ["selected"]


def selected(model: Module, names: tuple[str | Module, ...], op: str) -> list[Parameter]:
    """The parameters that names, patterns or modules stand for, each once; all if there are none.

    Raises:
        ValueError: a name that fits nothing; lists those near to it.
    """
    if not names:
        return list(model.parameters())
    modules = [(name, module) for name, module in model.named_modules() if name]
    parameters = list(model.named_parameters())
    found: dict[int, Parameter] = {}
    for wanted in names:
        chosen: list[Parameter] = []
        if isinstance(wanted, str):
            chosen += [p for name, p in parameters if fnmatchcase(name, wanted)]
            within = [module for name, module in modules if fnmatchcase(name, wanted)]
        else:
            within = [module for module in model.modules() if module is wanted]
        for module in within:
            chosen += module.parameters()
        if not chosen and not within:
            every = [name for name, _ in modules] + [name for name, _ in parameters]
            raise ValueError(_unknown(model, wanted, every, op))
        found.update((id(parameter), parameter) for parameter in chosen)
    return list(found.values())


def _unknown(model: Module, wanted: str | Module, every: list[str], op: str) -> str:
    kind = type(model).__name__
    if not isinstance(wanted, str):
        return f"[{op}] this {type(wanted).__name__} is no part of the {kind}"
    near = get_close_matches(wanted, every, n=5, cutoff=0.65)
    if not near:  # the outermost parts give an idea of what names look like
        near = list(dict.fromkeys(name.split(".")[0] for name in every))[:8]
    return f"[{op}] {kind} has no module or parameter {wanted!r}; there are {', '.join(near)}"
