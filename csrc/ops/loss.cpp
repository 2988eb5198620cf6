#include "ops/loss.h"

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

using program::run;

int checked_axis(const char* op, const Array& x, int64_t axis) {
  if (axis < -x.ndim() || axis >= x.ndim())
    throw ShapeError(message("[", op, "] axis ", axis, " is out of range for ", x.ndim(),
                             " dimensions: input ", x.shape()));
  return static_cast<int>(axis < 0 ? axis + x.ndim() : axis);
}

Array forward(const char* op, Array (*Operations::*entry)(const Array&, int), const Array& x,
              int64_t axis) {
  check_float32(op, "input", x);
  return run(op, entry, x, checked_axis(op, x, axis));
}

Array backward(const char* op, Array (*Operations::*entry)(const Array&, const Array&, int),
               const Array& dy, const Array& y, int64_t axis) {
  check_float32(op, "dy", dy);
  check_float32(op, "y", y);
  check_same_shape(op, "dy", dy, "y", y);
  return run(op, entry, dy, y, checked_axis(op, dy, axis));
}

Reduction reduction_named(const char* op, const std::string& name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  if (name == "none") return Reduction::none;
  throw std::invalid_argument(
      message("[", op, "] reduction must be \"mean\", \"sum\" or \"none\", got \"", name, "\""));
}

void check_labels(const char* op, const Array& logits, const Array& labels) {
  check_float32(op, "input", logits);
  if (labels.dtype() != DType::int64)
    throw DTypeError(message("[", op, "] labels must be int64 class numbers, got ",
                             name_of(labels.dtype()),
                             "; convert them with labels.astype(np.int64), one-hot rows with "
                             "labels.argmax(1)"));
  if (logits.ndim() < 2)
    throw ShapeError(message("[", op, "] input must have at least 2 dimensions (N, C, ...), got ",
                             logits.shape()));
  bool match = labels.ndim() == logits.ndim() - 1 && labels.dim(0) == logits.dim(0);
  for (int axis = 1; match && axis < labels.ndim(); ++axis)
    match = labels.dim(axis) == logits.dim(axis + 1);
  if (!match)
    throw ShapeError(message("[", op,
                             "] labels must have the shape of the input without its dimension 1 "
                             "(the classes): input ",
                             logits.shape(), ", labels ", labels.shape()));
  for (int axis = 1; axis < logits.ndim(); ++axis)
    if (logits.dim(axis) == 0)
      throw ShapeError(
          message("[", op, "] input has size 0 in dimension ", axis, ": ", logits.shape()));
  if (logits.dim(1) > (1 << 24))
    throw ShapeError(message("[", op, "] at most 2^24 classes are supported, got ", logits.dim(1)));
}

const char* operation_name(PointwiseLoss kind) {
  switch (kind) {
    case PointwiseLoss::squared_error: return "mse_loss";
    case PointwiseLoss::binary_cross_entropy: return "binary_cross_entropy";
    case PointwiseLoss::binary_cross_entropy_with_logits: break;
  }
  return "binary_cross_entropy_with_logits";
}

}  // namespace

Array softmax(const Array& x, int64_t axis) {
  return forward("softmax", &Operations::softmax, x, axis);
}
Array softmax_backward(const Array& dy, const Array& y, int64_t axis) {
  return backward("softmax_backward", &Operations::softmax_backward, dy, y, axis);
}
Array log_softmax(const Array& x, int64_t axis) {
  return forward("log_softmax", &Operations::log_softmax, x, axis);
}
Array log_softmax_backward(const Array& dy, const Array& y, int64_t axis) {
  return backward("log_softmax_backward", &Operations::log_softmax_backward, dy, y, axis);
}

std::pair<Array, Array> cross_entropy(const Array& logits, const Array& labels, const Array& weight,
                                      int64_t ignore_index, double label_smoothing,
                                      const std::string& reduction) {
  const char* const op = "cross_entropy";
  const CrossEntropyParams params{ignore_index, label_smoothing, reduction_named(op, reduction)};
  check_labels(op, logits, labels);
  if (!(label_smoothing >= 0.0 && label_smoothing <= 1.0))
    throw std::invalid_argument(
        message("[", op, "] label_smoothing must be between 0 and 1, got ", label_smoothing));
  if (weight.defined()) {
    check_float32(op, "weight", weight);
    if (weight.shape() != Shape{logits.dim(1)})
      throw ShapeError(message("[", op, "] weight must have shape (", logits.dim(1),
                               ",), one value a class, got ", weight.shape()));
  }
  return run(op, &Operations::cross_entropy, logits, labels, weight, params);
}

std::pair<Array, Array> pointwise_loss(PointwiseLoss kind, const Array& x, const Array& target,
                                       const std::string& reduction) {
  const char* const op = operation_name(kind);
  const Reduction reduced = reduction_named(op, reduction);
  check_float32(op, "input", x);
  check_float32(op, "target", target);
  check_same_shape(op, "input", x, "target", target);
  return run(op, &Operations::pointwise_loss, kind, x, target, reduced);
}

int64_t count_correct(const Array& logits, const Array& labels) {
  check_labels("count_correct", logits, labels);
  if (logits.ndim() != 2)
    throw ShapeError(
        message("[count_correct] input must have 2 dimensions (N, C), got ", logits.shape()));
  return run("count_correct", &Operations::count_correct, logits, labels);
}

}  // namespace fastconv
