// A convolution by weight for few channels: samples stay in the lanes of both operands, the dot
// tile multiplies vectors with vectors and adds up lanes at the end of a band.
#include "cpu/conv/weight/weight_gradient.h"

#include <algorithm>

#include "cpu/conv/direct/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {
namespace {

// A dy of more floats is waited for, unless it is asked for in time.
constexpr int64_t kCachedFloats = 4 << 20;

// How the sum over samples and pixels is cut. `slices` partial sums are made side by side and added
// in order, so the result has the same bits for any number of threads.
struct WeightCut {
  int64_t images, rows, cols;  // of a band: blocks of samples, output rows and columns
  int64_t C, K, groups;        // of a chunk of input channels, of a task's share of the rest
  int64_t slices;
};

WeightCut choose_weight_cut(const Conv2dShape& s, int64_t blocks) {
  const Geometry& p = s.params;
  WeightCut cut{};
  // A band long enough that summing lanes is cheap beside it, short enough that the dy of a tile
  // stays in L1 while the tile moves over the taps. The one tile of a depthwise convolution reads
  // dy but once: the less of a window is halo, the better (32 channels, 112 x 112: 2.9 to 1.3 ms).
  const bool one_tile = s.OC_per_group * s.IC_per_group * s.KH * s.KW <= 12;
  const int64_t band_pixels = one_tile ? 1536 : 96, band_cols = one_tile ? 256 : 64;
  cut.cols = ceil_div(s.OW, ceil_div(s.OW, band_cols));
  const int64_t reach =
      (s.KH - 1) * p.dilation[0] / p.stride[0];  // less than half of a window is halo
  cut.rows = std::clamp<int64_t>(std::max(band_pixels / cut.cols, reach), 1, s.OH);
  cut.rows = ceil_div(s.OH, ceil_div(s.OH, cut.rows));
  cut.images = std::clamp<int64_t>(band_pixels / (cut.rows * cut.cols), 1, blocks);
  const int64_t window = ((cut.rows - 1) * p.stride[0] + (s.KH - 1) * p.dilation[0] + 1) *
                         ((cut.cols - 1) * p.stride[1] + (s.KW - 1) * p.dilation[1] + 1);
  constexpr int64_t kWindowVectors = 256 * 1024 / (kLanes * 4);
  cut.C = std::clamp<int64_t>(kWindowVectors / (window * cut.images), 1, s.IC_per_group);
  cut.C = ceil_div(s.IC_per_group, ceil_div(s.IC_per_group, cut.C));

  const int64_t items =
      ceil_div(blocks, cut.images) * ceil_div(s.OH, cut.rows) * ceil_div(s.OW, cut.cols);
  const int64_t weights = s.OC * s.IC_per_group * s.KH * s.KW;
  constexpr int64_t kTasks = 16, kPartialFloats = 1 << 20;
  cut.slices = std::clamp<int64_t>(kPartialFloats / weights, 1, std::min(items, kTasks));
  cut.groups = ceil_div(p.groups, std::min(p.groups, ceil_div(kTasks, cut.slices)));
  const int64_t tasks = cut.slices * ceil_div(p.groups, cut.groups);
  const int64_t k_cuts =
      std::clamp<int64_t>(ceil_div(kTasks, tasks), 1, ceil_div(s.OC_per_group, 12));
  cut.K = ceil_div(s.OC_per_group, k_cuts);
  return cut;
}

// The kernel for planes takes one input and one output channel a group, and windows that reach into
// the image from every side.
bool sums_planes(const Conv2dShape& s) {
  const Geometry& p = s.params;
  const auto reaches = [](int64_t before, int64_t after, int64_t kernel) {
    return before < kernel && after < kernel;
  };
  return s.OC_per_group == 1 && s.IC_per_group == 1 && (s.KW == 3 || s.KW == 5) &&
         p.dilation[0] == 1 && p.dilation[1] == 1 && p.stride[0] == p.stride[1] &&
         p.stride[0] <= 2 && reaches(p.pads[2], p.pads[3], s.KW);
}

}  // namespace

