"""Autoencoders: networks that learn to squeeze an image into a few numbers, and to draw it again.

G. E. Hinton, R. R. Salakhutdinov: "Reducing the dimensionality of data with neural networks",
Science 313, 2006 (dense); J. Masci, U. Meier, D. Ciresan, J. Schmidhuber: "Stacked convolutional
auto-encoders for hierarchical feature extraction", ICANN 2011 (convolutional).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..nn import Conv2d, ConvTranspose2d, Flatten, Linear, Module, ReLU, Sequential, Sigmoid
from .catalogue import network

if TYPE_CHECKING:
    from ..io import PathLike

__all__ = ["Autoencoder", "conv_autoencoder", "dense_autoencoder"]


class Autoencoder(Module):
    """decode(encode(x)). Both halves are modules of their own, to be saved, frozen or used alone.

    Args:
        encoder: images (N, C, H, W) to codes (N, code_size).
        decoder: codes to images.

    Example:
        >>> import numpy as np
        >>> from fastconv import models
        >>> model = models.conv_autoencoder(code_size=8)
        >>> codes = model.encode(np.zeros((5, 1, 28, 28), np.float32))
        >>> codes.shape, model.decode(codes).shape
        ((5, 8), (5, 1, 28, 28))
    """

    def __init__(self, encoder: Module, decoder: Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Any) -> Any:
        """Images (N, C, H, W) from 0 to 1 -> codes (N, code_size)."""
        return self.encoder(x)

    def decode(self, code: Any) -> Any:
        """Codes (N, code_size) -> images (N, C, H, W) from 0 to 1."""
        return self.decoder(code)

    def forward(self, x: Any) -> Any:
        return self.decode(self.encode(x))


class Unflatten(Module):
    """(N, C H W) -> (N, C, H, W)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return x.reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


@network((1, 28, 28))
def dense_autoencoder(
    code_size: int = 32, in_channels: int = 1, size: int = 28, weights: PathLike | None = None
) -> Autoencoder:
    """Dense layers that narrow to the code, and their mirror image; 222,384 parameters.

    ============================  ==============  ==========
    layer                         output          parameters
    ============================  ==============  ==========
    input                         (1, 28, 28)
    Flatten, Linear, ReLU         (128,)             100,480
    Linear, ReLU                  (64,)                8,256
    Linear: the code              (32,)                2,080
    Linear, ReLU                  (64,)                2,112
    Linear, ReLU                  (128,)               8,320
    Linear, Sigmoid               (1, 28, 28)        101,136
    ============================  ==============  ==========

    Train it on images x from 0 to 1, with themselves as targets and loss="mse" or
    "binary_crossentropy": `fit(x, x)`.

    Args:
        code_size: how many numbers an image becomes.
        in_channels, size: of the images, (in_channels, size, size).
        weights: a safetensors file.

    >>> sum(p.numel() for p in dense_autoencoder().parameters())
    222384
    """
    pixels = in_channels * size * size
    encoder = Sequential(
        Flatten(), Linear(pixels, 128), ReLU(), Linear(128, 64), ReLU(), Linear(64, code_size)
    )
    decoder = Sequential(
        Linear(code_size, 64),
        ReLU(),
        Linear(64, 128),
        ReLU(),
        Linear(128, pixels),
        Unflatten(in_channels, size, size),
        Sigmoid(),
    )
    return Autoencoder(encoder, decoder)


@network((1, 28, 28))
def conv_autoencoder(
    code_size: int = 32,
    in_channels: int = 1,
    size: int = 28,
    width: int = 16,
    weights: PathLike | None = None,
) -> Autoencoder:
    """Strided convolutions down to the code, transposed ones back up; 111,521 parameters.

    ================================  ==============  ==========
    layer                             output          parameters
    ================================  ==============  ==========
    input                             (1, 28, 28)
    Conv2d 3x3 stride 2, ReLU         (16, 14, 14)           160
    Conv2d 3x3 stride 2, ReLU         (32, 7, 7)           4,640
    Flatten, Linear: the code         (32,)               50,208
    Linear, ReLU                      (32, 7, 7)          51,744
    ConvTranspose2d 3x3, ReLU         (16, 14, 14)         4,624
    ConvTranspose2d 3x3, Sigmoid      (1, 28, 28)            145
    ================================  ==============  ==========

    Trained as `dense_autoencoder` is.

    Args:
        code_size: how many numbers an image becomes.
        in_channels, size: of the images, (in_channels, size, size); size is a multiple of 4.
        width: channels of the first convolution; the second has twice as many.
        weights: a safetensors file.

    >>> sum(p.numel() for p in conv_autoencoder().parameters())
    111521
    """
    if size % 4:
        raise ValueError(f"[conv_autoencoder] size must be a multiple of 4, got {size}")
    inner = (2 * width, size // 4, size // 4)
    features = inner[0] * inner[1] * inner[2]
    encoder = Sequential(
        Conv2d(in_channels, width, 3, stride=2, padding=1),
        ReLU(),
        Conv2d(width, 2 * width, 3, stride=2, padding=1),
        ReLU(),
        Flatten(),
        Linear(features, code_size),
    )
    decoder = Sequential(
        Linear(code_size, features),
        ReLU(),
        Unflatten(*inner),
        ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
        ReLU(),
        ConvTranspose2d(width, in_channels, 3, stride=2, padding=1, output_padding=1),
        Sigmoid(),
    )
    return Autoencoder(encoder, decoder)
