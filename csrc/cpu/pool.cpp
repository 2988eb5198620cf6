#include "cpu/pool.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/resample.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

PoolWindow pool_window(const PoolShape& shape, const Array& x) {
  const PoolAxis &h = shape.rows, &w = shape.cols;
  PoolWindow s{};
  s.IH = h.input, s.OH = h.output, s.KH = h.kernel, s.SH = h.stride, s.PT = h.before;
  s.IW = w.input, s.OW = w.output, s.KW = w.kernel, s.SW = w.stride, s.PL = w.before;
  s.DH = h.dilation, s.DW = w.dilation;
  s.unit = x.in_lanes() ? kLanes : 1;
  return s;
}

// The windows that each input is in, with weight k * step: what a position in the window is made
// of.
TapTable windows_of_inputs(const PoolAxis& a, int64_t step) {
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

// Windows of two, two apart, all inside the image.
bool is_simple(const PoolAxis& a) {
  return a.kernel == 2 && a.stride == 2 && a.before == 0 && a.dilation == 1 &&
         2 * a.output <= a.input;
}

}  // namespace

std::pair<Array, Array> max_pool2d(const Array& x_any, const PoolShape& shape, bool relu,
                                   bool with_indices, Use use) {
  const Array x = in_batch_layout(x_any, use);
  Array y = Array::empty(shape.y(), DType::float32, x.layout()), argmax;
  if (with_indices) argmax = Array::empty(shape.y(), DType::uint16, x.layout());
  max_pool2d_into(y, argmax, x, shape, relu);
  return {y, argmax};
}

void max_pool2d_into(Array& y, Array& argmax, const Array& x, const PoolShape& shape, bool relu) {
  const PoolWindow window = pool_window(shape, x);
  const int64_t in_plane = window.IH * window.IW * window.unit;
  const int64_t out_plane = window.OH * window.OW * window.unit;
  for_chunks(x.blocks() * x.dim(1), std::max(in_plane, out_plane), [&](int64_t begin, int64_t end) {
    kernels().max_pool(y.data() + begin * out_plane,
                       argmax.defined() ? argmax.data<uint16_t>() + begin * out_plane : nullptr,
                       x.data() + begin * in_plane, end - begin, window, relu);
  });
}

Array max_pool2d_backward(const Array& dy, const Array& argmax_any, const Array& y_any,
                          const PoolShape& shape) {
  const PoolAxis &rows = shape.rows, &cols = shape.cols;
  const Array argmax = as_layout(argmax_any, dy.layout());
  const Array y = y_any.defined() ? as_layout(y_any, dy.layout()) : Array();
  Array dx =
      Array::empty({dy.dim(0), dy.dim(1), rows.input, cols.input}, DType::float32, dy.layout());
  const PoolWindow window = pool_window(shape, dy);
  const int64_t in_plane = window.IH * window.IW * window.unit;
  const int64_t out_plane = window.OH * window.OW * window.unit;
  const auto run = [&](auto kernel, const auto& windows) {
    for_chunks(dy.blocks() * dy.dim(1), std::max(in_plane, out_plane),
               [&](int64_t begin, int64_t end) {
                 kernel(dx.data() + begin * in_plane, dy.data() + begin * out_plane,
                        argmax.data<uint16_t>() + begin * out_plane,
                        y.defined() ? y.data() + begin * out_plane : nullptr, end - begin, windows);
               });
    return dx;
  };
  if (!dy.in_lanes()) return run(kernels().max_pool_backward_plain, window);
  Resample map{};
  map.in_rows = rows.output, map.in_cols = cols.output;
  map.out_rows = rows.input, map.out_cols = cols.input;
  map.unit = kLanes;
  if (is_simple(rows) && is_simple(cols)) return run(kernels().max_pool_backward_2x2, map);
  const TapTable row_windows = windows_of_inputs(rows, cols.kernel);
  const TapTable col_windows = windows_of_inputs(cols, 1);
  map.rows = taps_of(row_windows);
  map.cols = taps_of(col_windows);
  return run(kernels().max_pool_backward, map);
}

Array max_pool2d_indices(const Array& argmax_any, const PoolShape& shape) {
  const PoolAxis &rows = shape.rows, &cols = shape.cols;
  const Array argmax = to_plain(argmax_any);
  Array indices = Array::empty(shape.y(), DType::int64);
  const uint16_t* from = argmax.data<uint16_t>();
  int64_t* to = indices.data<int64_t>();
  for (int64_t plane = 0; plane < shape.N * shape.C; ++plane)
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

}  // namespace fastconv::cpu
