"""fastconv: convolutional networks at the speed of the machine, small enough to read.

    import fastconv as fc
    from fastconv import functional as F, nn, optim, data, models

`nn`, `optim` and `functional` have PyTorch's names and meaning; every `nn.Module` also has Keras's
`compile`, `fit`, `evaluate`, `predict` and `summary`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    from ._core import __version__
except ModuleNotFoundError:  # Python found this folder in the repository, not the installed package
    from ._source_tree import use_installed_package

    use_installed_package()
    from ._core import __version__

from .autograd import (
    Tensor,
    enable_grad,
    from_dlpack,
    is_grad_enabled,
    no_grad,
    ones,
    rand,
    randn,
    set_grad_enabled,
    zeros,
)
from .errors import CorruptFileError, DownloadError, ShapeError, TrainingDiverged
from .io import load, save
from .random import manual_seed
from .settings import (
    get_algorithm,
    get_num_threads,
    isa,
    set_algorithm,
    set_num_threads,
    show_config,
)

if TYPE_CHECKING:
    from . import benchmark, cli, data, functional, models, nn, optim, plot, train

__all__ = [
    "CorruptFileError",
    "DownloadError",
    "ShapeError",
    "Tensor",
    "TrainingDiverged",
    "__version__",
    "benchmark",
    "cli",
    "data",
    "enable_grad",
    "from_dlpack",
    "functional",
    "get_algorithm",
    "get_num_threads",
    "is_grad_enabled",
    "isa",
    "load",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ones",
    "optim",
    "plot",
    "rand",
    "randn",
    "record",
    "record_step",
    "save",
    "set_algorithm",
    "set_grad_enabled",
    "set_num_threads",
    "show_config",
    "train",
    "zeros",
]

# Imported at first use, so that `import fastconv` costs little more than NumPy.
_LAZY = frozenset(
    ("benchmark", "cli", "data", "functional", "models", "nn", "optim", "plot", "train")
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("record", "record_step"):
        return getattr(importlib.import_module(f"{__name__}.program"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
