// Softmax and losses. Kernels take the columns of a matrix whose rows are classes, side by side:
// arrays where they are not go through the other layout.
#include "cpu/loss.h"

#include "core/errors.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
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

// body(offset, columns) over chunks of columns.
template <class Body>
void for_columns(const AlongAxis& v, const Body& body) {
  const int64_t chunk = std::max(kLanes, kGrain / v.C / kLanes * kLanes);
  const int64_t chunks = ceil_div(v.inner, chunk);
  for_chunks(v.outer * chunks, v.C * std::min(chunk, v.inner), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % chunks * chunk;
      body(i / chunks * v.C * v.inner + column, std::min(chunk, v.inner - column));
    }
  });
}

// y = f(a, b) down an axis, where f is a kernel on columns. A plain array along its last axis goes
// through lanes, one in lanes along the batch through plain.
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

Array forward(Forward kernel, const Array& x, int axis) {
  return map_columns(x, x, axis,
                     [kernel](float* y, const float* a, const float*, int64_t n, int64_t C,
                              int64_t stride) { kernel(y, a, n, C, stride); });
}

std::string index_text(const Shape& shape, int64_t flat) {
  std::string text;
  for (int axis = shape.ndim() - 1; axis >= 0; --axis) {
    text = std::to_string(flat % shape[axis]) + (text.empty() ? "" : ", ") + text;
    flat /= shape[axis];
  }
  return text;
}

constexpr float kNoLabel = -1.0f;

// Labels as cross-entropy kernels take them: floats (kNoLabel for those that do not count, and for
// empty lanes) in the order of the logits' columns.
struct Targets {
  Array labels;  // shape of the labels, layout of the logits
  double weight = 0.0;
};

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
void check_probabilities(const Array& x_any) {
  const Array x = to_plain(x_any);
  for (int64_t i = 0; i < x.stored(); ++i) {
    const float value = x.data()[i];
    if (!(value >= 0.0f && value <= 1.0f))
      throw std::invalid_argument(
          message("[binary_cross_entropy] input[", index_text(x.shape(), i), "] is ", value,
                  ", expected probabilities from 0 to 1; for raw scores use "
                  "binary_cross_entropy_with_logits"));
  }
}

}  // namespace

Array softmax(const Array& x, int axis) { return forward(kernels().softmax, x, axis); }
Array softmax_backward(const Array& dy, const Array& y, int axis) {
  return map_columns(dy, y, axis, kernels().softmax_backward);
}
Array log_softmax(const Array& x, int axis) { return forward(kernels().log_softmax, x, axis); }
Array log_softmax_backward(const Array& dy, const Array& y, int axis) {
  return map_columns(dy, y, axis, kernels().log_softmax_backward);
}

std::pair<Array, Array> cross_entropy(const Array& logits_any, const Array& labels,
                                      const Array& weight_any, const CrossEntropyParams& params) {
  const int64_t C = logits_any.dim(1);
  Array weight = Array::empty({C});
  if (weight_any.defined())
    weight = to_plain(weight_any);
  else
    std::fill_n(weight.data(), C, 1.0f);
  // Few columns side by side: better in lanes.
  const bool narrow = logits_any.shape().numel_from(2) < kLanes;
  const Array logits = as_layout(logits_any, narrow ? Layout::lanes : logits_any.layout());
  const Targets targets =
      targets_of(labels, C, weight.data(), params.ignore_index, logits.layout());

  const bool mean = params.reduction == Reduction::mean;
  const AlongAxis v = along(logits, 1);
  double weight_total = 0.0;
  for (int64_t c = 0; c < C; ++c) weight_total += weight.data()[c];
  const CrossEntropy formula{C,
                             v.inner,
                             weight.data(),
                             static_cast<float>(weight_total),
                             static_cast<float>(params.label_smoothing),
                             mean ? static_cast<float>(1.0 / targets.weight) : 1.0f};

  Array losses = Array::empty(labels.shape(), DType::float32, logits.layout());
  Array gradient = Array::empty(logits.shape(), DType::float32, logits.layout());
  if (logits.stored() > 0)
    for_columns(v, [&](int64_t at, int64_t columns) {
      const int64_t column = at / (C * v.inner) * v.inner + at % v.inner;
      kernels().cross_entropy(losses.data() + column, gradient.data() + at, logits.data() + at,
                              targets.labels.data() + column, columns, formula);
    });
  gradient = as_layout(gradient, logits_any.layout());
  if (params.reduction == Reduction::none)
    return {as_layout(losses, logits_any.layout()), gradient};
  const double total = sum_ranges(losses, [&](int64_t begin, int64_t end, int lanes) {
    return kernels().sum(losses.data() + begin, end - begin, lanes);
  });
  return {scalar(mean ? total / targets.weight : total), gradient};
}

std::pair<Array, Array> pointwise_loss(PointwiseLoss kind, const Array& x, const Array& target_any,
                                       Reduction reduction) {
  if (kind == PointwiseLoss::binary_cross_entropy) check_probabilities(x);
  const Array target = as_layout(target_any, x.layout());
  const auto count = static_cast<double>(x.shape().numel());
  const float scale = reduction == Reduction::mean ? static_cast<float>(1.0 / count) : 1.0f;
  Array gradient = Array::empty(x.shape(), DType::float32, x.layout());
  Array losses;
  if (reduction == Reduction::none) losses = Array::empty(x.shape(), DType::float32, x.layout());
  const double total = sum_ranges(x, [&](int64_t begin, int64_t end, int lanes) {
    return kernels().pointwise_loss(kind, losses.defined() ? losses.data() + begin : nullptr,
                                    gradient.data() + begin, x.data() + begin,
                                    target.data() + begin, end - begin, scale, lanes);
  });
  if (reduction == Reduction::none) return {losses, gradient};
  return {scalar(reduction == Reduction::mean ? total / count : total), gradient};
}

int64_t count_correct(const Array& logits_any, const Array& labels_any) {
  const Array logits = to_lanes(logits_any), labels = to_plain(labels_any);
  if (logits.stored() == 0) return 0;
  Array best = Array::empty(labels.shape(), DType::float32, Layout::lanes);
  const AlongAxis v = along(logits, 1);
  for_columns(v, [&](int64_t at, int64_t columns) {
    kernels().argmax(best.data() + at / v.C, logits.data() + at, columns, v.C, v.inner);
  });
  int64_t correct = 0;
  for (int64_t n = 0; n < labels.dim(0); ++n)
    correct += static_cast<int64_t>(best.data()[n]) == labels.data<int64_t>()[n];
  return correct;
}

}  // namespace fastconv::cpu
