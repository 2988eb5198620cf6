#include "ops/conv2d.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/direct/correlate.h"
#include "cpu/conv/small_batch/backward.h"
#include "cpu/conv/small_batch/depthwise.h"
#include "cpu/conv/small_batch/forward.h"
#include "cpu/conv/weight/weight_gradient.h"
#include "cpu/conv/winograd/not_finite.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/cache_size.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "ops/check.h"
#include "ops/linear.h"

namespace fastconv {
namespace {

// One axis of the output size; `axis` is "height" or "width".
int64_t output_size(const char* axis, int64_t size, int64_t before, int64_t after, int64_t kernel,
                    int64_t stride, int64_t dilation, const Shape& x, const Shape& w) {
  const int64_t padded =
      checked_add(checked_add(size, before, "conv2d padding"), after, "conv2d padding");
  const int64_t span =
      checked_add(checked_mul(dilation, kernel - 1, "conv2d dilation"), 1, "conv2d dilation");
  if (padded < span)
    throw ShapeError(message("[conv2d] the kernel is larger than the padded input: ", axis, " ",
                             size, " + padding ", before, " + ", after, " = ", padded, ", kernel ",
                             kernel, " with dilation ", dilation, " spans ", dilation, " * (",
                             kernel, " - 1) + 1 = ", span,
                             "; use a smaller kernel or more padding: input ", x, ", weight ", w));
  return (padded - span) / stride + 1;
}

}  // namespace

Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const Geometry& p) {
  if (x.ndim() != 4)
    throw ShapeError(message("[conv2d] input must have 4 dimensions (N, C, H, W), got ", x));
  if (w.ndim() != 4)
    throw ShapeError(
        message("[conv2d] weight must have 4 dimensions (OC, IC / groups, KH, KW), got ", w));
  const auto positive = [](int64_t value, const char* what) {
    if (value < 1)
      throw std::invalid_argument(message("[conv2d] ", what, " must be at least 1, got ", value));
  };
  positive(p.stride[0], "stride");
  positive(p.stride[1], "stride");
  positive(p.dilation[0], "dilation");
  positive(p.dilation[1], "dilation");
  positive(p.groups, "groups");
  for (const int64_t pad : p.pads)
    if (pad < 0)
      throw std::invalid_argument(message("[conv2d] padding must not be negative, got ", pad));
  for (int axis = 1; axis < 4; ++axis)
    if (x[axis] < 1)
      throw ShapeError(message("[conv2d] input has size 0 along ",
                               axis == 1 ? "channels" : "an image axis", ": ", x));
  for (int axis = 0; axis < 4; ++axis)
    if (w[axis] < 1)
      throw ShapeError(message("[conv2d] weight has size 0 along axis ", axis, ": ", w));
  if (x[1] % p.groups != 0 || w[0] % p.groups != 0)
    throw ShapeError(message("[conv2d] groups=", p.groups, " must divide the ", x[1],
                             " input channels and the ", w[0], " output channels: input ", x,
                             ", weight ", w));
  if (x[1] != checked_mul(w[1], p.groups, "conv2d channels"))
    throw ShapeError(message("[conv2d] input has ", x[1], " channels, weight expects ",
                             w[1] * p.groups, " (groups=", p.groups, "): input ", x, ", weight ",
                             w));
  Conv2dShape s{};
  s.N = x[0], s.IC = x[1], s.IH = x[2], s.IW = x[3];
  s.OC = w[0], s.KH = w[2], s.KW = w[3];
  s.IC_per_group = w[1], s.OC_per_group = w[0] / p.groups;
  s.params = p;
  s.OH = output_size("height", s.IH, p.pads[0], p.pads[1], s.KH, p.stride[0], p.dilation[0], x, w);
  s.OW = output_size("width", s.IW, p.pads[2], p.pads[3], s.KW, p.stride[1], p.dilation[1], x, w);
  // Every window and offset lies inside the padded input, so these products are the largest there
  // are.
  const int64_t padded_plane = checked_mul(s.IH + p.pads[0] + p.pads[1],
                                           s.IW + p.pads[2] + p.pads[3], "conv2d padded input");
  checked_mul(checked_mul(padded_plane, s.IC, "conv2d padded input"), kLanes * 4,
              "conv2d padded input");
  return s;
}

