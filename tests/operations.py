"""Every operation of the core with sample operands, for tests that ask one thing of them all.

An entry takes `make(*shape)`, which gives a float32 array in the layout under test with values in
[-1, 1), and returns everything the operation computes. N is 37: two whole blocks of sixteen and a
tail; images are large enough to be split over threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv import _core
from tests.support import array

Array = _core.Array
Make = Callable[..., Array]
Operation = Callable[[Make], list[Array]]

N, C, H, W = 37, 6, 32, 42
GEOMETRY = _core.Geometry((1, 1), (1, 1, 1, 1), (1, 1), 1)
DEPTHWISE = _core.Geometry((2, 1), (1, 0, 1, 1), (1, 1), C)
WINDOW = _core.Pooling((3, 2), (2, 2), (1, 0, 0, 1), (1, 1), True)
AVERAGE = ((3, 2), (2, 2), (1, 0, 0, 1), True, True, 0)
LABELS = np.arange(N) % C
ROWS, COLS = [3, 3, 0, 31, 7], [0, 41, 41, 5, 4, 4, 20]


def weight(*shape: int) -> Array:
    return array(np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32))


def positive(x: Array) -> Array:
    return _core.scale_shift(x, 0.4, 0.5)


def _conv2d(make: Make) -> list[Array]:
    x, w, b = make(N, C, H, W), weight(10, C, 3, 3), weight(10)
    y = _core.conv2d(x, w, b, GEOMETRY, "relu")[0]
    return [
        y,
        _core.conv2d_backward_input(y, w, x.shape, GEOMETRY),
        _core.conv2d_backward_weight(y, x, w.shape, GEOMETRY),
    ]


def _conv2d_depthwise(make: Make) -> list[Array]:
    x, w = make(N, C, H, W), weight(C, 1, 3, 3)
    y = _core.conv2d(x, w, None, DEPTHWISE)[0]
    return [
        y,
        _core.conv2d_backward_input(y, w, x.shape, DEPTHWISE),
        _core.conv2d_backward_weight(y, x, w.shape, DEPTHWISE),
    ]


def _conv2d_winograd(make: Make) -> list[Array]:
    x, w, b = make(N, 24, 13, 14), weight(32, 24, 3, 3), weight(32)
    y = _core.conv2d(x, w, b, GEOMETRY, "relu")[0]
    return [
        y,
        _core.conv2d_backward_input(y, w, x.shape, GEOMETRY),
        _core.conv2d_backward_weight(y, x, w.shape, GEOMETRY),
    ]


def _conv_norm(make: Make) -> list[Array]:
    """1x1 with maps that are and are not whole vectors, depthwise, 3x3: normalised, added to."""
    results = []
    for channels, height, width, kernel, stride, groups in (
        (16, 7, 7, 1, 1, 1),
        (C, 9, 5, 1, 1, 1),
        (32, 28, 42, 1, 1, 1),
        (C, 15, 14, 1, 2, 2),
        (C, 14, 14, 3, 1, C),
        (C, 15, 37, 3, 2, C),
        (32, 14, 13, 3, 1, 1),
        (3, 10, 9, 3, 1, 1),
        (12, 7, 7, 3, 1, 1),
    ):
        geometry = _core.Geometry((stride, stride), (kernel // 2,) * 4, (1, 1), groups)
        x, w = make(N, channels, height, width), weight(48, channels // groups, kernel, kernel)
        y_shape = geometry.output_shape(x.shape, w.shape)
        statistics = weight(48), weight(48), weight(48), positive(weight(48)), 1e-5
        plus = make(*y_shape)
        results += [
            _core.conv2d_normalised(x, w, weight(48), geometry, *statistics, "relu6", plus),
            _core.conv2d_normalised(x, w, None, geometry, *statistics),
        ]
    return results


def _linear(make: Make) -> list[Array]:
    x, w, dy = make(N, 300), weight(200, 300), make(N, 200)
    return [
        *_core.linear(x, w, weight(200), "relu", True),
        _core.linear_backward_input(dy, w),
        _core.linear_backward_weight(dy, x),
    ]


def _max_pool(make: Make) -> list[Array]:
    x = make(N, C, H, W)
    y, argmax = _core.max_pool2d(x, WINDOW, True)
    return [
        y,
        argmax,
        _core.max_pool2d_indices(argmax, x.shape, WINDOW),
        _core.max_pool2d_backward(y, argmax, y, x.shape, WINDOW),
    ]


def _avg_pool(make: Make) -> list[Array]:
    x = make(N, C, H, W)
    y = _core.avg_pool2d_forward(x, *AVERAGE)
    z = _core.adaptive_avg_pool2d_forward(x, (3, 5))
    return [
        y,
        _core.avg_pool2d_backward(y, x.shape, *AVERAGE),
        z,
        _core.adaptive_avg_pool2d_backward(z, x.shape),
    ]


def _arithmetic(make: Make) -> list[Array]:
    a, b = make(N, C, H, W), make(N, C, H, W)
    total = a.copy()
    _core.add_into(total, b)
    return [_core.add(a, b), _core.sub(a, b), _core.mul(a, b), _core.div(a, positive(b)), total]


def _elementwise(make: Make) -> list[Array]:
    x, dy = make(N, C, H, W), make(N, C, H, W)
    one = [getattr(_core, name)(x) for name in ("relu", "relu6", "sigmoid", "tanh", "exp")]
    one += [_core.log(positive(x)), _core.sqrt(positive(x)), _core.scale_shift(x, 2.0, 1.0)]
    back = [getattr(_core, f"{n}_backward")(dy, x) for n in ("relu", "relu6", "sigmoid", "tanh")]
    leaky = [_core.leaky_relu(x, 0.1), _core.leaky_relu_backward(dy, x, 0.1)]
    return [*one, *back, *leaky, _core.dropout(x, 0.3, 5)]


def _sums(make: Make) -> list[Array]:
    x = make(N, C, H, W)
    return [_core.sum(x), _core.channel_sum(x)]


def _movement(make: Make) -> list[Array]:
    x, y = make(N, C, H, W), make(N, 3, H, W)
    return [
        _core.pad2d(x, (1, 2, -3, 4), 0.5),
        _core.cat([x, y], 1),
        _core.cat([x, x], 0),
        _core.slice_axis(x, 2, 3, 9),
        _core.slice_axis(x, 0, 3, 30),
        _core.gather2d(x, ROWS, COLS),
        _core.gather2d_backward(_core.gather2d(x, ROWS, COLS), ROWS, COLS, x.shape),
        _core.upsample_bilinear2d(x, (33, 17), False),
        _core.upsample_bilinear2d_backward(x, (N, C, 7, 31), True),
    ]


def _conversion(make: Make) -> list[Array]:
    x = make(N, C, H, W)
    pixels = (np.arange(50 * 3 * 40 * 40) % 251).astype(np.uint8).reshape(50, 3, 40, 40)
    return [
        _core.to_lanes(x),
        x.contiguous(),
        x.copy(),
        _core.gather_batch(pixels, np.arange(N) * 7 % 50, 1 / 255, 0.0),
    ]


def _norm(make: Make) -> list[Array]:
    x, dy = make(N, C, H, W), make(N, C, H, W)
    w, b, mean, var = weight(C), weight(C), weight(C), positive(weight(C))
    y, batch_mean, inv_std, _ = _core.batch_norm_train(x, w, b, mean, var, 0.1, 1e-5)
    return [
        y,
        batch_mean,
        inv_std,
        *_core.batch_norm_train_backward(dy, x, w, b, batch_mean, inv_std)[:3],
        _core.batch_norm_eval(x, w, b, mean, var, 1e-5)[0],
        *_core.batch_norm_eval_backward(dy, x, w, mean, var, 1e-5),
        mean,
        var,
    ]


def _local_response_norm(make: Make) -> list[Array]:
    x, dy = make(N, C, H, W), make(N, C, H, W)
    constants = (5, 1e-4, 0.75, 2.0)
    return [
        _core.local_response_norm(x, *constants)[0],
        _core.local_response_norm_backward(dy, x, *constants),
    ]


def _softmax(make: Make) -> list[Array]:
    x, dy = make(N, C, H, W), make(N, C, H, W)
    results = []
    for name in ("softmax", "log_softmax"):
        y = getattr(_core, name)(x, 1)
        results += [y, getattr(_core, name + "_backward")(dy, y, 1)]
    return results


def _losses(make: Make) -> list[Array]:
    x, t = make(N, C), positive(make(N, C))
    labels = array(LABELS)
    return [
        *_core.cross_entropy(x, labels, positive(weight(C)), 2, 0.1, "mean"),
        *_core.mse_loss(x, t, "mean"),
        *_core.binary_cross_entropy(positive(x), t, "sum"),
        *_core.binary_cross_entropy_with_logits(x, t, "none"),
        array(np.array([_core.count_correct(x, labels)])),
    ]


def _optimisers(make: Make) -> list[Array]:
    grads = [weight(100, 600), weight(7)]

    def zeros() -> list[Array]:
        return [_core.zeros_like(g) for g in grads]

    p, m, v, s, a = ([g.copy() for g in grads], zeros(), zeros(), zeros(), zeros())
    for step in (1, 2):
        for planned in (
            _core.sgd_step(p, grads, m, 0.1, 0.9, 0.0, 0.01, True, step == 1, False),
            _core.adam_step(p, grads, v, s, [], step, 1e-3, 0.9, 0.999, 1e-8, 0.01, True, False),
            _core.rmsprop_step(p, grads, a, [], [], 1e-3, 0.9, 1e-7, 0.0, 0.0, True),
            _core.adagrad_step(p, grads, s, 1e-2, 0.0, 1e-10),
        ):
            _core.take_steps([planned])
    norm = _core.full((1,), _core.grad_norm(p))
    _core.scale_all(p, 0.5)
    return [*p, *m, *v, *s, *a, norm]


OPERATIONS: dict[str, Operation] = {
    "conv2d": _conv2d,
    "conv2d_depthwise": _conv2d_depthwise,
    "conv2d_winograd": _conv2d_winograd,
    "conv_norm": _conv_norm,
    "linear": _linear,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "arithmetic": _arithmetic,
    "elementwise": _elementwise,
    "sums": _sums,
    "movement": _movement,
    "conversion": _conversion,
    "norm": _norm,
    "local_response_norm": _local_response_norm,
    "softmax": _softmax,
    "losses": _losses,
    "optimisers": _optimisers,
}
