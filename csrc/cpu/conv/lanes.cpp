#include "cpu/conv/lanes.h"

#include <algorithm>
#include <vector>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/direct/correlate.h"
#include "cpu/conv/weight/weight_gradient.h"
#include "cpu/conv/winograd/not_finite.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/layout.h"
#include "cpu/runtime/cache_size.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

const float* data_of(const Array& b) { return b.defined() ? b.data() : nullptr; }

// What Winograd leaves over of a correlation: all of it, or the rows below and the columns at the
// right.
std::vector<Correlation> outside(const WinogradPart& part, const Correlation& job) {
  if (part.rows == 0) return {job};
  Correlation below = job, right = job;
  below.rows = outputs_from(job.rows, part.rows);
  right.rows = outputs_before(job.rows, part.rows);
  right.cols = outputs_from(job.cols, part.cols);
  std::vector<Correlation> rest;
  for (const Correlation& some : {below, right})
    if (!some.rows.empty() && !some.cols.empty()) rest.push_back(some);
  return rest;
}

// 1x1 kernels are a matrix, whose columns the gradient by input sums over: every six floats of a
// tile lie in a line of their own, a power of two apart. Large ones are transposed first.
bool transposes_weights(const Conv2dShape& s) {
  return s.KH * s.KW == 1 && std::min(s.IC_per_group, s.OC_per_group) >= 64 &&
         s.IC_per_group * s.OC_per_group >= 32768;
}

}  // namespace

void forward_in_lanes(Array& y, const Array& x, const Array& w, const Array& b,
                      const Conv2dShape& s, Activation activation, int64_t min_tasks) {
  const float* bias = data_of(b);
  const bool relu = activation != Activation::none;  // ReLU6 needs a pass more
  const WinogradPart part = winograd_part(s, Pass::forward);
  const bool finite =
      part.rows == 0 || winograd_forward(y.data(), x.data(), w.data(), bias, relu, x.blocks(), s,
                                         part, streams(y), min_tasks);
  const Correlation job = forward_correlation(s, streams(y));
  for (const Correlation& rest : outside(part, job))
    correlate(y.data(), x.data(), w.data(), bias, relu, x.blocks(), rest, min_tasks);
  if (!finite)
    correlate_not_finite(y.data(), x.data(), w.data(), bias, relu, x.blocks(), job, min_tasks);
  if (activation == Activation::relu6) activate(y, activation);
}

void backward_input_in_lanes(Array& dx, const Array& dy, const Array& w, const Array& b,
                             const Conv2dShape& s, int64_t min_tasks) {
  const float* bias = data_of(b);
  const WinogradPart part = winograd_part(s, Pass::backward_input);
  const bool finite =
      part.rows == 0 || winograd_backward_input(dx.data(), dy.data(), w.data(), bias, dy.blocks(),
                                                s, part, streams(dx), min_tasks);
  Correlation job = backward_input_correlation(s, streams(dx));
  const float* weight = w.data();
  const bool transposes = transposes_weights(s);
  const int64_t row = conflict_free_stride(s.OC_per_group);
  Scratch<float> transposed(transposes ? s.IC * row : 1);
  if (transposes) {
    transpose_matrices(transposed.data(), row, weight, s.geometry.groups, s.OC_per_group,
                       s.IC_per_group);
    weight = transposed.data();
    job.w_k = row, job.w_c = 1, job.w_group = s.IC_per_group * row;
  }
  for (const Correlation& rest : outside(part, job))
    correlate(dx.data(), dy.data(), weight, bias, false, dy.blocks(), rest, min_tasks);
  if (!finite)
    correlate_not_finite(dx.data(), dy.data(), weight, bias, false, dy.blocks(), job, min_tasks);
}

void backward_weight_in_lanes(Array& dw, const Array& dy, const Array& x, const Conv2dShape& s,
                              int64_t min_tasks) {
  const auto by_formula = [&](float* to) {
    if (weight_gradient_transposed_pays(s, true))
      weight_gradient_transposed(to, dy.data(), x.data(), x.blocks(), true, s);
    else
      weight_gradient_dot(to, dy.data(), x.data(), x.blocks(), s);
  };
  const WinogradPart part = winograd_part(s, Pass::backward_weight);
  if (part.rows == 0) return by_formula(dw.data());
  if (winograd_backward_weight(dw.data(), dy.data(), x.data(), x.blocks(), s, part, min_tasks))
    return;
  Scratch<float> formula(dw.stored());
  by_formula(formula.data());
  replace_not_finite(dw.data(), formula.data(), dw.stored());
}

}  // namespace fastconv::cpu
