// By weight for a small batch with few channels: the dot tile sums over neighbouring pixels.
// dy and the window of x that it meets are laid out flat, both with rows of `width`, and dy is zero
// between its rows.
#include <algorithm>

#include "cpu/conv/small_batch/backward.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/conv/weight/slices.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"

namespace fastconv::cpu {
namespace {

// Output rows of a tile: long enough that summing lanes is cheap beside it, while the dy of a dot
// tile stays in L1 and the window of x in L2.
int64_t tile_rows(const Conv2dShape& s, int64_t width) {
  constexpr int64_t kPixels = 768, kWindowFloats = 128 * 1024;
  const int64_t most = std::min(kPixels / width, kWindowFloats / (s.IC_per_group * width));
  return ceil_div(s.OH, ceil_div(s.OH, std::clamp<int64_t>(most, 1, s.OH)));
}

}  // namespace

void backward_weight_small_batch(float* dw, const float* dy, const float* x, const Conv2dShape& s) {
  const int64_t C = s.IC_per_group, taps = s.KH * s.KW, J = C * taps;
  const int64_t x_plane = s.IH * s.IW, y_plane = s.OH * s.OW;
  SmallBatchWindow window(s);
  const int64_t most_rows = tile_rows(s, window.width), tiles = ceil_div(s.OH, most_rows);
  window.set_rows(most_rows);
  const int64_t flat = most_rows * window.width;  // floats of a channel of dy
  const bool gapless = window.width == s.OW;
  Scratch<int64_t> offsets(J);
  window.taps(offsets.data());
  for (int64_t j = taps; j < J; ++j)
    offsets.data()[j] = offsets.data()[j - taps] + window.channel();

  // Rows of K channels of dy, with zeros between them.
  const auto flatten = [&](float* out, const float* rows_of_dy, int64_t K, int64_t rows) {
    for (int64_t k = 0; k < K; ++k)
      for (int64_t r = 0; r < rows; ++r) {
        float* to = out + k * flat + r * window.width;
        std::fill(std::copy_n(rows_of_dy + k * y_plane + r * s.OW, s.OW, to), to + window.width,
                  0.0f);
      }
  };
  Slices(s, s.N * tiles).run(dw, [&](const Slices::Task& task) {
    Scratch<float> x_flat(C * window.channel()), dy_flat(task.K * flat);
    for (int64_t item = task.first; item < task.last; ++item)
      for (int64_t group = task.group; group < task.end_of_groups; ++group) {
        const int64_t n = item / tiles, row = item % tiles * most_rows;
        const int64_t rows = std::min(most_rows, s.OH - row), k = group * s.OC_per_group + task.k;
        const float* dy_rows = dy + (n * s.OC + k) * y_plane + row * s.OW;
        if (!gapless) flatten(dy_flat.data(), dy_rows, task.K, rows);
        for (int64_t c = 0; c < C; ++c)
          window.copy(x_flat.data() + c * window.channel(),
                      x + (n * s.IC + group * C + c) * x_plane, row, rows);
        const int64_t pixels = (rows - 1) * window.width + s.OW;
        DotTile args{};
        args.K = task.K, args.J = J;
        args.images = args.rows = 1, args.cols = ceil_div(pixels, kLanes);
        args.a = gapless ? dy_rows : dy_flat.data();
        args.a_k = gapless ? y_plane : flat, args.a_col = kLanes;
        args.b = x_flat.data(), args.b_col = kLanes;
        args.b_j = offsets.data();
        args.out = task.dw + k * J;
        args.out_k = J, args.out_j = 1;
        args.accumulate = item > task.first;
        args.tail = static_cast<int>(pixels - (args.cols - 1) * kLanes);
        cpu::kernels().dot_tile(args);
      }
  });
}

}  // namespace fastconv::cpu
