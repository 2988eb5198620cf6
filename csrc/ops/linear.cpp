#include "ops/linear.h"

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

void check_weight(const Array& w) {
  check_float32("linear", "weight", w);
  if (w.ndim() != 2)
    throw ShapeError(message(
        "[linear] weight must have 2 dimensions (out_features, in_features), got ", w.shape()));
  if (w.dim(0) < 1 || w.dim(1) < 1)
    throw ShapeError(message("[linear] weight has an axis of size 0: ", w.shape()));
}

void check_matrix(const char* what, const Array& x) {
  check_float32("linear", what, x);
  if (x.ndim() != 2)
    throw ShapeError(message("[linear] ", what, " must have 2 dimensions (N, features), got ",
                             x.shape(), "; insert Flatten() before the layer"));
}

}  // namespace

std::pair<Array, Array> linear(const Array& x, const Array& w, const Array& b,
                               Activation activation, Use use) {
  check_matrix("input", x);
  check_weight(w);
  const int64_t O = w.dim(0), I = w.dim(1);
  if (x.dim(1) != I)
    throw ShapeError(message("[linear] input has ", x.dim(1),
                             " features per sample, weight expects ", I, ": input ", x.shape(),
                             ", weight ", w.shape()));
  if (b.defined()) {
    check_float32("linear", "bias", b);
    if (b.ndim() != 1 || b.dim(0) != O)
      throw ShapeError(message("[linear] bias must have shape (", O, "), got ", b.shape()));
  }
  return program::run("linear", &Operations::linear, x, w, b, activation, use);
}

Array linear_backward_input(const Array& dy, const Array& w) {
  check_matrix("dy", dy);
  check_weight(w);
  if (dy.dim(1) != w.dim(0))
    throw ShapeError(message("[linear] the gradient of the output has ", dy.dim(1),
                             " features per sample, weight gives ", w.dim(0), ": dy ", dy.shape(),
                             ", weight ", w.shape()));
  return program::run("linear_backward_input", &Operations::linear_backward_input, dy, w);
}

Array linear_backward_weight(const Array& dy, const Array& x) {
  check_matrix("input", x);
  check_matrix("dy", dy);
  if (x.dim(0) != dy.dim(0))
    throw ShapeError(
        message("[linear] input and gradient must have the same number of samples: input ",
                x.shape(), ", dy ", dy.shape()));
  return program::run("linear_backward_weight", &Operations::linear_backward_weight, dy, x);
}

}  // namespace fastconv
