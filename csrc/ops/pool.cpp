#include "ops/pool.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/resample.h"
#include "cpu/runtime/split.h"
#include "ops/check.h"

namespace fastconv {
namespace {

const char* const kAxis[] = {"rows", "columns"};

// One axis of the windows: output o covers inputs o * stride - before + k * dilation.
struct Axis {
  int64_t input, kernel, stride, before, after, dilation, output;

  int64_t first(int64_t o) const { return o * stride - before; }
};

Axis pool_axis(const char* op, int i, const Shape& x, const PoolParams& p) {
  const auto at = static_cast<size_t>(i);
  Axis a{x[2 + i], p.kernel[at], p.stride[at], p.pads[2 * at], p.pads[2 * at + 1], p.dilation[at],
         0};
  const auto refuse = [&](const char* what, int64_t value, const char* least) {
    throw std::invalid_argument(message("[", op, "] ", what, " must be at least ", least, ", got ",
                                        value, " for ", kAxis[i]));
  };
  if (a.kernel < 1) refuse("kernel_size", a.kernel, "1");
  if (a.stride < 1) refuse("stride", a.stride, "1");
  if (a.dilation < 1) refuse("dilation", a.dilation, "1");
  constexpr char sizes[] = "[pooling] sizes";
  const int64_t reach = checked_add(checked_mul(a.kernel - 1, a.dilation, sizes), 1, sizes);
  for (const int64_t pad : {a.before, a.after}) {
    if (pad < 0) refuse("padding", pad, "0");
    // More, and a window could lie in the padding altogether.
    if (pad > reach / 2)
      throw std::invalid_argument(message(
          "[", op, "] padding must be at most half of the window: padding ", pad, ", window ",
          reach, " ", kAxis[i], " (kernel_size ", a.kernel, ", dilation ", a.dilation, ")"));
  }
  const int64_t padded = checked_add(a.input, checked_add(a.before, a.after, sizes), sizes);
  const int64_t room =
      p.ceil_mode ? checked_add(padded - reach, a.stride - 1, sizes) : padded - reach;
  a.output = room < 0 ? 0 : room / a.stride + 1;
  if (p.ceil_mode && a.output > 0 && a.first(a.output - 1) >= a.input) --a.output;
  if (a.output < 1)
    throw ShapeError(message("[", op, "] the window needs ", reach, " ", kAxis[i],
                             ", the image has ", a.input, " + ", a.before, " + ", a.after,
                             " of padding: input ", x, ", kernel_size (", p.kernel[0], ", ",
                             p.kernel[1], "); use a smaller kernel_size or a larger image"));
  return a;
}

struct Axes {
  Axis rows, cols;
};

void check_image_shape(const char* op, const Shape& x) {
  if (x.ndim() != 4)
    throw ShapeError(message("[", op, "] input must have 4 dimensions (N, C, H, W), got ", x));
  for (int axis = 1; axis < 4; ++axis)
    if (x[axis] == 0)
      throw ShapeError(message("[", op, "] input has size 0 in dimension ", axis, ": ", x));
}

Axes pool_axes(const char* op, const Shape& x, const PoolParams& params) {
  check_image_shape(op, x);
  return {pool_axis(op, 0, x, params), pool_axis(op, 1, x, params)};
}

cpu::PoolWindow kernel_shape(const Axes& axes, const Array& x) {
  const auto& [h, w] = axes;
  cpu::PoolWindow s{};
  s.IH = h.input, s.OH = h.output, s.KH = h.kernel, s.SH = h.stride, s.PT = h.before;
  s.IW = w.input, s.OW = w.output, s.KW = w.kernel, s.SW = w.stride, s.PL = w.before;
  s.DH = h.dilation, s.DW = w.dilation;
  s.unit = x.in_lanes() ? kLanes : 1;
  return s;
}

// The windows of max pooling; a position must fit 16 bits.
Axes max_axes(const char* op, const Shape& x, const PoolParams& params) {
  const Axes axes = pool_axes(op, x, params);
  if (axes.cols.kernel > 65535 / axes.rows.kernel)
    throw std::invalid_argument(
        message("[", op, "] kernel_size (", axes.rows.kernel, ", ", axes.cols.kernel,
                ") has more than 65535 positions, which is the most that can "
                "be remembered for the gradient"));
  return axes;
}

void check_gradient(const char* op, const Array& dy, const Shape& x, int64_t rows, int64_t cols) {
  check_float32(op, "dy", dy);
  const Shape expected{x[0], x[1], rows, cols};
  if (dy.shape() != expected)
    throw ShapeError(message("[", op, "] dy must have shape ", expected, " for an input of ", x,
                             ", got ", dy.shape()));
}

// The windows behind a gradient (or argmax), whichever way the forward pass rounded: up, else down.
Axes axes_of_gradient(const char* op, const Array& dy, const Shape& x, PoolParams params) {
  params.ceil_mode = true;
  const Axes axes = max_axes(op, x, params);
  if (dy.ndim() == 4 && dy.dim(2) == axes.rows.output && dy.dim(3) == axes.cols.output) return axes;
  params.ceil_mode = false;
  return max_axes(op, x, params);
}

// The windows that each input is in, with weight k * step: what a position in the window is made
// of.
TapTable windows_of_inputs(const Axis& a, int64_t step) {
  TapTable windows(a.output);
  for (int64_t o = 0; o < a.output; ++o) {
    for (int64_t k = 0; k < a.kernel; ++k) {
      const int64_t i = a.first(o) + k * a.dilation;
      if (i >= 0 && i < a.input) windows.add_tap(i, static_cast<float>(k * step));
    }
    windows.end_output();
  }
  return windows.transposed(a.input);
}

// Average windows: inputs begin .. end - 1 with weight 1, and what their sum is divided by.
struct Windows {
  explicit Windows(int64_t outputs) : taps(outputs) {}

