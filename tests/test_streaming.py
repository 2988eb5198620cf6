"""Arrays too large for L2 are written past the caches (`streaming` in csrc/cpu/kernels.h): the same
bits as smaller ones, which are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from fastconv import _core
from tests import reference
from tests.support import LANES, array, assert_close, assert_same_bits, dirty_arena, numpy, uniform

N = 45  # three blocks, of which the last has empty lanes
C = 16
LARGE = 2 * _core.streamed_floats()  # depthwise convolutions keep to caches up to here
SIZE = math.isqrt(LARGE // (3 * LANES * C)) + 1  # H and W: together large, each block not
SHAPE = (N, C, SIZE, SIZE)
DEPTHWISE = {s: _core.Geometry((s, s), (1, 1, 1, 1), (1, 1), C) for s in (1, 2)}
GEOMETRY = {k: _core.Geometry((1, 1), (k // 2,) * 4, (1, 1), 1) for k in (1, 3)}


def test_sizes() -> None:
    assert 3 * LANES * C * SIZE * SIZE > LARGE
    assert _core.streamed_floats() > LANES * C * SIZE * SIZE


def operations(rng: np.random.Generator) -> dict[str, Callable[[np.ndarray], _core.Array]]:
    """Operations each sample of whose result depends on that sample alone."""
    w1, w3 = array(uniform(rng, C, C, 1, 1)), array(uniform(rng, C, C, 3, 3))
    w_dw = array(uniform(rng, C, 1, 3, 3))
    weight, bias, mean = (array(uniform(rng, C)) for _ in range(3))
    var = array(1 + np.abs(uniform(rng, C)))

    def lanes(x: np.ndarray) -> _core.Array:
        return array(x, "lanes")

    return {
        "relu": lambda x: _core.relu(lanes(x)),
        "add": lambda x: _core.add(lanes(x), lanes(x[:, ::-1])),
        "relu_backward": lambda x: _core.relu_backward(lanes(x), lanes(x[:, ::-1])),
        "batch_norm": lambda x: _core.batch_norm_eval(
            lanes(x), weight, bias, mean, var, 1e-3, "relu6", lanes(x[:, ::-1])
        )[0],
        "1x1": lambda x: _core.conv2d(lanes(x), w1, bias, GEOMETRY[1], "relu")[0],
        "1x1_by_input": lambda x: _core.conv2d_backward_input(lanes(x), w1, x.shape, GEOMETRY[1]),
        "depthwise": lambda x: _core.conv2d(lanes(x), w_dw, bias, DEPTHWISE[1], "relu")[0],
        "depthwise_by_input": lambda x: _core.conv2d_backward_input(
            lanes(x[:, :, ::2, ::2]), w_dw, x.shape, DEPTHWISE[2]
        ),
        "winograd": lambda x: _core.conv2d(lanes(x), w3, bias, GEOMETRY[3], "relu")[0],
        "winograd_by_input": lambda x: _core.conv2d_backward_input(
            lanes(x), w3, x.shape, GEOMETRY[3]
        ),
    }


@pytest.mark.parametrize("name", operations(np.random.default_rng()))
def test_same_bits(name: str, isa: str, rng: np.random.Generator) -> None:
    operation, x = operations(rng)[name], uniform(rng, *SHAPE)
    parts = [numpy(operation(x[i : i + LANES])) for i in range(0, N, LANES)]
    dirty_arena()
    assert_same_bits(numpy(operation(x)), np.concatenate(parts))


def test_batch_norm_gradient(isa: str, rng: np.random.Generator) -> None:
    x, dy = uniform(rng, *SHAPE), uniform(rng, *SHAPE)
    weight, bias = uniform(rng, C), uniform(rng, C)
    in_lanes = array(x, "lanes")
    y, mean, inv_std, _ = _core.batch_norm_train(
        in_lanes, array(weight), array(bias), None, None, 0.1, 1e-2, "relu"
    )
    dx, _, _, dplus = _core.batch_norm_train_backward(
        array(dy, "lanes"), in_lanes, array(weight), array(bias), mean, inv_std, y, "relu", True
    )
    gated = np.where(numpy(y) > 0, dy, 0)
    assert_same_bits(numpy(dplus), gated)
    true_mean, true_var = reference.batch_statistics(x)
    expected = reference.batch_norm_backward(
        gated, x, weight, true_mean, true_var, 1e-2, training=True
    )
    assert_close(numpy(dx), expected[0], x.size // C, scale=float(np.max(1 / (true_var + 1e-2))))
