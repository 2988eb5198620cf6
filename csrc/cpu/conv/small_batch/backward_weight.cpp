// By weight for a few plain images with few channels: the dot tile sums over neighbouring pixels.
// dy and the window of x that it meets are laid out flat, both with rows of `width`, and dy is zero
// between its rows.
#include <algorithm>

#include "cpu/conv/small_batch/backward.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// How the sum over samples and bands of rows is cut: see WeightCut in weight_gradient_dot.cpp.
struct Cut {
  int64_t band, bands, slices, groups, K;
};

Cut choose_cut(const Conv2dShape& s, int64_t width) {
  // Long enough that summing lanes is cheap beside it; the dy of a tile stays in L1, the window of
  // x in L2.
  constexpr int64_t kBandPixels = 768, kWindowFloats = 128 * 1024, kTasks = 16;
  constexpr int64_t kPartialFloats = 1 << 20;
  const int64_t most = std::min(kBandPixels / width, kWindowFloats / (s.IC_per_group * width));
  Cut cut{};
  cut.bands = ceil_div(s.OH, std::clamp<int64_t>(most, 1, s.OH));
  cut.band = ceil_div(s.OH, cut.bands);
  cut.bands = ceil_div(s.OH, cut.band);
  cut.slices =
      std::clamp<int64_t>(kPartialFloats / s.w().numel(), 1, std::min(s.N * cut.bands, kTasks));
  const int64_t groups = s.geometry.groups;
  cut.groups = ceil_div(groups, std::min(groups, ceil_div(kTasks, cut.slices)));
  const int64_t tasks = cut.slices * ceil_div(groups, cut.groups);
  cut.K = ceil_div(s.OC_per_group,
                   std::clamp<int64_t>(ceil_div(kTasks, tasks), 1, ceil_div(s.OC_per_group, 12)));
  return cut;
}

}  // namespace

void backward_weight_small_batch(float* dw, const float* dy, const float* x, const Conv2dShape& s) {
  const int64_t C = s.IC_per_group, taps = s.KH * s.KW, J = C * taps, weights = s.w().numel();
  SmallBatchWindow window(s);
  const Cut cut = choose_cut(s, window.width);
  window.set_rows(cut.band);
  const int64_t items = s.N * cut.bands, x_plane = s.IH * s.IW, y_plane = s.OH * s.OW;
  const int64_t groups = s.geometry.groups, group_cuts = ceil_div(groups, cut.groups);
  const int64_t k_cuts = ceil_div(s.OC_per_group, cut.K);
  Scratch<int64_t> offsets(J);
  window.taps(offsets.data());
  for (int64_t j = taps; j < J; ++j)
    offsets.data()[j] = offsets.data()[j - taps] + window.channel();
  Scratch<float> partial(cut.slices > 1 ? cut.slices * weights : 1);
  float* sums = cut.slices > 1 ? partial.data() : dw;

  parallel_for(cut.slices * group_cuts * k_cuts, [&](int64_t task) {
    const int64_t slice = task / (group_cuts * k_cuts);
    const int64_t group0 = task / k_cuts % group_cuts * cut.groups, k0 = task % k_cuts * cut.K;
    const int64_t K = std::min(cut.K, s.OC_per_group - k0);
    const int64_t first = items * slice / cut.slices, last = items * (slice + 1) / cut.slices;
    const int64_t flat = cut.band * window.width;  // floats of a channel of dy
    Scratch<float> x_flat(C * window.channel()), dy_flat(K * flat);
    for (int64_t item = first; item < last; ++item)
      for (int64_t group = group0; group < std::min(group0 + cut.groups, groups); ++group) {
        const int64_t n = item / cut.bands, row0 = item % cut.bands * cut.band;
        const int64_t rows = std::min(cut.band, s.OH - row0), k = group * s.OC_per_group + k0;
        const float* dy_rows = dy + (n * s.OC + k) * y_plane + row0 * s.OW;
        const bool gapless = window.width == s.OW;
        if (!gapless)
          for (int64_t i = 0; i < K; ++i)
            for (int64_t r = 0; r < rows; ++r) {
              float* to = dy_flat.data() + i * flat + r * window.width;
              const float* from = dy_rows + i * y_plane + r * s.OW;
              std::fill(std::copy_n(from, s.OW, to), to + window.width, 0.0f);
            }
        for (int64_t c = 0; c < C; ++c)
          window.copy(x_flat.data() + c * window.channel(),
                      x + (n * s.IC + group * C + c) * x_plane, row0, rows);
        const int64_t pixels = (rows - 1) * window.width + s.OW;
        DotTile args{};
        args.K = K, args.J = J;
        args.images = args.rows = 1, args.cols = ceil_div(pixels, kLanes);
        args.a = gapless ? dy_rows : dy_flat.data();
        args.a_k = gapless ? y_plane : flat, args.a_col = kLanes;
        args.b = x_flat.data(), args.b_col = kLanes;
        args.b_j = offsets.data();
        args.out = sums + (cut.slices > 1 ? slice * weights : 0) + k * J;
        args.out_k = J, args.out_j = 1;
        args.accumulate = item > first;
        args.tail = static_cast<int>(pixels - (args.cols - 1) * kLanes);
        cpu::kernels().dot_tile(args);
      }
  });
  if (cut.slices == 1) return;
  parallel_ranges(weights, 1 << 14, [&](int64_t begin, int64_t end) {
    std::copy(sums + begin, sums + end, dw + begin);
    for (int64_t slice = 1; slice < cut.slices; ++slice)
      for (int64_t i = begin; i < end; ++i) dw[i] += sums[slice * weights + i];
  });
}

}  // namespace fastconv::cpu
