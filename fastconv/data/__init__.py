"""Data sets, and the way from arrays and pictures to batches."""

from .cifar10 import cifar10
from .colours import ColorJitter, RandomGrayscale
from .digits import digits
from .folder import BadImageWarning, ImageFolder
from .images import open_image
from .loader import Loader, Source
from .mnist import mnist
from .preprocessing import CIFAR10, IMAGENET, TENSORFLOW, Preprocessing
from .resizing import RandomResizedCrop, Resize
from .transforms import (
    CenterCrop,
    Compose,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    RandomVerticalFlip,
)

__all__ = [
    "CIFAR10",
    "IMAGENET",
    "TENSORFLOW",
    "BadImageWarning",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "ImageFolder",
    "Loader",
    "Preprocessing",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "Resize",
    "Source",
    "cifar10",
    "digits",
    "mnist",
    "open_image",
]
