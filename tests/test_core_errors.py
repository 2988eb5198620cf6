"""The layer below the Python checks, called directly with wrong layouts, dtypes and sizes.

Every call must be refused with an exception; one that reads or writes out of bounds would take the
process with it, so they run in a process of their own.
"""

from __future__ import annotations

from tests.support import run_python

CALLS = """
import numpy as np
from fastconv import _core
f = lambda *s: _core.array(np.zeros(s, "f4"))
i = lambda *s: _core.array(np.zeros(s, "i8"))
no = (False, False)
g = _core.Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1)
window = ((2, 2), (2, 2), (0, 0, 0, 0))
pool = _core.Pooling(*window, (1, 1), False)
y, argmax = _core.max_pool2d(f(2, 3, 4, 4), pool)
def back(dy, y, argmax, x, activation, pooling):
    shape, wanted = (2, 3, 4, 4), (True, True, True)
    return _core.conv2d_backward(
        dy, y, argmax, x, shape, f(1, 3, 2, 2), g, activation, pooling, wanted
    )
calls = [
    lambda: _core.conv2d(i(2, 3, 4, 4), f(1, 3, 2, 2), None, g),
    lambda: _core.conv2d_backward_input(f(2, 1, 9, 9), f(1, 3, 2, 2), (2, 3, 4, 4), g),
    lambda: _core.conv2d_backward_input(f(2, 1, 3, 3), f(1, 3, 2, 2), (2, 3, 4), g),
    lambda: _core.conv2d_backward_weight(f(3, 1, 3, 3), f(2, 3, 4, 4), (1, 3, 2, 2), g),
    lambda: _core.conv2d_backward_weight(f(2, 1, 3, 3), f(2, 3, 4, 4), (-1, 3, 2, 2), g),
    lambda: back(f(3, 1, 3, 3), None, None, f(2, 3, 4, 4), None, None),
    lambda: back(f(2, 1, 3, 3), f(3, 1, 3, 3), None, f(2, 3, 4, 4), "relu", None),
    lambda: back(f(2, 1, 3, 3), None, None, f(2, 3, 4, 4), "relu", None),
    lambda: back(f(2, 1, 3, 3), f(2, 1, 3, 3), None, f(2, 3, 4, 4), "tanh", None),
    lambda: back(f(2, 1, 3, 3), None, None, None, None, None),
    lambda: back(f(2, 1, 1, 1), None, None, f(2, 3, 4, 4), None, pool),
    lambda: _core.linear(f(2, 3, 4), f(2, 3), None),
    lambda: _core.linear_backward_input(f(2, 3), f(4, 3)),
    lambda: _core.linear_backward_weight(f(2, 3), f(3, 3)),
    lambda: _core.max_pool2d_backward(f(2, 3, 5, 5), argmax, None, (2, 3, 4, 4), pool),
    lambda: _core.max_pool2d_backward(y, argmax, None, (2, 3, 9, 9), pool),
    lambda: _core.max_pool2d_backward(y, y, None, (2, 3, 4, 4), pool),
    lambda: _core.max_pool2d_backward(y, argmax, f(1), (2, 3, 4, 4), pool),
    lambda: _core.max_pool2d_indices(y, (2, 3, 4, 4), pool),
    lambda: _core.avg_pool2d_backward(f(2, 3, 5, 5), (2, 3, 4, 4), *window, False, True, 0),
    lambda: _core.adaptive_avg_pool2d_backward(f(2, 3, 5), (2, 3, 4, 4)),
    lambda: _core.add(f(2, 3), f(3, 2)),
    lambda: _core.add(f(2, 3), i(2, 3)),
    lambda: _core.add_into(f(2, 3), f(2, 4)),
    lambda: _core.relu_backward(f(2, 3), f(3)),
    lambda: _core.channel_sum(f(3)),
    lambda: _core.batch_norm_train(f(2, 3), f(2), None, None, None, 0.1, 1e-5),
    lambda: _core.batch_norm_train(f(2, 3), None, None, f(2), f(3), 0.1, 1e-5),
    lambda: _core.batch_norm_train_backward(f(2, 3), f(2, 4), None, None, f(3), f(3)),
    lambda: _core.batch_norm_train_backward(
        f(2, 3), f(2, 3), None, None, f(3), f(3), f(2, 4), "relu6"
    ),
    lambda: _core.batch_norm_train(f(2, 3), None, None, None, None, 0.1, 1e-5, "relu6", f(2, 4)),
    lambda: _core.batch_norm_eval(f(2, 3), None, None, f(3), f(2), 1e-5),
    lambda: _core.local_response_norm_backward(f(2, 3), f(2, 4), 3, 1.0, 1.0, 1.0),
    lambda: _core.softmax(f(2, 3), 2),
    lambda: _core.softmax_backward(f(2, 3), f(2, 4), 1),
    lambda: _core.cross_entropy(f(2, 3), f(2), None, -100, 0.0, "mean"),
    lambda: _core.cross_entropy(f(2, 3), i(2), f(2), -100, 0.0, "mean"),
    lambda: _core.cross_entropy(f(2, 3), i(2), None, -100, 0.0, "most"),
    lambda: _core.mse_loss(f(2, 3), f(2), "mean"),
    lambda: _core.count_correct(f(2, 3), i(3)),
    lambda: _core.cat([f(2, 3), f(2, 3, 1)], 1),
    lambda: _core.cat([f(2, 3)], 5),
    lambda: _core.slice_axis(f(2, 3), 1, 2, 4),
    lambda: _core.slice_axis(f(2, 3), 1, -1, 2),
    lambda: _core.slice_axis(f(2, 3), 7, 0, 1),
    lambda: _core.pad2d(f(2, 3), (1, 1, 1, 1), 0.0),
    lambda: _core.gather2d(f(1, 1, 2, 2), [0, 2], [0]),
    lambda: _core.gather2d(f(1, 1, 2, 2), [0], [-1]),
    lambda: _core.gather2d(f(1, 1, 2, 2), [], [0]),
    lambda: _core.gather2d(f(1, 2, 2), [0], [0]),
    lambda: _core.gather2d(i(1, 1, 2, 2), [0], [0]),
    lambda: _core.gather2d_backward(f(1, 1, 3, 3), [0, 1], [0, 1, 1], (1, 1, 2, 2)),
    lambda: _core.gather2d_backward(f(1, 1, 2, 3), [0, 2], [0, 1, 1], (1, 1, 2, 2)),
    lambda: _core.gather2d_backward(f(1, 1, 2, 3), [0, 1], [0, 1, 1], (2, 1, 2, 2)),
    lambda: _core.gather2d_backward(f(1, 1, 2, 3), [0, 1], [0, 1, 1], (1, 1, 2)),
    lambda: _core.upsample_bilinear2d(f(1, 1, 2, 2), (0, 2), False),
    lambda: _core.upsample_bilinear2d_backward(f(1, 1, 2, 2), (1, 2, 3, 3), False),
    lambda: _core.gather_batch(np.zeros((3, 4), "f8"), np.array([0]), 1.0, 0.0),
    lambda: _core.sgd_step([f(2)], [f(3)], [], 0.1, 0.0, 0.0, 0.0, False, True, False),
    lambda: _core.sgd_step([f(2)], [], [], 0.1, 0.0, 0.0, 0.0, False, True, False),
    lambda: _core.sgd_step([f(2)], [f(2)], [], 0.1, 0.9, 0.0, 0.0, False, True, False),
    lambda: _core.adam_step([f(2)], [f(2)], [f(2)], [f(1)], [], 1, 0.1, 0.9, 0.9, 1e-8, 0.0, *no),
    lambda: _core.rmsprop_step([f(2)], [f(2)], [], [], [], 0.1, 0.9, 1e-8, 0.0, 0.0, False),
    lambda: _core.take_steps([None]),
    lambda: _core.adagrad_step([i(2)], [f(2)], [f(2)], 0.1, 0.0, 1e-8),
    lambda: f(2, 3).reshape((4, 2)),
    lambda: _core.zeros((1,) * 7),
    lambda: _core.zeros((-1,)),
    lambda: _core.Array(),
]
for number, call in enumerate(calls):
    try:
        call()
    except (ValueError, TypeError, IndexError, OverflowError):
        continue
    print("no error from call", number)
print("done")
"""


def test_core_refuses_nonsense_without_crashing() -> None:
    done = run_python("import faulthandler; faulthandler.enable()\n" + CALLS)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stdout + done.stderr