  TapTable taps;
  std::vector<float> divisor;

  void add(int64_t begin, int64_t end, int64_t count) {
    for (int64_t i = begin; i < end; ++i) taps.add_tap(i, 1.0f);
    taps.end_output();
    divisor.push_back(static_cast<float>(count));
  }
};

Windows avg_windows(const Axis& a, bool count_include_pad) {
  Windows w(a.output);
  for (int64_t o = 0; o < a.output; ++o) {
    // In ceil mode a window may hang over the padding; what hangs over counts nowhere.
    const int64_t begin = a.first(o), end = std::min(begin + a.kernel, a.input + a.after);
    const int64_t inside_begin = std::max<int64_t>(begin, 0), inside_end = std::min(end, a.input);
    const int64_t inside = std::max<int64_t>(inside_end - inside_begin, 0);
    w.add(inside_begin, inside_end, count_include_pad ? end - begin : std::max<int64_t>(inside, 1));
  }
  return w;
}

Windows adaptive_windows(int64_t input, int64_t output) {
  Windows w(output);
  for (int64_t o = 0; o < output; ++o) {
    // floor(o * input / output) and ceil((o + 1) * input / output), without the large product
    const int64_t whole = input / output, part = input % output;
    const int64_t begin = o * whole + o * part / output;
    const int64_t end = (o + 1) * whole + ceil_div((o + 1) * part, output);
    w.add(begin, end, end - begin);
  }
  return w;
}

void override_divisor(Windows& rows, Windows& cols, int64_t divisor) {
  if (divisor == 0) return;
  rows.divisor.assign(rows.divisor.size(), static_cast<float>(divisor));
  cols.divisor.assign(cols.divisor.size(), 1.0f);
}

Array average_backward(const Array& dy, const Shape& x, Windows rows, Windows cols) {
  rows.taps.divide_by(rows.divisor);
  cols.taps.divide_by(cols.divisor);
  return resample(dy, rows.taps.transposed(x[2]), cols.taps.transposed(x[3]));
}

}  // namespace

void check_pool_gradient(const Array& dy, const Array& argmax, const Array& y) {
  const char* const op = "max_pool2d_backward";
  const auto companion = [&](const char* what, const Array& a, DType dtype) {
    if (a.dtype() != dtype)
      throw DTypeError(
          message("[", op, "] ", what, " must be ", name_of(dtype), ", got ", name_of(a.dtype())));
    check_same_shape(op, what, a, "dy", dy);
  };
  check_float32(op, "dy", dy);
  companion("argmax", argmax, DType::uint16);
  if (y.defined()) companion("y", y, DType::float32);
}

Shape pooled_shape(const char* op, const Shape& x, const PoolParams& params) {
  const Axes axes = pool_axes(op, x, params);
  return {x[0], x[1], axes.rows.output, axes.cols.output};
}

std::pair<Array, Array> max_pool2d_forward(const Array& x, const PoolParams& params, bool relu,
                                           bool placed) {
  check_images("max_pool2d", "input", x);
  const auto [rows, cols] = max_axes("max_pool2d", x.shape(), params);
  const Shape out{x.dim(0), x.dim(1), rows.output, cols.output};
  Array y = Array::empty(out, DType::float32, x.layout());
  Array argmax;
  if (placed) argmax = Array::empty(out, DType::uint16, x.layout());
  max_pool2d_forward_into(y, argmax, x, params, relu);
  return {y, argmax};
}

void max_pool2d_forward_into(Array& y, Array& argmax, const Array& x, const PoolParams& params,
                             bool relu) {
  const auto [rows, cols] = max_axes("max_pool2d", x.shape(), params);
  const cpu::PoolWindow shape = kernel_shape({rows, cols}, x);
  const int64_t in_plane = shape.IH * shape.IW * shape.unit;
  const int64_t out_plane = shape.OH * shape.OW * shape.unit;
  const cpu::Kernels& kernels = cpu::kernels();
  for_shares(x.blocks() * x.dim(1), std::max(in_plane, out_plane), [&](int64_t begin, int64_t end) {
    kernels.max_pool(y.data() + begin * out_plane,
                     argmax.defined() ? argmax.data<uint16_t>() + begin * out_plane : nullptr,
                     x.data() + begin * in_plane, end - begin, shape, relu);
  });
}

Array max_pool2d_backward(const Array& dy, const Array& argmax_any, const Array& y_any,
                          const Shape& x_shape, const PoolParams& params) {
  const char* const op = "max_pool2d_backward";
  check_image_shape(op, x_shape);
  check_pool_gradient(dy, argmax_any, y_any);
  const auto [rows, cols] = axes_of_gradient(op, dy, x_shape, params);
  check_gradient(op, dy, x_shape, rows.output, cols.output);
  const Array argmax = as_layout(argmax_any, dy.layout());
  const Array y = y_any.defined() ? as_layout(y_any, dy.layout()) : Array();

  Array dx = Array::empty(x_shape, DType::float32, dy.layout());
  const cpu::PoolWindow shape = kernel_shape({rows, cols}, dy);
  const int64_t in_plane = shape.IH * shape.IW * shape.unit;
  const int64_t out_plane = shape.OH * shape.OW * shape.unit;
  const auto run = [&](auto kernel, const auto& windows) {
    for_shares(dy.blocks() * dy.dim(1), std::max(in_plane, out_plane),
               [&](int64_t begin, int64_t end) {
                 kernel(dx.data() + begin * in_plane, dy.data() + begin * out_plane,
                        argmax.data<uint16_t>() + begin * out_plane,
                        y.defined() ? y.data() + begin * out_plane : nullptr, end - begin, windows);
               });
  };
  const cpu::Kernels& kernels = cpu::kernels();
  if (!dy.in_lanes()) {
    run(kernels.max_pool_backward_plain, shape);
    return dx;
  }
  cpu::Resample map{};
  map.in_rows = rows.output, map.in_cols = cols.output;
  map.out_rows = rows.input, map.out_cols = cols.input;
  map.unit = kLanes;
  const auto simple = [](const Axis& a) {
    return a.kernel == 2 && a.stride == 2 && a.before == 0 && a.dilation == 1 &&
           2 * a.output <= a.input;
  };
  if (simple(rows) && simple(cols)) {
    run(kernels.max_pool_backward_2x2, map);
    return dx;
  }
  const TapTable row_windows = windows_of_inputs(rows, cols.kernel);
  const TapTable col_windows = windows_of_inputs(cols, 1);
  map.rows = taps_of(row_windows);
  map.cols = taps_of(col_windows);
  run(kernels.max_pool_backward, map);
  return dx;
}

Array max_pool2d_indices(const Array& argmax_any, const Shape& x_shape, const PoolParams& params) {
  const char* const op = "max_pool2d_indices";
  if (argmax_any.dtype() != DType::uint16)
    throw DTypeError(
        message("[", op, "] argmax must be uint16, got ", name_of(argmax_any.dtype())));
  const auto [rows, cols] = axes_of_gradient(op, argmax_any, x_shape, params);
  const Shape out{x_shape[0], x_shape[1], rows.output, cols.output};
  if (argmax_any.shape() != out)
    throw ShapeError(message("[", op, "] argmax must have shape ", out, " for an input of ",
                             x_shape, ", got ", argmax_any.shape()));
  const Array argmax = to_plain(argmax_any);
  Array indices = Array::empty(out, DType::int64);
  const uint16_t* from = argmax.data<uint16_t>();
  int64_t* to = indices.data<int64_t>();
  for (int64_t plane = 0; plane < out[0] * out[1]; ++plane)
    for (int64_t oh = 0; oh < rows.output; ++oh)
      for (int64_t ow = 0; ow < cols.output; ++ow) {
        const int64_t kh = *from / cols.kernel, kw = *from % cols.kernel;
        ++from;
        // A window with no pixel at all names the pixel next to it.
        const int64_t ih =
            std::clamp<int64_t>(rows.first(oh) + kh * rows.dilation, 0, rows.input - 1);
        const int64_t iw =
            std::clamp<int64_t>(cols.first(ow) + kw * cols.dilation, 0, cols.input - 1);
        *to++ = ih * cols.input + iw;
      }
  return indices;
}

Array avg_pool2d_forward(const Array& x, const PoolParams& params, bool count_include_pad,
                         int64_t divisor_override) {
  check_images("avg_pool2d", "input", x);
  const auto [h, w] = pool_axes("avg_pool2d", x.shape(), params);
  Windows rows = avg_windows(h, count_include_pad), cols = avg_windows(w, count_include_pad);
  override_divisor(rows, cols, divisor_override);
  return resample(x, rows.taps, cols.taps, rows.divisor, cols.divisor);
}

Array avg_pool2d_backward(const Array& dy, const Shape& x_shape, const PoolParams& params,
                          bool count_include_pad, int64_t divisor_override) {
  const auto [h, w] = pool_axes("avg_pool2d_backward", x_shape, params);
  check_gradient("avg_pool2d_backward", dy, x_shape, h.output, w.output);
  Windows rows = avg_windows(h, count_include_pad), cols = avg_windows(w, count_include_pad);
  override_divisor(rows, cols, divisor_override);
  return average_backward(dy, x_shape, std::move(rows), std::move(cols));
}

Array adaptive_avg_pool2d_forward(const Array& x, std::array<int64_t, 2> output_size) {
  check_images("adaptive_avg_pool2d", "input", x);
  if (output_size[0] < 1 || output_size[1] < 1)
    throw std::invalid_argument(
        message("[adaptive_avg_pool2d] output_size must be at least 1, got (", output_size[0], ", ",
                output_size[1], ")"));
  // Refused here, before tables of that size are made.
  Shape{x.dim(0), x.dim(1), output_size[0], output_size[1]}.numel();
  const Windows rows = adaptive_windows(x.dim(2), output_size[0]);
  const Windows cols = adaptive_windows(x.dim(3), output_size[1]);
  return resample(x, rows.taps, cols.taps, rows.divisor, cols.divisor);
}

Array adaptive_avg_pool2d_backward(const Array& dy, const Shape& x_shape) {
  check_image_shape("adaptive_avg_pool2d_backward", x_shape);
  check_images("adaptive_avg_pool2d_backward", "dy", dy);
  check_gradient("adaptive_avg_pool2d_backward", dy, x_shape, dy.dim(2), dy.dim(3));
  return average_backward(dy, x_shape, adaptive_windows(x_shape[2], dy.dim(2)),
                          adaptive_windows(x_shape[3], dy.dim(3)));
}

}  // namespace fastconv
