// A product of matrices, (OC, IC) by (IC, pixels), in the broadcast tile with sixteen pixels in a
// vector, straight from x to y. A map of 7 x 7 is three vectors and one pixel: few pixels over are
// sums of products along the channels (the dot tile), more of them a vector copied with zeros
// behind.
#include "cpu/conv/small_batch/pointwise.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv {
namespace {

constexpr int64_t kMaxDots = 8;

// How pixels and output channels of a group are cut into tasks.
struct Cut {
  int64_t dots;           // pixels done by the dot tile
  int64_t panel, panels;  // vectors of a task
  int64_t K, k_cuts;      // output channels of a task
};

Cut choose_cut(const Conv2dShape& s) {
  Cut cut{};
  const int64_t pixels = s.OH * s.OW, C = s.IC_per_group, over = pixels % kLanes;
  // An output by dots takes C / 16 multiply-adds and about as long as 8 to add up its lanes.
  if (over <= kMaxDots && over * (C + 8 * kLanes) <= kLanes * C) cut.dots = over;
  // Even numbers of tasks; the weights are read once for each panel, x once for each cut of K.
  constexpr int64_t kPanel = 24, kMinK = 16, kTasks = 16;
  const int64_t vectors = ceil_div(pixels - cut.dots, kLanes);
  cut.panels = vectors <= kPanel ? 1 : 2 * ceil_div(vectors, 2 * kPanel);
  cut.panel = std::max<int64_t>(1, ceil_div(vectors, cut.panels));
  cut.panels = std::max<int64_t>(1, ceil_div(vectors, cut.panel));
  cut.k_cuts = 1;
  const int64_t tasks = cut.panels * s.params.groups;
  while (2 * cut.k_cuts * tasks <= kTasks && 2 * cut.k_cuts * kMinK <= s.OC_per_group)
    cut.k_cuts *= 2;
  cut.K = ceil_div(s.OC_per_group, cut.k_cuts);
  cut.k_cuts = ceil_div(s.OC_per_group, cut.K);
  return cut;
}

// Every pixel of x that a convolution with stride reads.
void gather(float* out, const float* x, const Conv2dShape& s) {
  const Geometry& p = s.params;
  for_shares(s.N * s.IC, s.OH * s.OW * 4, [&](int64_t begin, int64_t end) {
    float* to = out + begin * s.OH * s.OW;
    for (int64_t plane = begin; plane < end; ++plane)
      for (int64_t oh = 0; oh < s.OH; ++oh, to += s.OW) {
        const float* row = x + (plane * s.IH + oh * p.stride[0]) * s.IW;
        copy_strided(to, row, s.OW, p.stride[1]);
      }
  });
}

// A task's operands: x of a group, w and y of its output channels.
struct Part {
  const float *x, *w, *bias;
  float* y;
  int64_t pixels, C, K;
  cpu::ChannelPostOps finish;
};

// `cols` vectors of pixels from `first` on, of which `count` floats are pixels.
void sweep_pixels(const Part& part, int64_t first, int64_t cols, int64_t count) {
  const int64_t origin = 0;
  cpu::BroadcastTile args{};
  args.groups = args.rows = args.taps = 1;
  args.K = part.K, args.C = part.C, args.cols = cols;
  args.x_col = args.y_col = kLanes;
  args.x_tap = args.w_tap = &origin;
  args.w = part.w, args.w_k = part.C, args.w_c = 1;
  args.y = part.y + first, args.y_k = part.pixels;
  args.bias = part.bias;
  const cpu::ChannelPostOps finish = finish_from(part.finish, 0, first);
  args.finish = &finish;
  args.tail = static_cast<int>(count - (cols - 1) * kLanes);
  if (args.tail == kLanes) {
    args.x = part.x + first, args.x_c = part.pixels;
    cpu::kernels().broadcast_tile(args);
    return;
  }
  Scratch<float> copy(part.C * kLanes);  // what lies behind the last channel is not ours to read
  for (int64_t c = 0; c < part.C; ++c) {
    float* end = std::copy_n(part.x + c * part.pixels + first, count, copy.data() + c * kLanes);
    std::fill(end, copy.data() + (c + 1) * kLanes, 0.0f);
  }
  args.x = copy.data(), args.x_c = kLanes;
  cpu::kernels().broadcast_tile(args);
}

// `count` pixels from `first` on.
void dot_pixels(const Part& part, int64_t first, int64_t count) {
  Scratch<float> columns(count * part.C), sums(part.K * count);
  int64_t column[kMaxDots];
  for (int64_t j = 0; j < count; ++j) {
    column[j] = j * part.C;
    for (int64_t c = 0; c < part.C; ++c)
      columns.data()[j * part.C + c] = part.x[c * part.pixels + first + j];
  }
  cpu::DotTile args{};
  args.K = part.K, args.J = count, args.images = args.rows = 1;
  args.cols = ceil_div(part.C, kLanes);
  args.a = part.w, args.a_k = part.C, args.a_col = kLanes;
  args.b = columns.data(), args.b_col = kLanes, args.b_j = column;
  args.out = sums.data(), args.out_k = count, args.out_j = 1;
  args.tail = static_cast<int>(part.C - (args.cols - 1) * kLanes);
  cpu::kernels().dot_tile(args);
  for (int64_t k = 0; k < part.K; ++k)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t at = k * part.pixels + first + j;
      const float sum = sums.data()[k * count + j] + (part.bias ? part.bias[k] : 0.0f);
      part.y[at] = finished(sum, part.finish, k, at);
    }
}

}  // namespace

