// Functions that operations name and every device computes. Plain data: kernels include it, too.
#pragma once

#include <cstdint>

namespace fastconv {

// Elementwise functions; x, a and b are the elements, p and q the parameters.
enum class Unary {
  exp,  // within 1.1 ulp, as are log, sigmoid and tanh
  log,
  sqrt,
  relu,        // max(x, 0); NaN stays NaN in all of these
  relu6,       // min(max(x, 0), 6)
  leaky_relu,  // x > 0 ? x : p * x
  sigmoid,
  tanh,
  scale_shift,  // p * x + q
  divide,       // x / p
};
enum class Binary {
  add,
  sub,
  mul,
  div,
  relu_backward,        // a = dy, b = y: y <= 0 ? 0 : dy
  relu6_backward,       // a = dy, b = y: y <= 0 or y >= 6 ? 0 : dy
  leaky_relu_backward,  // a = dy, b = x: x > 0 ? dy : p * dy
  sigmoid_backward,     // a = dy, b = y: dy * (1 - y) * y
  tanh_backward,        // a = dy, b = y: dy * (1 - y * y)
};

enum class PointwiseLoss {
  squared_error,                     // (x - t)^2
  binary_cross_entropy,              // -(t * ln(x) + (1 - t) * ln(1 - x)), logarithms at least -100
  binary_cross_entropy_with_logits,  // the same of sigmoid(x), without its rounding
};

// "mean", "sum": a loss of shape (). "none": a loss for each label or element, whose gradient is
// that of their sum.
enum class Reduction { mean, sum, none };

}  // namespace fastconv
