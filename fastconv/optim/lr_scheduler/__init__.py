"""Learning-rate schedules; `torch.optim.lr_scheduler`.

A schedule changes "lr" in the optimiser's groups at construction, and anew at each `step()`: once
an epoch, or once a batch for OneCycleLR and CyclicLR.

Most go on from the rate that a group has: ConstantLR, CosineAnnealingLR, ExponentialLR, LinearLR,
MultiplicativeLR, MultiStepLR, PolynomialLR, ReduceLROnPlateau, StepLR. Several of them on one
optimiser multiply their effects, and a rate changed by hand stays changed. The others set the rate
anew from where it began: CosineAnnealingWarmRestarts, CyclicLR, LambdaLR, OneCycleLR.
"""

from .base import LRScheduler
from .composed import ChainedScheduler, SequentialLR
from .cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .factors import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