bool is_pointwise(const Conv2dShape& s) {
  return s.KH == 1 && s.KW == 1 && s.params.pads == std::array<int64_t, 4>{0, 0, 0, 0};
}

void pointwise_few(float* y, const float* x, const float* w, const float* bias,
                   const Conv2dShape& s, const cpu::ChannelPostOps& finish) {
  const Geometry& p = s.params;
  const int64_t pixels = s.OH * s.OW, C = s.IC_per_group, groups = p.groups;
  const bool strided = pixels != s.IH * s.IW;
  Scratch<float> gathered(strided ? s.N * s.IC * pixels : 0);
  if (strided) {
    gather(gathered.data(), x, s);
    x = gathered.data();
  }
  const Cut cut = choose_cut(s);
  const int64_t swept = pixels - cut.dots;
  const int64_t macs = cut.K * C * std::min(pixels, cut.panel * kLanes);
  for_shares(s.N * groups * cut.k_cuts * cut.panels, macs / 16, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % cut.panels * cut.panel * kLanes;
      const int64_t k_cut = task / cut.panels % cut.k_cuts;
      const int64_t group = task / (cut.panels * cut.k_cuts) % groups;
      const int64_t n = task / (cut.panels * cut.k_cuts * groups);
      const int64_t k = group * s.OC_per_group + k_cut * cut.K;
      const int64_t at = (n * s.OC + k) * pixels;
      const Part part{x + (n * s.IC + group * C) * pixels,
                      w + k * C,
                      bias ? bias + k : nullptr,
                      y + at,
                      pixels,
                      C,
                      std::min(cut.K, s.OC_per_group - k_cut * cut.K),
                      finish_from(finish, k, at)};
      const int64_t last = std::min(swept, first + cut.panel * kLanes);
      const int64_t whole = (last - first) / kLanes, rest = (last - first) % kLanes;
      if (whole > 0) sweep_pixels(part, first, whole, whole * kLanes);
      if (rest > 0) sweep_pixels(part, first + whole * kLanes, 1, rest);
      if (last == swept && cut.dots > 0) dot_pixels(part, swept, cut.dots);
    }
  });
}

}  // namespace fastconv
