"""Module: the base of every layer and network, and Parameter.

Parameters, buffers and submodules are plain attributes, so that reading `self.weight` costs what
any attribute costs. What PyTorch keeps in dictionaries is found here by looking through the
attributes in the order in which they were set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ..autograd import Tensor, check_device
from ..autograd.changes import changes
from ..autograd.pending import calls, settle
from ..errors import ShapeError
from .freezing import selected
from .limit import spend
from .loading import LoadResult, load_state
from .modes import here
from .training_methods import TrainingMethods

if TYPE_CHECKING:
    from ..data.preprocessing import Preprocessing

__all__ = ["LoadResult", "Module", "Parameter", "is_called_plainly", "is_simple"]

M = TypeVar("M", bound="Module")
Hook = Callable[..., Any]


class Parameter(Tensor):
    """A Tensor that a Module trains: it requires gradients and appears in `parameters()`.

    Args:
        data: values, as a Tensor or NumPy array (copied).
        requires_grad: False for a parameter that stays as it is.
    """

    __slots__ = ()

    def __init__(self, data: object, requires_grad: bool = True) -> None:
        spend(data)
        super().__init__(data, requires_grad)


class RemovableHook:
    """Takes a hook away again."""

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
        changes.of_structure()


class Module(TrainingMethods):
    """The base of layers and networks; `torch.nn.Module`.

    Subclasses call `super().__init__()`, set Parameters and Modules as attributes and define
    `forward`.

    Attributes:
        training: whether batch norm and dropout behave as in training. While `predict`, `evaluate`
            or a step of `fit` runs, this thread sees the mode it runs in, others what is stored.
        preprocessing: how pictures become inputs, or None; comes with pretrained weights.
        classes: the names of the outputs, or None.
        output_activation: what `predict` does to the outputs of a network that was not compiled:
            "softmax", "sigmoid" or None; comes with the weights of classifiers.
        architecture: (name, arguments) for `models.build`; None if it is no network of `models`.

    Example:
        >>> from fastconv import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = nn.Linear(4, 2)
        ...     def forward(self, x):
        ...         return self.fc(x)
        >>> [(name, p.shape) for name, p in Net().named_parameters()]
        [('fc.weight', (2, 4)), ('fc.bias', (2,))]
    """

    preprocessing: Preprocessing | None = None
    classes: list[str] | None = None
    output_activation: str | None = None
    architecture: tuple[str, dict[str, Any]] | None = None
    _buffer_names: Mapping[str, bool] = MappingProxyType({})  # name: whether it is saved
    _forward_hooks: Sequence[Hook] = ()
    _forward_pre_hooks: Sequence[Hook] = ()

    def __init__(self) -> None:
        self.__dict__["training"] = True

    # ---- post-ops (autograd/pending.py)
    takes: frozenset[str] = frozenset()  # those that forward(x, post) does as well

    @property
    def post_op(self) -> tuple[str, Any] | None:
        """What calling this module is to the operation before it; None: nothing of the kind."""
        return None

    # ---- calling
    def forward(self, *inputs: Any) -> Any:
        """What the module computes. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        outermost = not calls.inside
        calls.inside = True
        try:
            if self._forward_hooks or self._forward_pre_hooks:
                return self._call_with_hooks(inputs, kwargs)
            return self.forward(*inputs, **kwargs)
        except ShapeError as error:
            self._name_layer(error, self)
            raise
        finally:
            if outermost:
                calls.inside = False
                if calls.waiting is not None:
                    settle(calls.waiting)

    def _call_with_hooks(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list(self._forward_pre_hooks):
            changed = hook(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*inputs, **kwargs)
        for hook in list(self._forward_hooks):
            changed = hook(self, inputs, result)
            if changed is not None:
                result = changed
        return result

    def _name_layer(self, error: ShapeError, culprit: Module) -> None:
        """Puts the layer's name, as seen from this module, in front of the message.

        Every module on the way out does so, and the outermost knows the full name.
        """
        culprit, message = getattr(error, "layer", (culprit, str(error)))
        error.layer = culprit, message  # type: ignore[attr-defined]
        names = [name for name, module in self.named_modules() if module is culprit and name]
        name = f"layer {names[0]!r}" if names else "layer"
        error.args = (f"in {name} ({type(culprit).__name__}): {message}",)

    def register_forward_hook(self, hook: Hook) -> RemovableHook:
        """Calls hook(module, inputs, output) after `forward`; its result replaces the output."""
        return self._register("_forward_hooks", hook)

    def register_forward_pre_hook(self, hook: Hook) -> RemovableHook:
        """Calls hook(module, inputs) before `forward`; its result replaces the inputs."""
        return self._register("_forward_pre_hooks", hook)

    def _register(self, kind: str, hook: Hook) -> RemovableHook:
        hooks: list[Hook] = self.__dict__.setdefault(kind, [])
        hooks.append(hook)
        changes.of_structure()
        return RemovableHook(hooks, hook)

    # ---- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            object.__setattr__(self, name, value)
            return
        current = self.__dict__.get(name)
        if value is not None:
            if isinstance(current, Parameter) and not isinstance(value, Parameter):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a Parameter: assign nn.Parameter(...), or "
                    "change its values with copy_() under fc.no_grad()"
                )
            if name in self._buffer_names and not isinstance(value, Tensor):
                raise TypeError(f"{type(self).__name__}.{name} is a buffer: assign a Tensor")
        object.__setattr__(self, name, value)
        # Counted once it is there: what another thread looks up before that is looked up again.
        if isinstance(value, Module) or isinstance(current, Module) or name == "forward":
            changes.of_structure()
        else:
            changes.of_attribute()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__.get("_buffer_names", {}).pop(name, None)
        changes.of_structure()

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that belongs to the state but is not trained, as running statistics."""
        self.__dict__.setdefault("_buffer_names", {})[name] = persistent
        object.__setattr__(self, name, tensor)
        changes.of_attribute()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        setattr(self, name, module)

    register_module = add_module

    # ---- looking through
    def named_children(self) -> Iterator[tuple[str, Module]]:
        seen: set[int] = set()
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = ""
    ) -> Iterator[tuple[str, Module]]:
        """This module, named "" (or prefix), and all modules inside, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, child in self._own(Module):
            yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        for _, module in self.named_modules():
            yield module

    def _own(self, kind: type[Any]) -> list[tuple[str, Any]]:
        attributes = list(self.__dict__.items())  # at once: another thread may set some
        return [(name, value) for name, value in attributes if isinstance(value, kind)]

    def _own_buffers(self) -> list[tuple[str, Tensor]]:
        named = [(name, self.__dict__[name]) for name in self._buffer_names]
        return [(name, tensor) for name, tensor in named if tensor is not None]

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Every Parameter once, with the name it has in `state_dict`."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, parameter in module._own(Parameter):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, buffer in module._own_buffers():
                yield (f"{path}.{name}" if path else name), buffer

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module of that name, as in `named_modules`."""
        module = self
        for name in target.split(".") if target else []:
            module = getattr(module, name)
        return module

    # ---- modes
    @property
    def training(self) -> bool:
        modes = here.modes
        own = None if modes is None else modes.get(id(self))
        mode: bool = self.__dict__.get("training", True) if own is None else own[1]
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        modes = here.modes
        if modes is None:
            before = self.__dict__.get("training", True)
            self.__dict__["training"] = mode
            if mode is not before:
                changes.of_state()
            return
        own = modes.get(id(self))
        if own is None or own[1] is not mode:
            modes[id(self)] = (self, mode)
            here.stamp = object()

    def train(self: M, mode: bool = True) -> M:
        """Training mode (or not) for this module and all inside."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Evaluation mode: batch norm uses its running statistics, dropout does nothing."""
        return self.train(False)

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Calls function(module) for all modules inside, children first, and this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Whether the parameters are trained."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def freeze(self: M, *names: str | Module) -> M:
        """Parameters that stay as they are: no gradient is computed for them.

        What comes in front of all trained layers then costs no backward pass and keeps no
        activations. A batch norm whose weight and bias are frozen normalises with its running
        statistics and leaves them alone, also in training mode.

        Args:
            names: of modules or parameters, as in `named_modules` and `named_parameters`; patterns
                such as "layer[12].*"; or modules. Without any, everything.

        Raises:
            ValueError: a name that fits nothing; lists those near to it.

        Example:
            >>> from fastconv import nn
            >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).freeze("0")
            >>> [name for name, p in model.named_parameters() if p.requires_grad]
            ['2.weight', '2.bias']
        """
        for parameter in selected(self, names, "freeze"):
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimiser moves whatever has one
        return self

    def unfreeze(self: M, *names: str | Module) -> M:
        """Undoes `freeze` for the same names; without any, everything is trained."""
        for parameter in selected(self, names, "unfreeze"):
            parameter.requires_grad_()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or overwrites them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def to(self: M, device: object) -> M:
        """Moves the module to a device; today there is "cpu"."""
        check_device(device)
        return self

    def cpu(self: M) -> M:
        return self

    def cuda(self: M) -> M:
        return self.to("cuda")

    # ---- state
    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Names to parameters and buffers, sharing their memory; PyTorch's names and order."""
        state: dict[str, Tensor] = {}
        for name, parameter in self._own(Parameter):
            state[prefix + name] = parameter.detach()
        for name, buffer in self._own_buffers():
            if self._buffer_names[name]:
                state[prefix + name] = buffer
        for name, child in self._own(Module):
            state.update(child.state_dict(f"{prefix}{name}."))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copies values into parameters and buffers: all of them, or with an error none.

        Args:
            state_dict: names to Tensors or NumPy arrays. "module." in front of all is dropped.
            strict: whether missing and unexpected names are errors. Wrong shapes always are.

        Raises:
            ValueError: lists every name that is missing, unexpected or of the wrong shape, with a
                hint where the reason is a usual one.
        """
        return load_state(self.state_dict(), state_dict, strict, type(self).__name__)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_plan", None)
        state.pop("_groups", None)
        return state

    # ---- text
    def extra_repr(self) -> str:
        """The arguments that `repr` shows."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._own(Module)
        ]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}({extra}\n  " + "\n  ".join(lines) + "\n)"


def is_called_plainly(module: Module) -> bool:
    """Whether calling it is calling its forward: no hooks, no __call__ of its own."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return not hooked and type(module).__call__ is Module.__call__


def is_simple(module: Module) -> bool:
    """Whether its forward is also that of its class."""
    return is_called_plainly(module) and "forward" not in module.__dict__
