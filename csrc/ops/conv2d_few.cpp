// With fewer samples than lanes, sixteen neighbouring *pixels* fill the vectors instead, and the
// same broadcast tile runs over them. The padded image is laid out flat, rows one after the other,
// so that output pixel q = oh * width + ow reads input q + r * width + s for tap (r, s): a row of
// outputs runs on into the next without a gap. The width - OW values between rows are computed and
// dropped.
//
// A stride splits the image into stride x stride phases, each flat; a tap then lies in one phase.
// Phases that no tap reaches are left out.
//
// 3x3 and 5x5 with stride 1 have a quicker way as a rule, ops/winograd_few.cpp.
#include "ops/conv2d_few.h"

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/winograd_few.h"

namespace fastconv {
namespace {

struct FlatImage {
  int64_t height, width;           // of one phase
  int64_t phase_rows, phase_cols;  // how many there are along each axis
  int64_t phase() const { return height * width; }
  int64_t channel() const { return phase() * phase_rows * phase_cols; }
};

// Channel c of image x into its phases, zeros where the padding is.
void flatten_channel(float* out, const float* x, const Conv2dShape& s, const FlatImage& flat) {
  const Conv2dParams& p = s.params;
  for (int64_t a = 0; a < flat.phase_rows; ++a)
    for (int64_t b = 0; b < flat.phase_cols; ++b)
      for (int64_t i = 0; i < flat.height; ++i, out += flat.width) {
        const int64_t ih = i * p.stride[0] + a - p.pads[0];
        if (ih < 0 || ih >= s.IH) {
          std::fill_n(out, flat.width, 0.0f);
          continue;
        }
        // Columns first <= j < last have 0 <= j * stride + b - left < IW.
        const int64_t shift = b - p.pads[2];
        const int64_t first = std::min(flat.width, shift >= 0 ? 0 : ceil_div(-shift, p.stride[1]));
        const int64_t last =
            std::clamp(shift < s.IW ? ceil_div(s.IW - shift, p.stride[1]) : 0, first, flat.width);
        const float* in = x + ih * s.IW + shift;
        std::fill(out, out + first, 0.0f);
        if (p.stride[1] == 1)
          std::copy(in + first, in + last, out + first);
        else
          for (int64_t j = first; j < last; ++j) out[j] = in[j * p.stride[1]];
        std::fill(out + last, out + flat.width, 0.0f);
      }
}

}  // namespace

Array conv2d_forward_few(const Array& x, const Array& w, const float* bias, const Conv2dShape& s,
                         bool relu) {
  Array y = Array::empty(s.y());
  if (s.N == 0) return y;
  if (winograd_few_pays(s)) {
    winograd_forward_few(y.data(), x.data(), w.data(), bias, relu, s);
    return y;
  }
  const Conv2dParams& p = s.params;
  const int64_t taps = s.KH * s.KW;
  const FlatImage flat{s.OH + (s.KH - 1) * p.dilation[0] / p.stride[0],
                       s.OW + (s.KW - 1) * p.dilation[1] / p.stride[1],
                       std::min(p.stride[0], (s.KH - 1) * p.dilation[0] + 1),
                       std::min(p.stride[1], (s.KW - 1) * p.dilation[1] + 1)};
  Scratch<int64_t> tap_offset(taps), w_tap(taps);
  for (int64_t t = 0; t < taps; ++t) w_tap.data()[t] = t;
  for (int64_t r = 0; r < s.KH; ++r)
    for (int64_t t = 0; t < s.KW; ++t) {
      const int64_t row = r * p.dilation[0], col = t * p.dilation[1];
      const int64_t phase = row % p.stride[0] * flat.phase_cols + col % p.stride[1];
      tap_offset.data()[r * s.KW + t] =
          phase * flat.phase() + row / p.stride[0] * flat.width + col / p.stride[1];
    }

  // Bands of output rows whose window stays in L2; shares of the output channels for the threads.
  // Work below about 20 microseconds stays in the calling thread.
  const int64_t macs = s.OC * s.IC_per_group * taps * s.OH * s.OW;
  constexpr int64_t kWindowFloats = 64 * 1024;
  int64_t band = std::clamp<int64_t>(kWindowFloats / (s.IC_per_group * flat.width), 1, s.OH);
  band = ceil_div(s.OH, ceil_div(s.OH, band));
  const bool small = macs < 1'000'000;
  const int64_t row_cuts = ceil_div(s.OH, band);
  const int64_t wanted = small ? 1 : ceil_div(16, row_cuts);
  const int64_t group_cut = ceil_div(p.groups, std::min(p.groups, wanted));
  const int64_t group_cuts = ceil_div(p.groups, group_cut);
  const int64_t k_cut =
      ceil_div(s.OC_per_group,
               std::clamp<int64_t>(ceil_div(wanted, group_cuts), 1, ceil_div(s.OC_per_group, 8)));
  const int64_t k_cuts = ceil_div(s.OC_per_group, k_cut);
  const int64_t channel_cut = small ? s.IC : ceil_div(s.IC, 16);
  const cpu::Kernels& kernels = cpu::kernels();

  Scratch<float> images(s.IC * flat.channel() + kLanes);  // the last vector may read past the end
  std::fill_n(images.data() + s.IC * flat.channel(), kLanes, 0.0f);
  for (int64_t n = 0; n < s.N; ++n) {
    const float* xn = x.data() + n * s.IC * s.IH * s.IW;
    float* yn = y.data() + n * s.OC * s.OH * s.OW;
    parallel_for(ceil_div(s.IC, channel_cut), [&](int64_t task) {
      const int64_t end = std::min(s.IC, (task + 1) * channel_cut);
      for (int64_t c = task * channel_cut; c < end; ++c)
        flatten_channel(images.data() + c * flat.channel(), xn + c * s.IH * s.IW, s, flat);
    });
    parallel_for(group_cuts * k_cuts * row_cuts, [&](int64_t task) {
      const int64_t row0 = task % row_cuts * band, rows = std::min(band, s.OH - row0);
      const int64_t k0 = task / row_cuts % k_cuts * k_cut, K = std::min(k_cut, s.OC_per_group - k0);
      const int64_t group0 = task / (row_cuts * k_cuts) * group_cut;
      const int64_t pixels = (rows - 1) * flat.width + s.OW, vectors = ceil_div(pixels, kLanes);
      const bool gapless = flat.width == s.OW;
      Scratch<float> sums(gapless ? 0 : K * vectors * kLanes);
      for (int64_t group = group0; group < std::min(group0 + group_cut, p.groups); ++group) {
        const int64_t k = group * s.OC_per_group + k0;
        float* out = yn + (k * s.OH + row0) * s.OW;
        cpu::TileSweep sweep{};
        sweep.groups = sweep.rows = 1;
        sweep.K = K, sweep.C = s.IC_per_group, sweep.taps = taps, sweep.cols = vectors;
        sweep.x = images.data() + group * s.IC_per_group * flat.channel() + row0 * flat.width;
        sweep.x_c = flat.channel(), sweep.x_col = kLanes;
        sweep.x_tap = tap_offset.data();
        sweep.w = w.data() + k * s.IC_per_group * taps;
        sweep.w_k = s.IC_per_group * taps, sweep.w_c = taps;
        sweep.w_tap = w_tap.data();
        sweep.y = gapless ? out : sums.data();
        sweep.y_k = gapless ? s.OH * s.OW : vectors * kLanes, sweep.y_col = kLanes;
        sweep.bias = bias ? bias + k : nullptr;
        sweep.relu = relu;
        sweep.tail = gapless ? static_cast<int>(pixels - (vectors - 1) * kLanes) : kLanes;
        kernels.tile_sweep(sweep);
        if (gapless) continue;
        for (int64_t i = 0; i < K; ++i)
          for (int64_t r = 0; r < rows; ++r)
            std::copy_n(sums.data() + i * vectors * kLanes + r * flat.width, s.OW,
                        out + (i * s.OH + r) * s.OW);
      }
    });
  }
  return y;
}

}  // namespace fastconv
