#include "ops/fold.h"

#include <algorithm>
#include <cstring>

#include "core/thread_pool.h"
#include "ops/winograd_tiles.h"

namespace fastconv {
namespace {

constexpr size_t kPixel = kLanes * sizeof(float);

int64_t folded_taps(const Conv2dShape& s) { return ceil_div(s.KH, s.params.stride[0]); }

// One axis: where position i of phase `phase` of the folded image lies in x, and which of the
// positions lie inside.
struct Phase {
  Phase(int64_t phase, int64_t stride, int64_t pad, int64_t size, int64_t folded_size)
      : first(phase - pad),
        begin(first >= 0 ? 0 : ceil_div(-first, stride)),
        end(first >= size ? 0 : std::min(folded_size, (size - 1 - first) / stride + 1)) {}

  int64_t first, begin, end;
};

// body(block, channel of x, row phase, column phase), all planes of the folded image in parallel.
template <class Body>
void for_planes(int64_t blocks, const Conv2dShape& s, const Body& body) {
  const int64_t stride = s.params.stride[0];
  parallel_for(blocks * s.IC * stride, [&](int64_t task) {
    for (int64_t col = 0; col < stride; ++col)
      body(task / (s.IC * stride), task / stride % s.IC, task % stride, col);
  });
}

}  // namespace

bool fold_pays(const Conv2dShape& s, Pass pass) {
  const Conv2dParams& p = s.params;
  const int64_t stride = p.stride[0];
  if (stride < 2 || p.stride[1] != stride || s.KH != s.KW || p.groups != 1 ||
      p.dilation != std::array<int64_t, 2>{1, 1} || folded_taps(s) < 3 || folded_taps(s) > 4)
    return false;
  const Conv2dShape f = folded(s);
  // By weight the channels of x fill vectors: twelve of them, 7x7 with stride 2, 42 ms instead
  // of 13.
  if (!winograd_applies(f) || (pass == Pass::backward_weight && f.IC < 2 * kLanes)) return false;
  // Cycles for each pair of channels, as in winograd_part; a folded pixel costs some ten to copy.
  const double phases = double(stride * stride), IC = double(s.IC), OC = double(s.OC);
  const double tiles = double(grid_of(s.OH, s.OW, tile_size(f)).tiles());
  const double products = 1.1 * double(kPoints) * phases;
  const double folding = phases * double(f.IH * f.IW) * 10.0 / OC;
  const double weights = double(folded_taps(s) * folded_taps(s)) * phases;
  const double once = 20.0 * weights / double(ceil_div(s.N, kLanes));  // of weights
  const double cost = tiles * (products + 220.0 * phases / OC + 220.0 / IC) + folding + once;
  return 1.5 * cost < double(s.KH * s.KW * s.OH * s.OW);
}

Conv2dShape folded(const Conv2dShape& s) {
  const int64_t phases = s.params.stride[0] * s.params.stride[1], taps = folded_taps(s);
  return conv2d_shape({s.N, s.IC * phases, s.OH + taps - 1, s.OW + taps - 1},
                      {s.OC, s.IC * phases, taps, taps}, {});
}

Array fold_image(const Array& x, const Conv2dShape& s) {
  const Conv2dShape f = folded(s);
  const int64_t stride = s.params.stride[0];
  Array y = Array::empty(f.x(), DType::float32, Layout::lanes);
  for_planes(x.blocks(), s, [&](int64_t block, int64_t c, int64_t row_phase, int64_t col_phase) {
    const Phase rows(row_phase, stride, s.params.pads[0], s.IH, f.IH);
    const Phase cols(col_phase, stride, s.params.pads[2], s.IW, f.IW);
    const int64_t plane = block * s.IC + c;
    const float* from = x.data() + plane * s.IH * s.IW * kLanes;
    float* to =
        y.data() + ((plane * stride + row_phase) * stride + col_phase) * f.IH * f.IW * kLanes;
    for (int64_t h = 0; h < f.IH; ++h, to += f.IW * kLanes) {
      const bool inside = h >= rows.begin && h < rows.end && cols.begin < cols.end;
      const int64_t begin = inside ? cols.begin : f.IW, end = inside ? cols.end : f.IW;
      const float* row = from + ((rows.first + h * stride) * s.IW + cols.first) * kLanes;
      std::memset(to, 0, static_cast<size_t>(begin) * kPixel);
      for (int64_t w = begin; w < end; ++w)
        std::memcpy(to + w * kLanes, row + w * stride * kLanes, kPixel);
      std::memset(to + end * kLanes, 0, static_cast<size_t>(f.IW - end) * kPixel);
    }
  });
  return y;
}

void unfold_image(Array& dx, const Array& folded_dx, const float* start, const Conv2dShape& s) {
  const Conv2dShape f = folded(s);
  const int64_t stride = s.params.stride[0];
  parallel_for(dx.blocks() * s.IC, [&](int64_t plane) {
    const float more = start ? start[plane % s.IC] : 0.0f;
    for (int64_t h = 0; h < s.IH; ++h) {
      const int64_t row = h + s.params.pads[0];
      float* to = dx.data() + (plane * s.IH + h) * s.IW * kLanes;
      for (int64_t w = 0; w < s.IW; ++w, to += kLanes) {
        const int64_t col = w + s.params.pads[2];
        const bool met = row / stride < f.IH && col / stride < f.IW;  // by a window
        const int64_t channel = (plane * stride + row % stride) * stride + col % stride;
        const float* from =
            folded_dx.data() + ((channel * f.IH + row / stride) * f.IW + col / stride) * kLanes;
        for (int64_t i = 0; i < kLanes; ++i) to[i] = (met ? from[i] : 0.0f) + more;
      }
    }
  });
}

namespace {

// body(pair of channels, row of a kernel, its first element in the folded weights), also of the
// rows that only the folded kernels have. In those, tap t of the row is tap_in_row(t) further.
template <class Body>
void for_kernel_rows(const Conv2dShape& s, const Body& body) {
  const int64_t stride = s.params.stride[0], taps = folded_taps(s);
  parallel_ranges(s.OC, ceil_div(int64_t{4096}, s.IC * s.KH), [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin * s.IC; pair < end * s.IC; ++pair)
      for (int64_t r = 0; r < stride * taps; ++r)
        body(pair, r, ((pair * stride + r % stride) * stride * taps + r / stride) * taps);
  });
}

int64_t tap_in_row(int64_t t, const Conv2dShape& s) {
  const int64_t stride = s.params.stride[0], taps = folded_taps(s);
  return t % stride * taps * taps + t / stride;
}

}  // namespace

Array fold_weight(const Array& w, const Conv2dShape& s) {
  const int64_t all = s.params.stride[0] * folded_taps(s);
  Array y = Array::empty(folded(s).w());
  for_kernel_rows(s, [&](int64_t pair, int64_t r, int64_t to) {
    const float* from = w.data() + (pair * s.KH + r) * s.KW;
    for (int64_t t = 0; t < all; ++t)
      y.data()[to + tap_in_row(t, s)] = r < s.KH && t < s.KW ? from[t] : 0.0f;
  });
  return y;
}

Array unfold_weight(const Array& folded_dw, const Conv2dShape& s) {
  Array dw = Array::empty(s.w());
  for_kernel_rows(s, [&](int64_t pair, int64_t r, int64_t from) {
    float* to = dw.data() + (pair * s.KH + r) * s.KW;
    for (int64_t t = 0; r < s.KH && t < s.KW; ++t)
      to[t] = folded_dw.data()[from + tap_in_row(t, s)];
  });
  return dw;
}

}  // namespace fastconv
