"""Converts Keras's weights (names and layouts), and reads TensorFlow.js files, which hold them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorruptFileError
from ..io import parse_json
from ..untrusted import check_file_name, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["from_keras", "read_tfjs"]

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


def from_keras(
    state: Mapping[str, Any],
    flattened: Mapping[str, tuple[int, int, int]] | None = None,
    depthwise: Collection[str] = (),
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
        depthwise: the layers that are DepthwiseConv2D where a "kernel" does not say so: Keras 3
            has given up the name depthwise_kernel.

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
        per_channel = kind == "depthwise_kernel" or (kind == "kernel" and layer in depthwise)
        if per_channel and values.ndim == 4:
            kind = "weight"
            values = values.transpose(2, 3, 0, 1).reshape(-1, 1, *values.shape[:2])
        elif kind == "kernel" and values.ndim in KERNEL_ORDERS:
            kind = "weight"
            values = _kernel(values, (flattened or {}).get(layer))
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


def read_tfjs(path: Path, manifest: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a TensorFlow.js model, model.json with its shards beside it.

    The bytes of each group's shards follow each other, tensor after tensor; float32 only.

    Args:
        path: of model.json.
        manifest: what is in it.

    Raises:
        CorruptFileError: the file or a shard is not what it should be.
        FileNotFoundError: a shard is missing.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    try:
        groups = parse_json(manifest.decode())["weightsManifest"]
        for group in groups:
            content = b"".join(_shard(path, name).read_bytes() for name in group["paths"])
            begin = 0
            for entry in group["weights"]:
                if entry["dtype"] != "float32" or "quantization" in entry:
                    raise ValueError(f"{entry['name']} is not float32")
                name, shape = entry["name"], tuple(entry["shape"])
                if not isinstance(name, str) or name in tensors or min(shape, default=0) < 0:
                    raise ValueError(f"{name!r} of shape {shape} is there already, or no tensor")
                values = np.frombuffer(content, "<f4", math.prod(shape), begin)
                tensors[name] = values.reshape(shape)
                begin += values.nbytes
            if begin != len(content):
                raise ValueError(f"{', '.join(group['paths'])}: {begin:,} bytes expected")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptFileError(
            f"[load] {path} is no TensorFlow.js model: {printable(error)}"
        ) from None
    return tensors


def _shard(model: Path, name: str) -> Path:
    """The file of that name beside a manifest, or, where the manifest is a link, beside its target.

    Raises:
        ValueError: the name, or the link that it names, leads to another folder.
    """
    shard = model.parent / check_file_name(name)
    if shard.resolve().parent not in (model.parent.resolve(), model.resolve().parent):
        raise ValueError(f"the shard {name} is a link to another folder")
    return shard
