"""Pretrained weights: safetensors files into networks, Keras's names and layouts into ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..io import load
from ..nn import Module

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..io import PathLike

__all__ = ["from_keras", "load_weights"]

M = TypeVar("M", bound=Module)

# Where the height, width and channels of Keras's kernels go, by how many dimensions there are.
KERNEL_ORDERS = {
    2: (1, 0),  # Dense: in, out
    3: (2, 1, 0),  # Conv1D: width, in, out
    4: (3, 2, 0, 1),  # Conv2D: height, width, in, out; Conv2DTranspose: height, width, out, in
}
RENAMED = {
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_weights(model: M, weights: PathLike | None, ignored: tuple[str, ...] = ()) -> M:
    """The model, with the tensors of a safetensors file if there is one.

    The file has the names of the model's `state_dict`, perhaps with "module." in front of all, or
    Keras's: those are recognised by the "/" in them, and converted.

    Args:
        model: the network.
        weights: the file, or None.
        ignored: beginnings of names that the file may have and the model has no use for.

    Raises:
        CorruptFileError: the file is damaged, or a pickle.
        ValueError: it holds the weights of another network; lists what does not fit.
    """
    if weights is not None:
        state: Mapping[str, Any] = load(weights)
        if any("/" in name for name in state):
            state = from_keras(state)
        model.load_state_dict({n: t for n, t in state.items() if not n.startswith(ignored)})
    return model


def from_keras(
    state: Mapping[str, Any], flattened: Mapping[str, tuple[int, int, int]] | None = None
) -> dict[str, NDArray[Any]]:
    """Keras's weights under PyTorch's names and in PyTorch's layouts.

    ===============================  ===========================================================
    Keras                            here
    ===============================  ===========================================================
    conv/kernel (KH, KW, IC, OC)     conv.weight (OC, IC, KH, KW)
    dw/depthwise_kernel (.., C, M)   dw.weight (C M, 1, KH, KW), for groups = C
    dense/kernel (in, out)           dense.weight (out, in)
    bn/gamma, bn/beta                bn.weight, bn.bias
    bn/moving_mean, moving_variance  bn.running_mean, bn.running_var
    ===============================  ===========================================================

    The arithmetic differs in two more places, which a network has to follow itself: strided "same"
    padding is asymmetric (`Conv2d(padding="same")` does the same), and batch normalisation has
    eps 1e-3.

    Args:
        state: names to tensors; "conv/conv/kernel:0", as in .h5 files, is "conv/kernel".
        flattened: (H, W, C) of what was flattened in front of these Dense layers: Keras has the
            channels last, so their inputs are in another order.

    Raises:
        ValueError: a weight of a kind that is not in the table.

    Example:
        >>> import numpy as np
        >>> from fastconv import models
        >>> state = models.from_keras({"conv1/kernel": np.zeros((3, 3, 1, 8), np.float32)})
        >>> {name: weight.shape for name, weight in state.items()}
        {'conv1.weight': (8, 1, 3, 3)}
    """
    converted: dict[str, NDArray[Any]] = {}
    for name, tensor in state.items():
        values = np.asarray(tensor)
        *path, kind = name.removesuffix(":0").split("/")
        layer = ".".join(part for i, part in enumerate(path) if part not in path[:i])
        if kind == "kernel" and values.ndim in KERNEL_ORDERS:
            kind = "weight"
            values = _kernel(values, (flattened or {}).get(layer))
        elif kind == "depthwise_kernel" and values.ndim == 4:
            kind = "weight"
            values = values.transpose(2, 3, 0, 1).reshape(-1, 1, *values.shape[:2])
        elif kind in RENAMED:
            kind = RENAMED[kind]
        else:
            raise ValueError(
                f"[from_keras] {name} {values.shape} is not a weight of Dense, Conv1D, Conv2D, "
                "Conv2DTranspose, DepthwiseConv2D or BatchNormalization"
            )
        converted[f"{layer}.{kind}"] = np.ascontiguousarray(values)
    return converted


def _kernel(values: NDArray[Any], flattened: tuple[int, int, int] | None) -> NDArray[Any]:
    if flattened is not None and values.ndim == 2:
        # The rows are pixels, then channels: (H W C, out) -> (out, C H W).
        rows, outputs = values.shape
        values = values.reshape(*flattened, outputs).transpose(2, 0, 1, 3).reshape(rows, outputs)
    return np.transpose(values, KERNEL_ORDERS[values.ndim])
