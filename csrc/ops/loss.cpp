#include "ops/loss.h"

#include <cmath>
#include <limits>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/split.h"
#include "ops/check.h"

namespace fastconv {
namespace {

// An array seen along one axis: (outer, C, inner), as its storage has it.
struct AlongAxis {
  int64_t outer, C, inner;
};

AlongAxis along(const Array& x, int axis) {
  const int64_t unit = x.in_lanes() ? kLanes : 1;
  int64_t outer = x.in_lanes() ? x.blocks() : 1;
  for (int i = x.in_lanes() ? 1 : 0; i < axis; ++i) outer *= x.dim(i);
  return {outer, x.dim(axis), x.shape().numel_from(axis + 1) * unit};
}

// body(offset, columns) over strips of columns that share a task.
template <class Body>
void for_columns(const AlongAxis& v, const Body& body) {
  const int64_t strip = std::max(kLanes, kGrain / v.C / kLanes * kLanes);
  const int64_t strips = ceil_div(v.inner, strip);
  for_shares(v.outer * strips, v.C * std::min(strip, v.inner), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % strips * strip;
      body(i / strips * v.C * v.inner + column, std::min(strip, v.inner - column));
    }
  });
}

int checked_axis(const char* op, const Array& x, int64_t axis) {
  if (axis < -x.ndim() || axis >= x.ndim())
    throw ShapeError(message("[", op, "] axis ", axis, " is out of range for ", x.ndim(),
                             " dimensions: input ", x.shape()));
  return static_cast<int>(axis < 0 ? axis + x.ndim() : axis);
}

// y = f(a, b) down an axis, where f is a kernel on columns. Columns must lie side by side: a plain
// array along its last axis goes through lanes, one in lanes along the batch through plain.
template <class Kernel>
Array map_columns(const Array& a, const Array& b, int axis, const Kernel& kernel) {
  const Layout layout = a.layout();
  if (a.in_lanes() && axis == 0)
    return to_lanes(map_columns(to_plain(a), to_plain(b), axis, kernel));
  if (layout == Layout::plain && axis > 0 && axis == a.ndim() - 1) {
    const Shape rows{a.shape().numel() / std::max<int64_t>(1, a.dim(axis)), a.dim(axis)};
    const Array y =
        map_columns(to_lanes(a.reshape(rows)), to_lanes(to_plain(b).reshape(rows)), 1, kernel);
    return to_plain(y).reshape(a.shape());
  }
  Array y = Array::empty(a.shape(), DType::float32, layout);
  if (y.stored() == 0) return y;
  const Array second = as_layout(b, layout);
  const AlongAxis v = along(a, axis);
  for_columns(v, [&](int64_t at, int64_t columns) {
    kernel(y.data() + at, a.data() + at, second.data() + at, columns, v.C, v.inner);
  });
  return y;
}

using Forward = void (*)(float*, const float*, int64_t, int64_t, int64_t);
using Backward = void (*)(float*, const float*, const float*, int64_t, int64_t, int64_t);

Array forward(const char* op, Forward kernel, const Array& x, int64_t axis) {
  check_float32(op, "input", x);
  return map_columns(x, x, checked_axis(op, x, axis),
                     [kernel](float* y, const float* a, const float*, int64_t n, int64_t C,
                              int64_t stride) { kernel(y, a, n, C, stride); });
}

Array backward(const char* op, Backward kernel, const Array& dy, const Array& y, int64_t axis) {
  check_float32(op, "dy", dy);
  check_float32(op, "y", y);
  check_same_shape(op, "dy", dy, "y", y);
  return map_columns(dy, y, checked_axis(op, dy, axis), kernel);
}

constexpr float kNoLabel = -1.0f;

// Labels as cross-entropy kernels take them: floats (kNoLabel for those that do not count, and for
// empty lanes) in the order of the logits' columns.
struct Targets {
  Array labels;  // shape of the labels, layout of the logits
  double weight = 0.0;
};

