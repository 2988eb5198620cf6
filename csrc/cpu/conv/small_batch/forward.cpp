// With fewer samples than lanes, sixteen neighbouring *pixels* fill the vectors instead, and the
// same broadcast tile runs over them. Depthwise convolutions and kernels of one pixel have rooms of
// their own; here are the others.
//
// The window of a band of output rows (or of all, once for several tasks) is copied with its
// padding (ops/few_window.h). Where rows are long, each is swept by itself, straight into y. Where
// they are short, a row of outputs runs on into the next without a gap, and the width - OW values
// between rows are computed and dropped.
//
// 3x3 and 5x5 with stride 1 have a quicker way as a rule, ops/winograd_few.cpp, and short rows
// another, ops/channels_few.cpp.
#include "cpu/conv/small_batch/forward.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/small_batch/channels.h"
#include "cpu/conv/small_batch/depthwise.h"
#include "cpu/conv/small_batch/pointwise.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/conv/winograd/not_finite.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv {
namespace {

// How output rows and output channels of a group are cut into tasks.
struct Cut {
  int64_t band, bands, K, k_cuts;
  bool by_row;  // each row of outputs by itself
};

Cut choose_cut(const Conv2dShape& s, SmallBatchWindow& window) {
  const Geometry& p = s.params;
  const int64_t reach = (s.KH - 1) * p.dilation[0] / p.stride[0];
  const int64_t row = s.IC_per_group * window.width * window.phase_rows * window.phase_cols;
  // All weights pass for each band: one near L1 where that is some rows, else one in L2.
  constexpr int64_t kL1 = 12 * 1024, kL2 = 64 * 1024, kFewRows = 4, kTasks = 16, kMinK = 16;
  int64_t most = kL1 / row - reach;
  if (most < std::min(kFewRows, s.OH)) most = kL2 / row - reach;
  Cut cut{};
  cut.bands = ceil_div(s.OH, std::clamp<int64_t>(most, 1, s.OH));
  if (cut.bands > 1) cut.bands += cut.bands % 2;
  cut.band = ceil_div(s.OH, cut.bands);
  cut.bands = ceil_div(s.OH, cut.band);
  cut.k_cuts = 1;
  const int64_t tasks = p.groups * cut.bands;
  while (2 * cut.k_cuts * tasks <= kTasks && 2 * cut.k_cuts * kMinK <= s.OC_per_group)
    cut.k_cuts *= 2;
  cut.K = ceil_div(s.OC_per_group, cut.k_cuts);
  cut.k_cuts = ceil_div(s.OC_per_group, cut.K);
  window.set_rows(cut.k_cuts > 1 ? s.OH : cut.band);
  // In multiply-adds of vectors for an output channel; taking rows apart again costs some ten a
  // row, and rows of less than four vectors make poor tiles.
  const int64_t length = s.IC_per_group * s.KH * s.KW, across = ceil_div(s.OW, kLanes);
  const int64_t run_on = ceil_div((cut.band - 1) * window.width + s.OW, kLanes);
  cut.by_row =
      across >= 4 && cut.band * across * length <= run_on * length + cut.band * (10 + 4 * across);
  return cut;
}

void windowed_few(float* y, const float* x, const float* w, const float* bias, const Conv2dShape& s,
                  const cpu::ChannelPostOps& finish) {
  const Geometry& p = s.params;
  const int64_t taps = s.KH * s.KW, C = s.IC_per_group, plane = s.OH * s.OW;
  SmallBatchWindow window(s);
  const Cut cut = choose_cut(s, window);
  Scratch<int64_t> offsets(2 * taps);
  int64_t *x_tap = offsets.data(), *w_tap = x_tap + taps;
  window.taps(x_tap);
  for (int64_t t = 0; t < taps; ++t) w_tap[t] = t;
  const cpu::Kernels& kernels = cpu::kernels();
  const int64_t macs = cut.K * C * taps * cut.band * s.OW;
  const int64_t vectors = ceil_div((cut.band - 1) * window.width + s.OW, kLanes);
  const int64_t images = cut.k_cuts > 1 ? s.IC : 0;  // copied before the tasks
  Scratch<float> image(images * window.channel() +
                       kLanes);  // the last vector may read past the end
  std::fill_n(image.data() + images * window.channel(), kLanes, 0.0f);

  for (int64_t n = 0; n < s.N; ++n) {
    const float* xn = x + n * s.IC * s.IH * s.IW;
    for_shares(images, window.channel() * 4, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        window.copy(image.data() + c * window.channel(), xn + c * s.IH * s.IW, 0, s.OH);
    });
    for_shares(p.groups * cut.k_cuts * cut.bands, macs / 16, [&](int64_t begin, int64_t end) {
      Scratch<float> own(images > 0 ? 0 : C * window.channel() + kLanes);
      if (images == 0) std::fill_n(own.data() + C * window.channel(), kLanes, 0.0f);
      Scratch<float> sums(cut.by_row ? 0 : cut.K * vectors * kLanes);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row0 = task % cut.bands * cut.band, rows = std::min(cut.band, s.OH - row0);
        const int64_t k_cut = task / cut.bands % cut.k_cuts;
        const int64_t group = task / (cut.bands * cut.k_cuts);
        const int64_t k = group * s.OC_per_group + k_cut * cut.K;
        const int64_t at = (n * s.OC + k) * plane + row0 * s.OW;
        if (images == 0)
          for (int64_t c = 0; c < C; ++c)
            window.copy(own.data() + c * window.channel(), xn + (group * C + c) * s.IH * s.IW, row0,
                        rows);
        const cpu::ChannelPostOps last = finish_from(finish, k, at);
        cpu::BroadcastTile args{};
        args.groups = 1, args.taps = taps, args.C = C;
        args.K = std::min(cut.K, s.OC_per_group - k_cut * cut.K);
        args.x = images == 0 ? own.data()
                             : image.data() + group * C * window.channel() + row0 * window.width;
        args.x_c = window.channel(), args.x_row = window.width, args.x_col = kLanes;
        args.x_tap = x_tap;
        args.w = w + k * C * taps;
        args.w_k = C * taps, args.w_c = taps;
        args.w_tap = w_tap;
        args.bias = bias ? bias + k : nullptr;
        args.y_col = kLanes;
        if (cut.by_row) {
          args.rows = rows, args.cols = ceil_div(s.OW, kLanes);
          args.y = y + at, args.y_k = plane, args.y_row = s.OW;
          args.tail = static_cast<int>(s.OW - (args.cols - 1) * kLanes);
          args.finish = &last;
          kernels.broadcast_tile(args);
          continue;
        }
        args.rows = 1, args.cols = ceil_div((rows - 1) * window.width + s.OW, kLanes);
        args.y = sums.data(), args.y_k = vectors * kLanes;
        args.tail = kLanes;
        args.finish = finish.plus ? nullptr : &last;
        kernels.broadcast_tile(args);
        for (int64_t i = 0; i < args.K; ++i) {
          const float* from = sums.data() + i * vectors * kLanes;
          float* to = y + at + i * plane;
          for (int64_t r = 0; r < rows; ++r)
            std::copy_n(from + r * window.width, s.OW, to + r * s.OW);
          if (finish.plus) finish_plane(to, finish_from(last, i, i * plane), rows * s.OW);
        }
      }
    });
  }
}

}  // namespace

void conv2d_forward_small_batch(float* y, const float* x, const float* w, const float* bias,
                                const Conv2dShape& s, const cpu::ChannelPostOps& finish) {
  if (s.N == 0) return;
  const auto by_formula = depthwise_few_pays(s) ? depthwise_few
                          : is_pointwise(s)     ? pointwise_few
                          : channels_few_pay(s) ? channels_few
                                                : windowed_few;
  if (!winograd_small_batch_pays(s)) return by_formula(y, x, w, bias, s, finish);
  if (winograd_forward_small_batch(y, x, w, bias, s, finish)) return;
  Array formula = Array::empty(s.y());
  by_formula(formula.data(), x, w, bias, s, finish);
  replace_not_finite(y, formula.data(), formula.stored());
}

}  // namespace fastconv