void weight_gradient_dot(float* dw, const float* dy, const float* x, int64_t blocks,
                         const Conv2dShape& s) {
  const cpu::Kernels& kernels = cpu::kernels();
  const int64_t weights = s.OC * s.IC_per_group * s.KH * s.KW;
  const WeightCut cut = choose_weight_cut(s, blocks);
  const Geometry& p = s.params;
  const int64_t taps = s.KH * s.KW, J = s.IC_per_group * taps;
  const int64_t image_cuts = ceil_div(blocks, cut.images);
  const int64_t row_cuts = ceil_div(s.OH, cut.rows), col_cuts = ceil_div(s.OW, cut.cols);
  const int64_t items = image_cuts * row_cuts * col_cuts;
  const int64_t group_cuts = ceil_div(p.groups, cut.groups),
                k_cuts = ceil_div(s.OC_per_group, cut.K);
  const auto window_rows = [&](int64_t rows) {
    return (rows - 1) * p.stride[0] + (s.KH - 1) * p.dilation[0] + 1;
  };
  const auto window_cols = [&](int64_t cols) {
    return (cols - 1) * p.stride[1] + (s.KW - 1) * p.dilation[1] + 1;
  };
  Scratch<float> slices(cut.slices > 1 ? cut.slices * weights : 1);
  float* partial = cut.slices > 1 ? slices.data() : dw;

  const bool far = s.OC_per_group > 1 && blocks * s.OC * s.OH * s.OW * kLanes > kCachedFloats;
  const bool planes = sums_planes(s);
  const bool far_planes = blocks * s.IC * s.IH * s.IW * kLanes > kCachedFloats / 2;
  // The first pixel of dy of an item, in floats.
  const auto dy_of = [&](int64_t item) {
    const int64_t block = item / (row_cuts * col_cuts) * cut.images;
    const int64_t row = item / col_cuts % row_cuts * cut.rows, col = item % col_cuts * cut.cols;
    return ((block * s.OC * s.OH + row) * s.OW + col) * kLanes;
  };

  parallel_for(cut.slices * group_cuts * k_cuts, [&](int64_t task) {
    const int64_t slice = task / (group_cuts * k_cuts);
    const int64_t group0 = task / k_cuts % group_cuts * cut.groups, k0 = task % k_cuts * cut.K;
    const int64_t K = std::min(cut.K, s.OC_per_group - k0);
    const int64_t first = items * slice / cut.slices, last = items * (slice + 1) / cut.slices;
    Scratch<float> scratch(cut.images * cut.C * window_rows(cut.rows) * window_cols(cut.cols) *
                           kLanes);
    Scratch<int64_t> b_j(cut.C * taps);
    for (int64_t item = first; item < last; ++item) {
      const int64_t block0 = item / (row_cuts * col_cuts) * cut.images;
      const int64_t row0 = item / col_cuts % row_cuts * cut.rows, col0 = item % col_cuts * cut.cols;
      const int64_t images = std::min(cut.images, blocks - block0);
      const int64_t rows = std::min(cut.rows, s.OH - row0), cols = std::min(cut.cols, s.OW - col0);
      const int64_t in_rows = window_rows(rows), in_cols = window_cols(cols);
      for (int64_t group = group0; group < std::min(group0 + cut.groups, p.groups); ++group) {
        const int64_t k = group * s.OC_per_group + k0;
        if (planes) {
          cpu::DepthwiseWeightTile sum{};
          sum.images = images, sum.rows = rows, sum.cols = cols, sum.KH = s.KH, sum.KW = s.KW;
          sum.dy = dy + dy_of(item) + k * s.OH * s.OW * kLanes;
          sum.dy_image = s.OC * s.OH * s.OW * kLanes, sum.dy_row = s.OW * kLanes;
          sum.x = x + (block0 * s.IC + group) * s.IH * s.IW * kLanes;
          sum.x_image = s.IC * s.IH * s.IW * kLanes, sum.x_rows = s.IH, sum.x_cols = s.IW;
          sum.x_row = row0 * p.stride[0] - p.pads[0], sum.x_col = col0 * p.stride[1] - p.pads[2];
          sum.step = p.stride[0];
          sum.dw = partial + slice * weights + k * taps;
          sum.accumulate = item > first, sum.prefetch = far_planes;
          kernels.depthwise_weight_tile(sum);
          continue;
        }
        for (int64_t c0 = 0; c0 < s.IC_per_group; c0 += cut.C) {
          const int64_t C = std::min(cut.C, s.IC_per_group - c0);
          const int64_t x_image = s.IC * s.IH * s.IW * kLanes,
                        copy = C * in_rows * in_cols * kLanes;
          Window window{};
          for (int64_t i = images - 1; i >= 0; --i)  // the last one taken is the first image
            window = take_window(
                x + (block0 + i) * x_image + (group * s.IC_per_group + c0) * s.IH * s.IW * kLanes,
                C, s.IH, s.IW, row0 * p.stride[0] - p.pads[0], col0 * p.stride[1] - p.pads[2],
                in_rows, in_cols, scratch.data() + i * copy);
          int64_t* offset = b_j.data();
          for (int64_t c = 0; c < C; ++c)
            for (int64_t r = 0; r < s.KH; ++r)
              for (int64_t t = 0; t < s.KW; ++t)
                *offset++ = c * window.channel + r * p.dilation[0] * window.row +
                            t * p.dilation[1] * window.col;

          cpu::DotTile args{};
          args.K = K, args.J = C * taps;
          args.images = images, args.rows = rows, args.cols = cols;
          args.a = dy + dy_of(item) + k * s.OH * s.OW * kLanes;
          args.a_k = s.OH * s.OW * kLanes, args.a_image = s.OC * s.OH * s.OW * kLanes;
          args.a_row = s.OW * kLanes, args.a_col = kLanes;
          args.b = window.data;
          args.b_image = window.data == scratch.data() ? copy : x_image;
          args.b_row = p.stride[0] * window.row, args.b_col = p.stride[1] * window.col;
          args.b_j = b_j.data();
          args.out = partial + slice * weights + k * J + c0 * taps;
          args.out_k = J, args.out_j = 1;
          args.a_prefetch = far && item + 1 < last ? dy_of(item + 1) - dy_of(item) : 0;
          args.accumulate = item > first;
          args.tail = kLanes;
          kernels.dot_tile(args);
        }
      }
    }
  });
  if (cut.slices > 1)
    parallel_ranges(weights, 1 << 14, [&](int64_t begin, int64_t end) {
      std::copy(partial + begin, partial + end, dw + begin);
      for (int64_t slice = 1; slice < cut.slices; ++slice) {
        const float* part = partial + slice * weights;
        for (int64_t i = begin; i < end; ++i) dw[i] += part[i];
      }
    });
}

}  // namespace fastconv
