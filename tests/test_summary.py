"""The table of a network: totals, what is trained, what are statistics."""

from __future__ import annotations

import pytest

from fastconv import nn


def lines(model: nn.Module, *shape: int) -> list[str]:
    said: list[str] = []
    model.summary(shape, print_fn=said.append)
    return said


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def test_totals() -> None:
    """36 weights of 3x3, 8 of the batch norm, 195 of the linear layer: 239, 4 bytes each."""
    said = lines(network(), 1, 6, 6)
    assert "Total parameters: 239 (0.9 kB)" in said
    assert f"Multiply-adds for one sample: {16 * 36 + 192:,}" in said
    assert not any(line.startswith("Trained") for line in said)


def test_statistics_are_means_and_variances_alone() -> None:
    """Not the counter of batches, which is no statistic."""
    assert "Running statistics: 8" in lines(network(), 1, 6, 6)
    without = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False))
    assert not any("statistics" in line for line in lines(without, 4, 2, 2))


def test_frozen_parameters_are_told_apart() -> None:
    model = network()
    model[0].requires_grad_(False)
    assert "Trained: 203, fixed: 36" in lines(model, 1, 6, 6)


def test_a_layer_that_is_used_twice_counts_once() -> None:
    layer = nn.Linear(4, 4)
    said = lines(nn.Sequential(layer, nn.ReLU(), layer), 4)
    assert "Total parameters: 20 (0.1 kB)" in said
    assert "Multiply-adds for one sample: 32" in said


@pytest.mark.parametrize("shape", [None, (0, 6, 6), (1.5,), (True,)], ids=str)
def test_bad_shapes(shape: object) -> None:
    with pytest.raises(ValueError, match="whole numbers from 1"):
        network().summary(shape)  # type: ignore[arg-type]