std::string index_text(const Shape& shape, int64_t flat) {
  std::string text;
  for (int axis = shape.ndim() - 1; axis >= 0; --axis) {
    text = std::to_string(flat % shape[axis]) + (text.empty() ? "" : ", ") + text;
    flat /= shape[axis];
  }
  return text;
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

Targets targets_of(const Array& labels_any, int64_t C, const float* weight, int64_t ignore_index,
                   Layout layout) {
  const Array labels = to_plain(labels_any);
  const int64_t* from = labels.data<int64_t>();
  const int64_t count = labels.shape().numel();
  for (int64_t i = 0; i < count; ++i)
    if ((from[i] < 0 || from[i] >= C) && from[i] != ignore_index)
      throw std::invalid_argument(message("[cross_entropy] labels[", index_text(labels.shape(), i),
                                          "] is ", from[i], ", expected 0 to ", C - 1,
                                          " (the input has ", C,
                                          " classes) or ignore_index = ", ignore_index));
  Targets t{Array::empty(labels.shape(), DType::float32, layout)};
  float* to = t.labels.data();
  std::fill_n(to, t.labels.stored(), kNoLabel);
  const int64_t pixels = labels.shape().numel_from(1);
  for (int64_t i = 0; i < count; ++i) {
    if (from[i] == ignore_index) continue;
    const int64_t n = i / pixels, pixel = i % pixels;
    const int64_t at =
        layout == Layout::lanes ? (n / kLanes * pixels + pixel) * kLanes + n % kLanes : i;
    to[at] = static_cast<float>(from[i]);
    t.weight += weight[from[i]];
  }
  return t;
}

Array scalar(double value) {
  Array a = Array::empty({});
  *a.data() = static_cast<float>(value);
  return a;
}

// binary_cross_entropy takes probabilities.
void check_probabilities(const char* op, const Array& x_any) {
  const Array x = to_plain(x_any);
  for (int64_t i = 0; i < x.stored(); ++i) {
    const float value = x.data()[i];
    if (!(value >= 0.0f && value <= 1.0f))
      throw std::invalid_argument(
          message("[", op, "] input[", index_text(x.shape(), i), "] is ", value,
                  ", expected probabilities from 0 to 1; for raw scores use "
                  "binary_cross_entropy_with_logits"));
  }
}

}  // namespace

Array softmax(const Array& x, int64_t axis) {
  return forward("softmax", cpu::kernels().softmax, x, axis);
}
Array softmax_backward(const Array& dy, const Array& y, int64_t axis) {
  return backward("softmax_backward", cpu::kernels().softmax_backward, dy, y, axis);
}
Array log_softmax(const Array& x, int64_t axis) {
  return forward("log_softmax", cpu::kernels().log_softmax, x, axis);
}
Array log_softmax_backward(const Array& dy, const Array& y, int64_t axis) {
  return backward("log_softmax_backward", cpu::kernels().log_softmax_backward, dy, y, axis);
}

Reduction reduction_named(const char* op, const std::string& name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  if (name == "none") return Reduction::none;
  throw std::invalid_argument(
      message("[", op, "] reduction must be \"mean\", \"sum\" or \"none\", got \"", name, "\""));
}

