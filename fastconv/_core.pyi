"""The compiled core: arrays, kernels behind checked operations, threads, instruction sets.

Everything here takes and returns `Array`; `fastconv.functional` is the public face. Operations check
their arguments and raise ValueError (ShapeError for geometry), TypeError, OverflowError, MemoryError.
An array may lie in memory in whichever order its device likes (csrc/core/array.h); an operation
takes any. gradient says that an operation is recorded for one, leaf that its operand is no result of
another: from both a device chooses the layout it works in.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__version__: str

class ShapeError(ValueError): ...

# ---------------------------------------------------------------------------------------- arrays
class Array:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...  # "float32", "int64", "uint16", "uint8"
    @property
    def is_contiguous(self) -> bool: ...  # row-major
    @property
    def address(self) -> int: ...
    @property
    def saved(self) -> bool: ...  # whether the tape keeps its values for a gradient
    # Row-major: shares memory, writable, and what is written is seen by Saved; else a copy.
    def numpy(self) -> NDArray[Any]: ...
    def values(self) -> NDArray[Any]: ...  # the same, to read only
    def written(self) -> None: ...  # counts a change of the values that the core cannot see
    def contiguous(self) -> Array: ...  # row-major; self when already so
    def reshape(self, shape: Sequence[int]) -> Array: ...  # shares storage, or is a row-major copy
    def copy(self) -> Array: ...
    def item(self) -> float: ...  # the only element

def any_lent(*arrays: Array | None) -> bool: ...  # whether somebody outside may write into one

# Arrays that a gradient needs, as they are when this is made.
class Saved:
    def __init__(self, arrays: Sequence[Array | None]) -> None: ...
    @property
    def changed(self) -> int: ...  # the first whose values have changed since, or -1
    def __getitem__(self, i: int) -> Array: ...

# float32, int64 or uint8 (native byte order), any strides. copy=False shares memory when x is
# C-contiguous, and keeps x alive; shared: others may write there.
def array(x: NDArray[Any], copy: bool = True, shared: bool = True) -> Array: ...
def zeros(shape: Sequence[int]) -> Array: ...
def zeros_like(x: Array) -> Array: ...  # same layout
def full(shape: Sequence[int], value: float) -> Array: ...
# Rows indices[i] of a C-contiguous uint8 or float32 array (count, ...) as float32 x * scale + shift,
# shape (len(indices), ...); scale and shift are one number each, or one a channel (axis 1). IndexError
# when out of range.
def gather_batch(
    x: NDArray[Any], indices: NDArray[np.int64], scale: float | NDArray[Any], shift: float | NDArray[Any],
    gradient: bool = False,
) -> Array: ...
# For tests and benchmarks of a device's layouts.
def layout(x: Array) -> str: ...  # "plain", or "lanes": blocks of sixteen samples
def to_lanes(x: Array) -> Array: ...

# -------------------------------------------------------------------------------- runtime
def streamed_floats() -> int: ...  # arrays in lanes from this size are written past the caches
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def default_num_threads() -> int: ...
def build_config() -> dict[str, str]: ...  # compiler, flags, cuda, version, isas built
def arena_stats() -> dict[str, int]: ...  # bytes_in_use, bytes_cached, system_allocations
def arena_release_cached() -> None: ...
def cuda_available() -> bool: ...
def cuda_devices() -> list[str]: ...  # one description a device
def fma_peak(seconds: float) -> float: ...  # FLOP/s of a pure FMA loop on all pool threads, active isa

# ------------------------------------------------------------- convolution (conv2d.cpp), linear.cpp
# pads: (top, bottom, left, right). x (N, IC, IH, IW), w (OC, IC/groups, KH, KW), b (OC,) or None.
# gradient, leaf: whether the operation is recorded, and whether its first operand is no result.
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]

Activation = Literal["relu", "relu6"] | None

class Geometry:  # of a convolution
    def __init__(self, stride: Pair, pads: Pads, dilation: Pair, groups: int) -> None: ...
    def output_shape(self, x: Sequence[int], w: Sequence[int]) -> tuple[int, int, int, int]: ...

class Pooling:  # max_pool2d's windows
    def __init__(
        self, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair, ceil_mode: bool
    ) -> None: ...
    def output_shape(self, x: Sequence[int]) -> tuple[int, int, int, int]: ...
    @property
    def misses_pixels(self) -> bool: ...  # whether a window can lie in the padding altogether

# Whether 3x3 and 5x5 convolutions may run through Winograd's F(4x4, 3x3), F(2x2, 5x5) where quicker.
def allow_winograd(allowed: bool) -> None: ...
def winograd_allowed() -> bool: ...
# The shape of the result; checks everything that conv2d checks.
def conv2d_shape(
    x: Array, w: Array, b: Array | None, geometry: Geometry
) -> tuple[int, int, int, int]: ...
# max_pool2d(activation(conv2d)). Returns y; with a pool and a gradient argmax; with a gradient x as
# conv2d_backward wants it.
def conv2d(
    x: Array, w: Array, b: Array | None, geometry: Geometry, activation: Activation = None,
    pool: Pooling | None = None, gradient: bool = False, leaf: bool = True,
) -> tuple[Array, Array | None, Array | None]: ...
# activation(batch_norm_eval(conv2d) + add), in one pass where that is quicker.
def conv2d_normalised(
    x: Array, w: Array, b: Array | None, geometry: Geometry, weight: Array | None, bias: Array | None,
    mean: Array, var: Array, eps: float, activation: Activation = None, add: Array | None = None,
) -> Array: ...
# b (IC,) is added to each channel of dx: a transposed convolution is this function with its bias.
def conv2d_backward_input(
    dy: Array, w: Array, x_shape: Sequence[int], geometry: Geometry, b: Array | None = None,
    gradient: bool = False, leaf: bool = True,
) -> Array: ...
def conv2d_backward_weight(
    dy: Array, x: Array, w_shape: Sequence[int], geometry: Geometry
) -> Array: ...
# Of conv2d with its activation (y is its result) and its pool (argmax); x only for dw. Those of dx, dw, db
# that are not wanted are None.
def conv2d_backward(
    dy: Array, y: Array | None, argmax: Array | None, x: Array | None, x_shape: Sequence[int], w: Array,
    geometry: Geometry, activation: Activation, pool: Pooling | None, wanted: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]: ...

# x (N, I), w (O, I), b (O,) or None -> y (N, O) and x as linear_backward_weight likes it best.
def linear(
    x: Array, w: Array, b: Array | None, activation: Activation = None, gradient: bool = False,
    leaf: bool = True,
) -> tuple[Array, Array]: ...
def linear_backward_input(dy: Array, w: Array) -> Array: ...
def linear_backward_weight(dy: Array, x: Array) -> Array: ...  # (O, I)
def channel_sum(x: Array) -> Array: ...  # (N, C, ...) -> (C,): the bias gradient

# ----------------------------------------------------------------------------- pooling (pool.cpp)
# argmax: uint16, position kh * KW + kw inside the window of the first NaN, else of the first maximum
# (of the first tap inside the image when all are -inf); None unless with_indices. relu: y = max(y, 0),
# and the backward pass lets through only where y > 0 (pass y).
def max_pool2d(
    x: Array, pooling: Pooling, relu: bool = False, with_indices: bool = True, gradient: bool = False,
    leaf: bool = True,
) -> tuple[Array, Array | None]: ...
def max_pool2d_backward(
    dy: Array, argmax: Array, y: Array | None, x_shape: Sequence[int], pooling: Pooling
) -> Array: ...
# int64: ih * IW + iw of each maximum
def max_pool2d_indices(argmax: Array, x_shape: Sequence[int], pooling: Pooling) -> Array: ...
def avg_pool2d_forward(
    x: Array, kernel: Pair, stride: Pair, pads: Pads, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int,  # 0: none
    gradient: bool = False, leaf: bool = True,
) -> Array: ...
def avg_pool2d_backward(
    dy: Array, x_shape: Sequence[int], kernel: Pair, stride: Pair, pads: Pads, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int,
    leaf: bool = False,  # whether dy comes from the user
) -> Array: ...
def adaptive_avg_pool2d_forward(
    x: Array, output_size: Pair, gradient: bool = False, leaf: bool = True
) -> Array: ...
def adaptive_avg_pool2d_backward(dy: Array, x_shape: Sequence[int]) -> Array: ...

# ------------------------------------------------------------- elementwise (elementwise.cpp)
# Of two operands of one shape.
def add(a: Array, b: Array) -> Array: ...
def sub(a: Array, b: Array) -> Array: ...
def mul(a: Array, b: Array) -> Array: ...
def div(a: Array, b: Array) -> Array: ...
def add_into(a: Array, b: Array) -> None: ...  # a += b
def assign(a: Array, b: Array) -> None: ...  # the values of b into the storage of a
def divide(x: Array, divisor: float) -> Array: ...  # x / divisor, correctly rounded
def scale_shift(x: Array, scale: float, shift: float) -> Array: ...  # x * scale + shift
def scale_by(x: Array, factor: Array) -> Array: ...  # x * factor, which is one element
def exp(x: Array) -> Array: ...
def log(x: Array) -> Array: ...
def sqrt(x: Array) -> Array: ...
def relu(x: Array) -> Array: ...  # NaN stays NaN
def relu_backward(dy: Array, y: Array) -> Array: ...
def relu6(x: Array) -> Array: ...
def relu6_backward(dy: Array, y: Array) -> Array: ...
def leaky_relu(x: Array, slope: float) -> Array: ...
def leaky_relu_backward(dy: Array, x: Array, slope: float) -> Array: ...
def sigmoid(x: Array) -> Array: ...
def sigmoid_backward(dy: Array, y: Array) -> Array: ...
def tanh(x: Array) -> Array: ...
def tanh_backward(dy: Array, y: Array) -> Array: ...
def sum(x: Array) -> Array: ...  # ()
# Keeps x/(1-p) with probability 1-p, decided by (seed, row-major index) alone: the same mask for any
# layout and thread count. backward: the same call on dy.
def dropout(x: Array, p: float, seed: int) -> Array: ...
def count_up(x: Array) -> None: ...  # adds 1 to an int64 counter ()

# ------------------------------------------------------------------ moving data (movement.cpp)
def pad2d(x: Array, pads: Pads, value: float) -> Array: ...  # negative pads crop; (N, C, H, W)
def cat(arrays: Sequence[Array], axis: int) -> Array: ...
def slice_axis(x: Array, axis: int, begin: int, end: int) -> Array: ...
def gather2d(x: Array, rows: Sequence[int], cols: Sequence[int]) -> Array: ...  # x[:, :, rows][..., cols]
def gather2d_backward(dy: Array, rows: Sequence[int], cols: Sequence[int], x_shape: Sequence[int]) -> Array: ...
def upsample_bilinear2d(x: Array, output_size: Pair, align_corners: bool) -> Array: ...
def upsample_bilinear2d_backward(dy: Array, x_shape: Sequence[int], align_corners: bool) -> Array: ...

# ---------------------------------------------------------------- normalisation (norm.cpp)
# x (N, C, ...); weight, bias, mean, variance (C,). gradient: whether it is recorded for one; leaf: whether
# x is a network's input. Both decide the layout that x runs in; the last result is x in that layout.
# Training: biased variance normalises; running statistics (may be None) are updated in place with the
# unbiased one, running += momentum * (batch - running). Returns y, mean, inv_std, x.
def batch_norm_train(
    x: Array, weight: Array | None, bias: Array | None, running_mean: Array | None,
    running_var: Array | None, momentum: float, eps: float,
    activation: Activation = None, add: Array | None = None,  # added before the activation
    gradient: bool = False, leaf: bool = True,
) -> tuple[Array, Array, Array, Array]: ...
def batch_norm_eval(
    x: Array, weight: Array | None, bias: Array | None, mean: Array, var: Array, eps: float,
    activation: Activation = None, add: Array | None = None, gradient: bool = False, leaf: bool = True,
) -> tuple[Array, Array]: ...  # y, x
# -> dx, dweight, dbias, dadd (None when not wanted). y: the result of the activation,
# needed where something was added before it, else found again from x and bias
def batch_norm_train_backward(
    dy: Array, x: Array, weight: Array | None, bias: Array | None, mean: Array, inv_std: Array,
    y: Array | None = None, activation: Activation = None, wants_dadd: bool = False,
) -> tuple[Array, Array, Array, Array | None]: ...
def batch_norm_eval_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]: ...
# dx alone, where weight and bias are frozen
def batch_norm_eval_backward_input(dy: Array, weight: Array | None, var: Array, eps: float) -> Array: ...
# y = x / (k + alpha/size * sum over `size` neighbouring channels of x^2)^beta; returns y, x
def local_response_norm(
    x: Array, size: int, alpha: float, beta: float, k: float, gradient: bool = False, leaf: bool = True
) -> tuple[Array, Array]: ...
def local_response_norm_backward(
    dy: Array, x: Array, size: int, alpha: float, beta: float, k: float
) -> Array: ...

# ---------------------------------------------------------------- softmax and losses (loss.cpp)
def softmax(x: Array, axis: int) -> Array: ...
def softmax_backward(dy: Array, y: Array, axis: int) -> Array: ...
def log_softmax(x: Array, axis: int) -> Array: ...
def log_softmax_backward(dy: Array, y: Array, axis: int) -> Array: ...
# Each returns (loss, d loss / d first argument). reduction: "mean", "sum" (loss has shape ()) or "none"
# (loss has the shape of the labels or of x; the gradient is that of the sum of the losses).
# logits (N, C, ...), labels int64 (N, ...): in 0 .. C-1 or ignore_index, else ValueError naming the first.
def cross_entropy(
    logits: Array, labels: Array, weight: Array | None, ignore_index: int, label_smoothing: float,
    reduction: str,
) -> tuple[Array, Array]: ...
def mse_loss(x: Array, target: Array, reduction: str) -> tuple[Array, Array]: ...
def binary_cross_entropy(x: Array, target: Array, reduction: str) -> tuple[Array, Array]: ...
def binary_cross_entropy_with_logits(x: Array, target: Array, reduction: str) -> tuple[Array, Array]: ...
def count_correct(logits: Array, labels: Array) -> int: ...  # rows of (N, C) whose first maximum is the label

# ---------------------------------------------------------------- optimisers (optim.cpp)
# PyTorch's update rules, over all parameters, in place (row-major float32). A step is checked and prepared
# first, and taken with take_steps, which changes everything in one pass.
class OptimStep: ...

def take_steps(steps: Sequence[OptimStep]) -> None: ...
def sgd_step(
    params: Sequence[Array], grads: Sequence[Array], momenta: Sequence[Array], lr: float, momentum: float,
    dampening: float, weight_decay: float, nesterov: bool, first: bool, maximize: bool,
) -> OptimStep: ...  # momenta: empty when momentum == 0; first: momentum = grad
def rmsprop_step(
    params: Sequence[Array], grads: Sequence[Array], square_avg: Sequence[Array], momenta: Sequence[Array],
    grad_avg: Sequence[Array], lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
    eps_inside_sqrt: bool,
) -> OptimStep: ...  # momenta / grad_avg (centered): empty when not used
def adam_step(
    params: Sequence[Array], grads: Sequence[Array], exp_avg: Sequence[Array], exp_avg_sq: Sequence[Array],
    max_exp_avg_sq: Sequence[Array], step: int, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool, maximize: bool,
) -> OptimStep: ...  # max_exp_avg_sq: empty unless amsgrad
def adagrad_step(
    params: Sequence[Array], grads: Sequence[Array], state_sum: Sequence[Array], lr: float,
    weight_decay: float, eps: float,
) -> OptimStep: ...  # lr already decayed
def grad_norm(grads: Sequence[Array]) -> float: ...  # 2-norm over all of them, summed in double
def scale_all(arrays: Sequence[Array], scale: float) -> None: ...

# ---------------------------------------------------------------- recorded programs (csrc/program)
# What all operations above do in this thread while it is open. A recording is refused, with a reason,
# where Python reads values that depend on inputs, constants or seeds, or brings values from NumPy.
class Recorder:
    def __init__(self, inputs: Sequence[Array]) -> None: ...
    def __enter__(self) -> Recorder: ...
    def __exit__(self, *exception: object) -> None: ...
    def refuse(self, reason: str) -> None: ...
    @property
    def reason(self) -> str: ...  # empty: not refused
    def finish(self, outputs: Sequence[Array]) -> Program: ...  # RuntimeError when refused

class Program:
    # Inputs of the forms recorded; as many random seeds as `seeds` says, in the order of their use.
    def run(self, inputs: Sequence[Array], seeds: Sequence[int]) -> list[Array]: ...
    @property
    def seeds(self) -> int: ...

def signature(arrays: Sequence[Array]) -> bytes: ...  # shapes, dtypes and layouts: a key for a dict
