// By input as a product of matrices. What a pixel of dy sends to each tap of each input channel,
//
//   column[c][r][s][pixel] = sum over k of w[k][c][r][s] * dy[k][pixel]
//
// needs no transposed weights: sixteen neighbours in a row w[k] fill a vector, and pixels are
// broadcast. Columns are added up where the windows of outputs overlap, sixteen channels at a
// time, while a cache holds them.
#include "cpu/conv/small_batch/columns.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// The outputs of an axis for which tap r meets an input, and the input that the first one meets.
struct ValidRange {
  int64_t begin, end, input;
};

ValidRange valid_outputs(int64_t r, int64_t outputs, int64_t inputs, int64_t pad, int64_t stride,
                         int64_t dilation) {
  const int64_t reach = pad - r * dilation;  // output o meets input o * stride - reach
  const int64_t begin = reach > 0 ? ceil_div(reach, stride) : 0;
  const int64_t end = std::min(outputs, inputs + reach > 0 ? ceil_div(inputs + reach, stride) : 0);
  return {begin, std::max(begin, end), begin * stride - reach};
}

// Adds the columns [r][s][pixel] of a channel to its plane of dx.
void add_columns(float* dx, const float* columns, const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  const int64_t step = p.stride[1];
  for (int64_t r = 0; r < s.KH; ++r) {
    const ValidRange rows = valid_outputs(r, s.OH, s.IH, p.pads[0], p.stride[0], p.dilation[0]);
    for (int64_t t = 0; t < s.KW; ++t, columns += s.OH * s.OW) {
      const ValidRange cols = valid_outputs(t, s.OW, s.IW, p.pads[2], step, p.dilation[1]);
      const int64_t n = cols.end - cols.begin;
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const float* from = columns + row * s.OW + cols.begin;
        float* to = dx + (rows.input + (row - rows.begin) * p.stride[0]) * s.IW + cols.input;
        if (step == 1)
          for (int64_t i = 0; i < n; ++i) to[i] += from[i];
        else
          for (int64_t i = 0; i < n; ++i) to[i * step] += from[i];
      }
    }
  }
}

}  // namespace

void columns_small_batch(float* dx, const float* dy, const float* w, const float* bias,
                         const Conv2dShape& s) {
  const int64_t taps = s.KH * s.KW, pixels = s.OH * s.OW, C = s.IC_per_group, K = s.OC_per_group;
  const int64_t plane = s.IH * s.IW, floats = kLanes * taps * pixels;
  const Kernels& kernels = cpu::kernels();
  parallel_for(s.IC / kLanes * s.N, [&](int64_t task) {
    const int64_t n = task % s.N, c = task / s.N * kLanes, group = c / C;
    Scratch<float> sums(floats), columns(floats);
    BroadcastTile args{};
    args.groups = 1, args.K = pixels, args.C = K, args.taps = 1;
    args.rows = 1, args.cols = taps;  // the weights of sixteen channels are so many vectors
    args.x = w + (group * K * C + c % C) * taps;
    args.x_c = C * taps, args.x_col = kLanes, args.x_tap = &kNoOffset;
    args.w = dy + (n * s.OC + group * K) * pixels;
    args.w_k = 1, args.w_c = pixels, args.w_tap = &kNoOffset;
    args.y = sums.data();
    args.y_k = kLanes, args.y_col = pixels * kLanes;
    args.tail = kLanes;
    kernels.broadcast_tile(args);
    for (int64_t vector = 0; vector < taps; ++vector) {
      const int64_t at = vector * kLanes * pixels;
      kernels.to_plain(columns.data() + at, pixels, sums.data() + at, kLanes, pixels, kLanes);
    }
    for (int64_t i = 0; i < kLanes; ++i) {
      float* to = dx + (n * s.IC + c + i) * plane;
      std::fill_n(to, plane, bias ? bias[c + i] : 0.0f);
      add_columns(to, columns.data() + i * taps * pixels, s);
    }
  });
}

}  // namespace fastconv::cpu