namespace {

void check_bias(const Array& b, int64_t channels) {
  if (!b.defined()) return;
  check_float32("conv2d", "bias", b);
  if (b.ndim() != 1 || b.dim(0) != channels)
    throw ShapeError(message("[conv2d] bias must have shape (", channels,
                             ",), one for each output channel, got ", b.shape()));
}

void check_dy(const Array& dy, const Conv2dShape& s) {
  check_float32("conv2d", "dy", dy);
  if (dy.shape() != s.y())
    throw ShapeError(message("[conv2d] the gradient of the output must have the output's shape ",
                             s.y(), ", got ", dy.shape(), ": input ", s.x(), ", weight ", s.w()));
}

// A kernel as large as its image is a linear layer of all pixels, in either layout.
bool is_linear(const Conv2dShape& s) {
  const Geometry& p = s.params;
  return s.N > 0 && s.KH == s.IH && s.KW == s.IW && p.groups == 1 &&
         p.pads == std::array<int64_t, 4>{0, 0, 0, 0} && p.dilation == std::array<int64_t, 2>{1, 1};
}

Array as_rows(const Array& images) {
  return images.reshape(Shape{images.dim(0), images.shape().numel() / images.dim(0)});
}

// What Winograd leaves over of a correlation: all of it, or the rows below and the columns at the
// right.
std::vector<Correlation> outside(const WinogradPart& part, const Correlation& job) {
  if (part.rows == 0) return {job};
  Correlation below = job, right = job;
  below.rows = cut_axis(job.rows, part.rows, true);
  right.rows = cut_axis(job.rows, part.rows, false);
  right.cols = cut_axis(job.cols, part.cols, true);
  std::vector<Correlation> rest;
  for (const Correlation& piece : {below, right})
    if (!piece.rows.empty() && !piece.cols.empty()) rest.push_back(piece);
  return rest;
}

}  // namespace

Conv2dShape conv2d_shape(const Array& x, const Array& w, const Array& b, const Geometry& params) {
  check_float32("conv2d", "input", x);
  check_float32("conv2d", "weight", w);
  const Conv2dShape s = conv2d_shape(x.shape(), w.shape(), params);
  check_bias(b, s.OC);
  return s;
}

Array conv_norm_forward(const Array& x, const Array& w, const Array& b, const Geometry& params,
                        const NormStatistics& norm, const Epilogue& epilogue) {
  if (x.in_lanes())
    return batch_norm_eval(conv2d_forward(x, w, b, params, false), norm.weight, norm.bias,
                           norm.mean, norm.var, norm.eps, epilogue);
  const Conv2dShape s = conv2d_shape(x, w, b, params);
  const ChannelMap map = batch_norm_map(s.OC, norm);
  cpu::ChannelPostOps finish = finish_relu(epilogue.relu);
  if (epilogue.relu) finish.high = static_cast<float>(epilogue.cap);
  finish.scale = map.scale.data(), finish.shift = map.shift.data();
  Array plus;
  if (epilogue.plus.defined()) {
    check_float32("batch_norm", "plus", epilogue.plus);
    if (epilogue.plus.shape() != s.y())
      throw ShapeError(message("[batch_norm] plus must have the shape of what it is added to, ",
                               s.y(), ", got ", epilogue.plus.shape()));
    plus = to_plain(epilogue.plus);
    finish.plus = plus.data();
  }
  Array y = Array::empty(s.y());
  conv2d_forward_small_batch(y.data(), x.data(), to_plain(w).data(),
                             b.defined() ? b.data() : nullptr, s, finish);
  return y;
}

