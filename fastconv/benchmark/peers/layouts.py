"""PyTorch's parameter layouts to those of JAX and Keras, and back.

Dense weights (O, I) become (I, O). When images are NHWC, convolution weights (O, I, H, W) become
(H, W, I, O), and dense weights behind a flatten see their inputs in another order.
"""

from __future__ import annotations

import math

import numpy as np

from ..cases import Array, Network


def from_torch(network: Network, values: list[Array], nhwc: bool) -> list[Array]:
    """All parameters, in their order, out of PyTorch's layouts."""
    result = []
    for value, image in zip(values, _images_read(network), strict=True):
        if nhwc and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            if nhwc and image:
                value = value.reshape(-1, *image).transpose(0, 2, 3, 1).reshape(value.shape)
            value = value.T
        result.append(np.ascontiguousarray(value))
    return result


def to_torch(network: Network, values: list[Array], nhwc: bool) -> list[Array]:
    """The inverse of from_torch."""
    result = []
    for value, image in zip(values, _images_read(network), strict=True):
        if nhwc and value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
            if nhwc and image:
                C, H, W = image
                value = value.reshape(-1, H, W, C).transpose(0, 3, 1, 2).reshape(value.shape)
        result.append(np.ascontiguousarray(value))
    return result


def _images_read(network: Network) -> list[tuple[int, ...]]:
    """For each parameter the (C, H, W) that its layer reads flattened, () for all others."""
    result: list[tuple[int, ...]] = []
    shape: tuple[int, ...] = network.input_shape
    image: tuple[int, ...] = ()
    for layer, output in zip(network.layers, network.shapes, strict=True):
        if layer.kind == "flatten":
            image = shape
        for parameter in layer.parameter_shapes:
            reads_image = image and parameter[1:] == (math.prod(image),)
            result.append(image if reads_image else ())
        if layer.kind == "linear":
            image = ()
        shape = output
    return result