std::pair<Array, Array> cross_entropy(const Array& logits_any, const Array& labels,
                                      const Array& weight_any, int64_t ignore_index,
                                      double label_smoothing, Reduction reduction) {
  const char* const op = "cross_entropy";
  check_labels(op, logits_any, labels);
  const int64_t C = logits_any.dim(1);
  if (!(label_smoothing >= 0.0 && label_smoothing <= 1.0))
    throw std::invalid_argument(
        message("[", op, "] label_smoothing must be between 0 and 1, got ", label_smoothing));
  Array weight = Array::empty({C});
  if (weight_any.defined()) {
    check_float32(op, "weight", weight_any);
    if (weight_any.shape() != Shape{C})
      throw ShapeError(message("[", op, "] weight must have shape (", C,
                               ",), one value a class, got ", weight_any.shape()));
    weight = to_plain(weight_any);
  } else {
    std::fill_n(weight.data(), C, 1.0f);
  }
  // Few columns side by side: better in lanes.
  const bool narrow = logits_any.shape().numel_from(2) < kLanes;
  const Array logits = as_layout(logits_any, narrow ? Layout::lanes : logits_any.layout());
  const Targets targets = targets_of(labels, C, weight.data(), ignore_index, logits.layout());

  cpu::CrossEntropy params{};
  const AlongAxis v = along(logits, 1);
  params.C = C;
  params.stride = v.inner;
  params.weight = weight.data();
  double weight_total = 0.0;
  for (int64_t c = 0; c < C; ++c) weight_total += weight.data()[c];
  params.weight_total = static_cast<float>(weight_total);
  params.label_smoothing = static_cast<float>(label_smoothing);
  params.scale = reduction == Reduction::mean ? static_cast<float>(1.0 / targets.weight) : 1.0f;

  Array losses = Array::empty(labels.shape(), DType::float32, logits.layout());
  Array gradient = Array::empty(logits.shape(), DType::float32, logits.layout());
  const cpu::Kernels& kernels = cpu::kernels();
  if (logits.stored() > 0)
    for_columns(v, [&](int64_t at, int64_t columns) {
      const int64_t column = at / (C * v.inner) * v.inner + at % v.inner;
      kernels.cross_entropy(losses.data() + column, gradient.data() + at, logits.data() + at,
                            targets.labels.data() + column, columns, params);
    });
  gradient = as_layout(gradient, logits_any.layout());
  if (reduction == Reduction::none) return {as_layout(losses, logits_any.layout()), gradient};
  const double total = sum_ranges(losses, [&](int64_t begin, int64_t end, int lanes) {
    return kernels.sum(losses.data() + begin, end - begin, lanes);
  });
  return {scalar(reduction == Reduction::mean ? total / targets.weight : total), gradient};
}

std::pair<Array, Array> pointwise_loss(const char* op, PointwiseLoss kind, const Array& x,
                                       const Array& target_any, Reduction reduction) {
  check_float32(op, "input", x);
  check_float32(op, "target", target_any);
  check_same_shape(op, "input", x, "target", target_any);
  if (kind == PointwiseLoss::binary_cross_entropy) check_probabilities(op, x);
  const Array target = as_layout(target_any, x.layout());
  const auto count = static_cast<double>(x.shape().numel());
  const float scale = reduction == Reduction::mean ? static_cast<float>(1.0 / count) : 1.0f;
  Array gradient = Array::empty(x.shape(), DType::float32, x.layout());
  Array losses;
  if (reduction == Reduction::none) losses = Array::empty(x.shape(), DType::float32, x.layout());
  const cpu::Kernels& kernels = cpu::kernels();
  const double total = sum_ranges(x, [&](int64_t begin, int64_t end, int lanes) {
    return kernels.pointwise_loss(kind, losses.defined() ? losses.data() + begin : nullptr,
                                  gradient.data() + begin, x.data() + begin, target.data() + begin,
                                  end - begin, scale, lanes);
  });
  if (reduction == Reduction::none) return {losses, gradient};
  return {scalar(reduction == Reduction::mean ? total / count : total), gradient};
}

int64_t count_correct(const Array& logits_any, const Array& labels_any) {
  check_labels("count_correct", logits_any, labels_any);
  if (logits_any.ndim() != 2)
    throw ShapeError(
        message("[count_correct] input must have 2 dimensions (N, C), got ", logits_any.shape()));
  const Array logits = to_lanes(logits_any), labels = to_plain(labels_any);
  if (logits.stored() == 0) return 0;
  Array best = Array::empty(labels.shape(), DType::float32, Layout::lanes);
  const AlongAxis v = along(logits, 1);
  const cpu::Kernels& kernels = cpu::kernels();
  for_columns(v, [&](int64_t at, int64_t columns) {
    kernels.argmax(best.data() + at / v.C, logits.data() + at, columns, v.C, v.inner);
  });
  int64_t correct = 0;
  for (int64_t n = 0; n < labels.dim(0); ++n)
    correct += static_cast<int64_t>(best.data()[n]) == labels.data<int64_t>()[n];
  return correct;
}

}  // namespace fastconv