Array conv2d_forward(const Array& x, const Array& w, const Array& b, const Geometry& params,
                     bool relu) {
  const Conv2dShape s = conv2d_shape(x, w, b, params);
  const Array weight = to_plain(w);
  if (is_linear(s)) return linear_forward(as_rows(x), as_rows(weight), b, relu).reshape(s.y());
  const float* bias = b.defined() ? b.data() : nullptr;
  Array y = Array::empty(s.y(), DType::float32, x.layout());
  if (!x.in_lanes()) {
    conv2d_forward_small_batch(y.data(), x.data(), weight.data(), bias, s, finish_relu(relu));
    return y;
  }
  if (s.N == 0) return y;
  const WinogradPart part = winograd_part(s, Pass::forward);
  const bool finite = part.rows == 0 || winograd_forward(y.data(), x.data(), weight.data(), bias,
                                                         relu, x.blocks(), s, part, streams(y));
  CorrelationAxis rows{s.OH, s.OH, 0, 1, s.IH, -params.pads[0], params.stride[0], {}, {}};
  CorrelationAxis cols{s.OW, s.OW, 0, 1, s.IW, -params.pads[2], params.stride[1], {}, {}};
  for (int64_t r = 0; r < s.KH; ++r) {
    rows.taps.push_back(r * params.dilation[0]);
    rows.w_taps.push_back(r * s.KW);
  }
  for (int64_t t = 0; t < s.KW; ++t) {
    cols.taps.push_back(t * params.dilation[1]);
    cols.w_taps.push_back(t);
  }
  const int64_t w_c = s.KH * s.KW, w_k = s.IC_per_group * w_c;
  const Correlation job{
      params.groups, s.OC_per_group, s.IC_per_group, s.OC_per_group * w_k, w_k, w_c,
      {rows},        {cols},         streams(y)};
  for (const Correlation& rest : outside(part, job))
    correlate(y.data(), x.data(), weight.data(), bias, relu, x.blocks(), rest);
  if (!finite) correlate_not_finite(y.data(), x.data(), weight.data(), bias, relu, x.blocks(), job);
  return y;
}

namespace {

// Along one axis, input positions first, first + stride, ... share a phase (ih + pad) % stride, and
// taps r with r * dilation % stride == phase reach them, no others. With ih + pad = q * stride +
// phase and r * dilation = e * stride + phase, tap r meets output oh = q - e: at stride 1 this is
// the textbook's kernel turned by 180 degrees.
CorrelationAxis phase_of(int64_t first, int64_t IH, int64_t OH, int64_t KH, int64_t pad,
                         int64_t stride, int64_t dilation, int64_t w_tap) {
  CorrelationAxis axis{(IH - 1 - first) / stride + 1, IH, first, stride, OH,
                       (first + pad) / stride,        1,  {},    {}};
  for (int64_t r = KH - 1; r >= 0; --r)  // so that what they read ascends
    if (r * dilation % stride == (first + pad) % stride) {
      axis.taps.push_back(-(r * dilation / stride));
      axis.w_taps.push_back(r * w_tap);
    }
  return axis;
}

// Kernels of one pixel are a matrix, whose columns the gradient by input sums over: every six
// floats of a tile lie in a line of their own, a power of two apart. Large ones are turned first
// (512 <- 2048, 7 x 7: 4.6 to 4.2 ms).
bool turns_weights(const Conv2dShape& s) {
  return s.KH * s.KW == 1 && std::min(s.IC_per_group, s.OC_per_group) >= 64 &&
         s.IC_per_group * s.OC_per_group >= 32768;
}

}  // namespace

Array conv2d_backward_input(const Array& dy, const Array& w, const Shape& x_shape,
                            const Geometry& params, const Array& b) {
  check_float32("conv2d", "weight", w);
  const Conv2dShape s = conv2d_shape(x_shape, w.shape(), params);
  check_dy(dy, s);
  check_bias(b, x_shape[1]);
  if (is_linear(s) && !b.defined()) {
    const Array rows = as_rows(s.N < kLanes ? dy : to_lanes(dy));
    return linear_backward_input(rows, as_rows(to_plain(w))).reshape(x_shape);
  }
  if (!dy.in_lanes() && s.N < kLanes && has_backward_input_small_batch(s)) {
    Array dx = Array::empty(x_shape);
    conv2d_backward_input_small_batch(dx.data(), dy.data(), to_plain(w).data(),
                                      b.defined() ? b.data() : nullptr, s);
    return dx;
  }
  Array dx = Array::empty(x_shape, DType::float32, Layout::lanes);
  conv2d_backward_input_into(dx, dy, w, params, b);
  return dx;
}

