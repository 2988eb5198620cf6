"""Sequential and ModuleList."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, overload

from ..autograd.changes import changes
from ..autograd.pending import NO_POST_OPS, extended
from ..errors import ShapeError
from .module import Module, is_called_plainly, is_simple

__all__ = ["ModuleList", "Sequential"]

Step = Callable[[Any], Any]


class _Numbered(Module):
    """Modules in a row, named "0", "1", ... (or as given)."""

    def _modules(self) -> list[Module]:
        return [module for _, module in self._own(Module)]

    def _name(self, index: int) -> str:
        names = [name for name, _ in self._own(Module)]
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__} has {len(names)} modules, index {index}")
        return names[index]

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for name, _ in self._own(Module):
            del self.__dict__[name]
        for i, module in enumerate(modules):
            setattr(self, str(i), module)
        changes.of_structure()

    def __len__(self) -> int:
        return len(self._own(Module))

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = self._modules()
        del modules[index]
        self._renumber(modules)

    def append(self, module: Module) -> Any:
        """Adds a module at the end."""
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Adds modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Adds a module before the one at `index`."""
        modules = self._modules()
        modules.insert(index, module)
        self._renumber(modules)
        return self


class Sequential(_Numbered):
    """Modules one after another; `torch.nn.Sequential`.

    Args:
        modules: the modules, or one mapping from names to modules.

    Example:
        >>> from fastconv import nn
        >>> nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
        )
    """

    _plan: list[Step] | None = None
    _groups: list[list[Module]]  # the modules of each step
    _plan_version = -1

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named: Iterable[tuple[str, Any]] = ((str(i), module) for i, module in enumerate(modules))
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0].items()
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"[Sequential] expected modules, got {type(module).__name__}")
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        if self._plan is None or self._plan_version != changes.attributes:
            self._make_plan()
        step: Any = None
        plan: list[Step] = self._plan  # type: ignore[assignment]
        try:
            for step in plan:
                x = step(x)
        except ShapeError as error:
            self._name_layer(error, _culprit(self._groups[plan.index(step)], error))
            raise
        return x

    def _make_plan(self) -> None:
        """The calls to make. Nobody holds what lies between: post-ops join ahead of time."""
        version = changes.attributes  # before anything is looked at
        plan: list[Step] = []
        groups: list[list[Module]] = []
        post = NO_POST_OPS
        for module in self._modules():
            simple = is_simple(module)
            more = None
            if groups and simple and module.post_op is not None and is_simple(groups[-1][0]):
                more = extended(post, groups[-1][0].takes, *module.post_op)
            if more is not None:
                post = more
                groups[-1].append(module)
                forward: Any = groups[-1][0].forward
                plan[-1] = partial(forward, post=post)
                continue
            post = NO_POST_OPS
            groups.append([module])
            plan.append(module.forward if is_called_plainly(module) else module)
        self.__dict__["_groups"] = groups
        self.__dict__["_plan"], self.__dict__["_plan_version"] = plan, version

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module | Sequential:
        if isinstance(index, slice):
            return Sequential(dict(self._own(Module)[index]))
        module: Module = self.__dict__[self._name(index)]
        return module


class ModuleList(_Numbered):
    """A list of modules that are found by `parameters()` and the rest; `torch.nn.ModuleList`.

    Args:
        modules: the modules.

    Example:
        >>> from fastconv import nn
        >>> layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        >>> len(layers), layers[1].in_features
        (3, 8)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ModuleList(self._modules()[index])
        return self.__dict__[self._name(index)]


def _culprit(group: list[Module], error: ShapeError) -> Module:
    """The module of a step whose shapes do not fit; pooling is the only post-op that can be it."""
    pools = [m for m in group if m.post_op is not None and m.post_op[0] == "pool"]
    return pools[0] if pools and str(error).startswith("[max_pool2d]") else group[0]
