// A product of matrices, (OC, IC) by (IC, pixels), in the broadcast tile with sixteen pixels in a
// vector, straight from x to y. A map of 7 x 7 is three vectors and one pixel: few pixels over are
// sums of products along the channels (the dot tile), more of them a vector copied and
// padded with zeros.
#include "cpu/conv/small_batch/pointwise.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/shapes.h"
#include "cpu/conv/small_batch/task_channels.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

constexpr int64_t kMaxDots = 8;

// How pixels and output channels of a group are divided among tasks. The weights are read once for
// each panel of pixels, x once for each chunk of output channels.
struct Tiling {
  int64_t dots;           // pixels done by the dot tile
  int64_t panel, panels;  // vectors of a panel
  int64_t K, k_tasks;     // output channels of a task

  explicit Tiling(const Conv2dShape& s) {
    const int64_t pixels = s.OH * s.OW, C = s.IC_per_group, over = pixels % kLanes;
    // An output by dots takes C / 16 multiply-adds and about as long as 8 to add up its lanes.
    dots = over <= kMaxDots && over * (C + 8 * kLanes) <= kLanes * C ? over : 0;
    constexpr int64_t kPanel = 24;
    const int64_t vectors = ceil_div(pixels - dots, kLanes);
    panels = vectors <= kPanel ? 1 : 2 * ceil_div(vectors, 2 * kPanel);  // an even number
    panel = std::max<int64_t>(1, ceil_div(vectors, panels));
    panels = std::max<int64_t>(1, ceil_div(vectors, panel));
    K = channels_of_task(s.OC_per_group, panels * s.geometry.groups);
    k_tasks = ceil_div(s.OC_per_group, K);
  }
};

// Every pixel of x that a convolution with stride reads.
void gather(float* out, const float* x, const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  for_chunks(s.N * s.IC, s.OH * s.OW * 4, [&](int64_t begin, int64_t end) {
    float* to = out + begin * s.OH * s.OW;
    for (int64_t plane = begin; plane < end; ++plane)
      for (int64_t oh = 0; oh < s.OH; ++oh, to += s.OW) {
        const float* row = x + (plane * s.IH + oh * p.stride[0]) * s.IW;
        copy_strided(to, row, s.OW, p.stride[1]);
      }
  });
}

// A task's product of matrices: x of a group, w and y of its output channels.
struct Product {
  const float *x, *w, *bias;
  float* y;
  int64_t pixels, C, K;
  ChannelPostOps post;
};

// `cols` vectors of pixels from `first` on, of which `count` floats are pixels.
void multiply_vectors(const Product& p, int64_t first, int64_t cols, int64_t count) {
  BroadcastTile args{};
  args.groups = args.rows = args.taps = 1;
  args.K = p.K, args.C = p.C, args.cols = cols;
  args.x_col = args.y_col = kLanes;
  args.x_tap = args.w_tap = &kNoOffset;
  args.w = p.w, args.w_k = p.C, args.w_c = 1;
  args.y = p.y + first, args.y_k = p.pixels;
  args.bias = p.bias;
  const ChannelPostOps post = post_ops_from(p.post, 0, first);
  args.post_ops = &post;
  args.tail = static_cast<int>(count - (cols - 1) * kLanes);
  if (args.tail == kLanes) {
    args.x = p.x + first, args.x_c = p.pixels;
    cpu::kernels().broadcast_tile(args);
    return;
  }
  Scratch<float> copy(p.C * kLanes);  // reading past the last channel would leave the array
  for (int64_t c = 0; c < p.C; ++c) {
    float* end = std::copy_n(p.x + c * p.pixels + first, count, copy.data() + c * kLanes);
    std::fill(end, copy.data() + (c + 1) * kLanes, 0.0f);
  }
  args.x = copy.data(), args.x_c = kLanes;
  cpu::kernels().broadcast_tile(args);
}

// `count` pixels from `first` on.
void multiply_pixels(const Product& p, int64_t first, int64_t count) {
  Scratch<float> columns(count * p.C), sums(p.K * count);
  int64_t column[kMaxDots];
  for (int64_t j = 0; j < count; ++j) {
    column[j] = j * p.C;
    for (int64_t c = 0; c < p.C; ++c) columns.data()[j * p.C + c] = p.x[c * p.pixels + first + j];
  }
  DotTile args{};
  args.K = p.K, args.J = count, args.images = args.rows = 1;
  args.cols = ceil_div(p.C, kLanes);
  args.a = p.w, args.a_k = p.C, args.a_col = kLanes;
  args.b = columns.data(), args.b_col = kLanes, args.b_j = column;
  args.out = sums.data(), args.out_k = count, args.out_j = 1;
  args.tail = static_cast<int>(p.C - (args.cols - 1) * kLanes);
  cpu::kernels().dot_tile(args);
  for (int64_t k = 0; k < p.K; ++k)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t at = k * p.pixels + first + j;
      const float sum = sums.data()[k * count + j] + (p.bias ? p.bias[k] : 0.0f);
      p.y[at] = with_post_ops(sum, p.post, k, at);
    }
}

}  // namespace

void pointwise_small_batch(float* y, const float* x, const float* w, const float* bias,
                           const Conv2dShape& s, const ChannelPostOps& post) {
  const Geometry& p = s.geometry;
  const int64_t pixels = s.OH * s.OW, C = s.IC_per_group, groups = p.groups;
  const bool strided = pixels != s.IH * s.IW;
  Scratch<float> gathered(strided ? s.N * s.IC * pixels : 0);
  if (strided) {
    gather(gathered.data(), x, s);
    x = gathered.data();
  }
  const Tiling tiling(s);
  const int64_t in_vectors = pixels - tiling.dots;
  const int64_t macs = tiling.K * C * std::min(pixels, tiling.panel * kLanes);
  for_chunks(s.N * groups * tiling.k_tasks * tiling.panels, macs / 16,
             [&](int64_t begin, int64_t end) {
               for (int64_t task = begin; task < end; ++task) {
                 const int64_t first = task % tiling.panels * tiling.panel * kLanes;
                 const int64_t k_task = task / tiling.panels % tiling.k_tasks;
                 const int64_t group = task / (tiling.panels * tiling.k_tasks) % groups;
                 const int64_t n = task / (tiling.panels * tiling.k_tasks * groups);
                 const int64_t k = group * s.OC_per_group + k_task * tiling.K;
                 const int64_t at = (n * s.OC + k) * pixels;
                 const Product product{x + (n * s.IC + group * C) * pixels,
                                       w + k * C,
                                       bias ? bias + k : nullptr,
                                       y + at,
                                       pixels,
                                       C,
                                       std::min(tiling.K, s.OC_per_group - k_task * tiling.K),
                                       post_ops_from(post, k, at)};
                 const int64_t last = std::min(in_vectors, first + tiling.panel * kLanes);
                 const int64_t whole = (last - first) / kLanes, rest = (last - first) % kLanes;
                 if (whole > 0) multiply_vectors(product, first, whole, whole * kLanes);
                 if (rest > 0) multiply_vectors(product, first + whole * kLanes, 1, rest);
                 if (last == in_vectors && tiling.dots > 0)
                   multiply_pixels(product, in_vectors, tiling.dots);
               }
             });
}

}  // namespace fastconv::cpu
