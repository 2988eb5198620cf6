"""The files of fastconv/models, read with torch.nn in place of fastconv.nn.

They use nothing but names that torch.nn has too, so the same source gives the same network, with
the same names of parameters, in either library. Activations work in place, as in torchvision.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from ..networks import ImageNet

PACKAGE = "fastconv_in_torch"
MODELS = Path(__file__).parents[2] / "models"


def build(torch: Any, network: ImageNet) -> Any:
    """The network, on the CPU, with values still to come."""
    if PACKAGE not in sys.modules:
        sys.meta_path.insert(0, _Finder(torch))
    module = importlib.import_module(f"{PACKAGE}.models.{network.file}")
    with torch.device("meta"):
        model = getattr(module, network.name)(**network.arguments)
    return model.to_empty(device="cpu")


class _Finder:
    """Finds PACKAGE.models.FILE in fastconv, and for what it imports something of PyTorch."""

    def __init__(self, torch: Any) -> None:
        self._stands_for: dict[str, Callable[[], dict[str, Any]]] = {
            PACKAGE: dict,
            f"{PACKAGE}.nn": functools.partial(_nn, torch),
            f"{PACKAGE}.functional": functools.partial(_functional, torch),
            f"{PACKAGE}.autograd": lambda: {
                "Tensor": functools.partial(torch.tensor, device="cpu")
            },
            f"{PACKAGE}.models": dict,
            f"{PACKAGE}.models.catalogue": lambda: {"network": _as_it_is},
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name in self._stands_for:
            return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        package, _, file = name.rpartition(".")
        if package != f"{PACKAGE}.models":
            return None
        return spec_from_loader(name, SourceFileLoader(name, str(MODELS / f"{file}.py")))

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._stands_for[module.__name__]())


def _as_it_is(*arguments: Any) -> Callable[[Any], Any]:
    """In place of the catalogue's decorator."""
    return lambda builder: builder


def _public(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def _nn(torch: Any) -> dict[str, Any]:
    nn, pad = torch.nn, torch.nn.functional.pad

    class Conv2d(nn.Conv2d):  # type: ignore[name-defined, misc]
        """With strided "same" padding, TensorFlow's way."""

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            kernel_size: Any,
            stride: Any = 1,
            padding: Any = 0,
            **options: Any,
        ) -> None:
            self.same = padding == "same"
            padding = 0 if self.same else padding
            super().__init__(in_channels, out_channels, kernel_size, stride, padding, **options)

        def forward(self, x: Any) -> Any:
            if self.same:
                pads: list[int] = []
                for size, kernel, stride in zip(
                    x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
                ):
                    missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
                    pads += [missing // 2, missing - missing // 2]
                x = pad(x, pads)
            return super().forward(x)

    class Sequential(nn.Sequential):  # type: ignore[name-defined, misc]
        """Also from a plain dict."""

        def __init__(self, *layers: Any) -> None:
            super().__init__(*(OrderedDict(l) if isinstance(l, dict) else l for l in layers))  # noqa: E741

    return {
        **_public(nn),
        "Conv2d": Conv2d,
        "Sequential": Sequential,
        "ReLU": functools.partial(nn.ReLU, inplace=True),
        "ReLU6": functools.partial(nn.ReLU6, inplace=True),
    }


def _functional(torch: Any) -> dict[str, Any]:
    functional = torch.nn.functional
    in_place = functools.partial(functional.relu, inplace=True)
    return {**_public(functional), "relu": in_place, "cat": torch.cat}
