"""Sequential, which fuses neighbours that have a kernel in common, and ModuleList."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, overload

from ..autograd.changes import changes
from ..errors import ShapeError
from .activation import ReLU, ReLU6
from .conv import Conv2d
from .linear import Linear
from .module import Module, is_called_plainly, is_simple
from .normalization import BatchNorm1d, BatchNorm2d, _conv_norm, cap_of, norm_relu
from .pooling import MaxPool2d

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

    Where no hook can see the difference, Linear and ReLU, batch normalisation and ReLU (or ReLU6),
    and Conv2d with the ReLU and MaxPool2d behind it, run as one operation, with the same results;
    so do, but for the rounding, Conv2d and BatchNorm2d with running statistics, when no gradient is
    recorded.

    Example:
        >>> from fastconv import nn
        >>> nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
        )
    """

    _plan: list[Step] | None = None
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
        if self._plan is None or self._plan_version != changes.structure:
            self._make_plan()
        step: Any = None
        try:
            for step in self._plan:  # type: ignore[union-attr]
                x = step(x)
        except ShapeError as error:
            fused = isinstance(step, (_Stage, _ConvNorm))
            module = step.culprit(x) if fused else getattr(step, "__self__", step)
            self._name_layer(error, module if isinstance(module, Module) else self)
            raise
        return x

    def _make_plan(self) -> None:
        """The calls to make: the forward of each module, or a fused form of several."""
        version = changes.structure  # before anything is looked at
        modules = self._modules()
        kinds = [*(type(m) if is_simple(m) else None for m in modules), None, None]
        plan: list[Step] = []
        i = 0
        while i < len(modules):
            module, kind = modules[i], kinds[i]
            norm = modules[i + 1] if kinds[i + 1] is BatchNorm2d else None
            if isinstance(module, Conv2d) and kind is Conv2d and isinstance(norm, BatchNorm2d):
                rectifier = modules[i + 2] if kinds[i + 2] in (ReLU, ReLU6) else None
                plan.append(_ConvNorm(module, norm, rectifier))
                i += 2 if rectifier is None else 3
                continue
            if isinstance(module, Conv2d) and kind is Conv2d:
                relu = kinds[i + 1 : i + 2] == [ReLU]
                i += 1 + relu
                pool = modules[i] if kinds[i : i + 1] == [MaxPool2d] else None
                if not isinstance(pool, MaxPool2d):
                    pool = None
                i += pool is not None
                plan.append(_Stage(module, relu, pool) if relu or pool else module.forward)
                continue
            if kind in (BatchNorm1d, BatchNorm2d) and kinds[i + 1] in (ReLU, ReLU6):
                plan.append(_Normalised(module, modules[i + 1]))
                i += 2
                continue
            if isinstance(module, Linear) and kind is Linear and kinds[i + 1 : i + 2] == [ReLU]:
                plan.append(module.forward_relu)
                i += 2
                continue
            plan.append(module.forward if is_called_plainly(module) else module)
            i += 1
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


class _Normalised:
    """Batch normalisation and the ReLU (or ReLU6) behind it, as one step."""

    def __init__(self, norm: Module, relu: Module) -> None:
        self.__self__, self._relu = norm, relu

    def __call__(self, x: Any) -> Any:
        return norm_relu(x, self.__self__, self._relu)


class _ConvNorm:
    """A convolution, batch normalisation and the ReLU (or ReLU6) behind it, as one step."""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, relu: Module | None) -> None:
        self._conv, self._norm, self._relu, self._cap = conv, norm, relu, cap_of(relu)

    def __call__(self, x: Any) -> Any:
        y = _conv_norm(self._conv, x, self._norm, self._cap)
        return norm_relu(self._conv.forward(x), self._norm, self._relu) if y is None else y

    def culprit(self, x: Any) -> Module:
        """The layer whose shapes do not fit."""
        try:
            self._conv(x)
        except ShapeError:
            return self._conv
        return self._norm


class _Stage:
    """A convolution with what is behind it, as one step."""

    def __init__(self, conv: Conv2d, relu: bool, pool: MaxPool2d | None) -> None:
        self._conv, self._relu, self._pool = conv, relu, pool

    def __call__(self, x: Any) -> Any:
        pool = self._pool
        if pool is not None and pool.return_indices:
            return pool.forward(self._conv.forward_stage(x, self._relu))
        return self._conv.forward_stage(x, self._relu, None if pool is None else pool.pooling)

    def culprit(self, x: Any) -> Module:
        """The layer whose shapes do not fit."""
        try:
            self._conv(x)
        except ShapeError:
            return self._conv
        return self._pool or self._conv