void conv2d_backward_input_into(Array& dx, const Array& dy_any, const Array& w,
                                const Geometry& params, const Array& b) {
  const Conv2dShape s = conv2d_shape(dx.shape(), w.shape(), params);
  if (s.N == 0) return;
  const float* bias = b.defined() ? b.data() : nullptr;
  const Array dy = to_lanes(dy_any), weight = to_plain(w);
  const WinogradPart part = winograd_part(s, Pass::backward_input);
  const bool finite =
      part.rows == 0 || winograd_backward_input(dx.data(), dy.data(), weight.data(), bias,
                                                dy.blocks(), s, part, streams(dx));
  int64_t w_k = s.KH * s.KW, w_c = s.IC_per_group * w_k;
  int64_t w_group = s.OC_per_group * w_c;
  const bool turns = turns_weights(s);
  const int64_t turned_row = conflict_free_stride(s.OC_per_group);
  Scratch<float> turned(turns ? params.groups * s.IC_per_group * turned_row : 1);
  if (turns) {
    transpose_matrices(turned.data(), turned_row, weight.data(), params.groups, s.OC_per_group,
                       s.IC_per_group);
    w_k = turned_row, w_c = 1, w_group = s.IC_per_group * turned_row;
  }
  Correlation job{params.groups, s.IC_per_group, s.OC_per_group, w_group, w_k, w_c, {}, {},
                  streams(dx)};
  for (int64_t row = 0; row < std::min(params.stride[0], s.IH); ++row)
    job.rows.push_back(phase_of(row, s.IH, s.OH, s.KH, params.pads[0], params.stride[0],
                                params.dilation[0], s.KW));
  for (int64_t col = 0; col < std::min(params.stride[1], s.IW); ++col)
    job.cols.push_back(
        phase_of(col, s.IW, s.OW, s.KW, params.pads[2], params.stride[1], params.dilation[1], 1));
  for (const Correlation& rest : outside(part, job))
    correlate(dx.data(), dy.data(), turns ? turned.data() : weight.data(), bias, false, dy.blocks(),
              rest);
  if (!finite)
    correlate_not_finite(dx.data(), dy.data(), weight.data(), bias, false, dy.blocks(), job);
}

Array conv2d_backward_weight(const Array& dy_any, const Array& x_any, const Shape& w_shape,
                             const Geometry& params) {
  check_float32("conv2d", "input", x_any);
  const Conv2dShape s = conv2d_shape(x_any.shape(), w_shape, params);
  check_dy(dy_any, s);
  if (is_linear(s)) return linear_backward_weight(as_rows(dy_any), as_rows(x_any)).reshape(w_shape);
  Array dw = Array::empty(w_shape);
  const int64_t weights = w_shape.numel();
  if (s.N == 0) {
    std::fill_n(dw.data(), weights, 0.0f);
    return dw;
  }
  if (!dy_any.in_lanes() && !x_any.in_lanes() && s.N < kLanes) {
    if (has_depthwise_weight_small_batch(s))
      depthwise_weight_small_batch(dw.data(), dy_any.data(), x_any.data(), s);
    else if (weight_by_channels_pays(s, false))
      weight_gradient_transposed(dw.data(), dy_any.data(), x_any.data(), s.N, false, s);
    else
      conv2d_backward_weight_small_batch(dw.data(), dy_any.data(), x_any.data(), s);
    return dw;
  }
  const Array dy = to_lanes(dy_any), x = to_lanes(x_any);
  const auto by_formula = [&](float* to) {
    if (weight_by_channels_pays(s, true))
      weight_gradient_transposed(to, dy.data(), x.data(), x.blocks(), true, s);
    else
      weight_gradient_dot(to, dy.data(), x.data(), x.blocks(), s);
  };
  const WinogradPart part = winograd_part(s, Pass::backward_weight);
  if (part.rows == 0) {
    by_formula(dw.data());
  } else if (!winograd_backward_weight(dw.data(), dy.data(), x.data(), x.blocks(), s, part)) {
    Array formula = Array::empty(w_shape);
    by_formula(formula.data());
    replace_not_finite(dw.data(), formula.data(), weights);
  }
  return dw;
}

}  // namespace fastconv
