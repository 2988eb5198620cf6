// By input, each phase of the stride is a convolution of dy forward, with stride 1 and the taps of
// the phase turned by 180 degrees, so it runs where those run; or dx is added up from columns. By
// weight, for few channels, the dot tile sums over neighbouring pixels: dy and the window of x it
// meets are laid out flat, both with rows of `width`, and dy is zero between its rows.
#include "cpu/conv/small_batch/backward.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/small_batch/columns.h"
#include "cpu/conv/small_batch/forward.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {
namespace {

// The inputs first, first + stride, ... of one axis and the taps that reach them: a convolution
// forward of dy with `taps` (turned), `dilation` apart, and zeros before and after.
struct PhaseAxis {
  int64_t first, count, dilation, before, after;
  std::vector<int64_t> taps;
};

std::vector<PhaseAxis> phases_of(int64_t inputs, int64_t outputs, int64_t kernel, int64_t pad,
                                 int64_t stride, int64_t dilation) {
  std::vector<PhaseAxis> phases;
  for (int64_t first = 0; first < std::min(stride, inputs); ++first) {
    PhaseAxis axis{
        first, (inputs - 1 - first) / stride + 1, dilation / std::gcd(stride, dilation), 0, 0, {}};
    for (int64_t r = kernel - 1; r >= 0; --r)
      if (r * dilation % stride == (first + pad) % stride) axis.taps.push_back(r);
    if (!axis.taps.empty()) {
      const int64_t reach = (static_cast<int64_t>(axis.taps.size()) - 1) * axis.dilation;
      axis.before = axis.taps.front() * dilation / stride - (first + pad) / stride;
      axis.after = axis.count + reach - outputs - axis.before;
    }
    phases.push_back(axis);
  }
  return phases;
}

std::vector<PhaseAxis> row_phases(const Conv2dShape& s) {
  const Geometry& p = s.params;
  return phases_of(s.IH, s.OH, s.KH, p.pads[0], p.stride[0], p.dilation[0]);
}

std::vector<PhaseAxis> col_phases(const Conv2dShape& s) {
  const Geometry& p = s.params;
  return phases_of(s.IW, s.OW, s.KW, p.pads[2], p.stride[1], p.dilation[1]);
}

// The taps of a phase of kernels [k][c], for some neighbouring c, to [c][k]. R and T: taps along
// the axes, or 0 where not known to the compiler.
struct TurnedTaps {
  int64_t first, row, col;  // in a kernel: of the first tap and from one to the next
  int64_t rows, cols;
};

template <int R, int T>
void turn_kernels(float* to, const float* from, int64_t taps, int64_t C, int64_t K,
                  int64_t channels, const TurnedTaps& phase) {
  const int64_t rows = R > 0 ? R : phase.rows, cols = T > 0 ? T : phase.cols;
  const int64_t row = phase.row, col = phase.col;
  for (int64_t k = 0; k < K; ++k, from += C * taps)
    for (int64_t c = 0; c < channels; ++c) {
      const float* in = from + c * taps + phase.first;
      float* out = to + (c * K + k) * rows * cols;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t t = 0; t < cols; ++t) out[r * cols + t] = in[r * row + t * col];
    }
}

// The weights of a phase with the channels exchanged: turned[c][k][r][s] of each group.
void turn(float* turned, const float* w, const Conv2dShape& s, const PhaseAxis& rows,
          const PhaseAxis& cols) {
  const int64_t C = s.IC_per_group, K = s.OC_per_group, taps = s.KH * s.KW;
  if (taps == 1) return transpose_matrices(turned, K, w, s.params.groups, K, C);
  const auto step = [](const PhaseAxis& axis) {
    return axis.taps.size() > 1 ? axis.taps[1] - axis.taps[0] : 0;
  };
  const TurnedTaps phase{rows.taps[0] * s.KW + cols.taps[0], step(rows) * s.KW, step(cols),
                         static_cast<int64_t>(rows.taps.size()),
                         static_cast<int64_t>(cols.taps.size())};
  const bool one = phase.rows == 1 && phase.cols == 1;
  const auto kernels_turned = one                                  ? turn_kernels<1, 1>
                              : phase.rows == 1 && phase.cols == 2 ? turn_kernels<1, 2>
                              : phase.rows == 2 && phase.cols == 1 ? turn_kernels<2, 1>
                              : phase.rows == 2 && phase.cols == 2 ? turn_kernels<2, 2>
                              : phase.rows == 3 && phase.cols == 3 ? turn_kernels<3, 3>
                              : phase.rows == 5 && phase.cols == 5 ? turn_kernels<5, 5>
                                                                   : turn_kernels<0, 0>;
  const int64_t sixteens = ceil_div(C, kLanes);
  for_shares(s.params.groups * sixteens, kLanes * K * taps, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / sixteens, c = i % sixteens * kLanes;
      const int64_t channels = std::min(C - c, kLanes);
      const float* from = w + (group * K * C + c) * taps;
      float* to = turned + (group * C + c) * K * phase.rows * phase.cols;
      kernels_turned(to, from, taps, C, K, channels, phase);
    }
  });
}

// The convolution of dy that a phase is.
Conv2dShape forward_of(const Conv2dShape& s, const PhaseAxis& rows, const PhaseAxis& cols) {
  return {s.N,
          s.OC,
          s.OH,
          s.OW,
          s.IC,
          static_cast<int64_t>(rows.taps.size()),
          static_cast<int64_t>(cols.taps.size()),
          rows.count,
          cols.count,
          s.OC_per_group,
          s.IC_per_group,
          {{1, 1},
           {rows.before, rows.after, cols.before, cols.after},
           {rows.dilation, cols.dilation},
           s.params.groups}};
}

// Whether dx is quicker from columns (ops/columns_few.h). They take each product that the formula
// has and then some work for each of their floats, but do not turn weights, which costs the more
// the fewer pixels use them.
bool columns_pay(const Conv2dShape& s) {
  const int64_t taps = s.KH * s.KW, pixels = s.OH * s.OW;
  if (s.IC_per_group % kLanes != 0 || taps == 1) return false;
  if (s.params.stride[0] == 1 && s.params.stride[1] == 1) {
    const Conv2dShape forward = forward_of(s, row_phases(s)[0], col_phases(s)[0]);
    constexpr double kAdded = 2.5, kTurned = 2.2;  // cycles, of a float of columns and of w
    const double floats = double(s.N * pixels * taps * s.IC);
    if (winograd_small_batch_pays(forward))
      return floats * (1.05 * double(s.OC) / double(kLanes) + kAdded) <
             winograd_small_batch_cycles(forward) + kTurned * double(s.w().numel());
    constexpr int64_t kManyOutputs = 128;  // with one phase there is less to gain
    if (s.OC_per_group < kManyOutputs) return false;
  }
  return pixels <= 4 * s.OC_per_group;
}

// dx at the rows of a phase, from the phases of its columns, each [plane][row][col].
void spread(float* dx, const std::vector<const float*>& phases, const Conv2dShape& s,
            const PhaseAxis& rows, const std::vector<PhaseAxis>& cols) {
  const int64_t step = s.params.stride[1];
  for_shares(s.N * s.IC, rows.count * s.IW * 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * rows.count; i < end * rows.count; ++i) {
      const int64_t row = rows.first + i % rows.count * s.params.stride[0];
      float* to = dx + (i / rows.count * s.IH + row) * s.IW;
      const int64_t whole = s.IW / step;
      if (step == 2 && s.IW > 1) {  // known to the compiler: it interleaves whole vectors
        const float *even = phases[0] + i * cols[0].count, *odd = phases[1] + i * cols[1].count;
        for (int64_t c = 0; c < whole; ++c) to[2 * c] = even[c], to[2 * c + 1] = odd[c];
        if (s.IW % 2 == 1) to[s.IW - 1] = even[whole];
        continue;
      }
      for (size_t b = 0; b < cols.size(); ++b) {
        const float* from = phases[b] + i * cols[b].count;
        for (int64_t c = 0; c < cols[b].count; ++c) to[cols[b].first + c * step] = from[c];
      }
    }
  });
}

// dx from the turned weights of all phases.
void input_gradient(float* dx, const float* dy, const std::vector<const float*>& turned,
                    const float* bias, const Conv2dShape& s) {
  const bool whole = s.params.stride[0] == 1 && s.params.stride[1] == 1;
  const std::vector<PhaseAxis> row_axes = row_phases(s), col_axes = col_phases(s);
  auto w = turned.begin();
  for (const PhaseAxis& rows : row_axes) {
    Scratch<float> sums(whole ? 1 : s.N * s.IC * rows.count * s.IW);
    float* y = whole ? dx : sums.data();
    std::vector<const float*> phases;
    for (const PhaseAxis& cols : col_axes) {
      const int64_t plane = rows.count * cols.count;
      phases.push_back(y);
      if (*w == nullptr) {
        for (int64_t i = 0; i < s.N * s.IC; ++i)
          std::fill_n(y + i * plane, plane, bias ? bias[i % s.IC] : 0.0f);
      } else {
        conv2d_forward_small_batch(y, dy, *w, bias, forward_of(s, rows, cols), finish_relu(false));
      }
      y += s.N * s.IC * plane;
      ++w;
    }
    if (!whole) spread(dx, phases, s, rows, col_axes);
  }
}

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
  const int64_t groups = s.params.groups;
  cut.groups = ceil_div(groups, std::min(groups, ceil_div(kTasks, cut.slices)));
  const int64_t tasks = cut.slices * ceil_div(groups, cut.groups);
  cut.K = ceil_div(s.OC_per_group,
                   std::clamp<int64_t>(ceil_div(kTasks, tasks), 1, ceil_div(s.OC_per_group, 12)));
  return cut;
}

}  // namespace

bool has_backward_input_small_batch(const Conv2dShape& s) {
  const auto fits = [](const PhaseAxis& axis) {
    return axis.taps.empty() || (axis.before >= 0 && axis.after >= 0);
  };
  const auto rows = row_phases(s), cols = col_phases(s);
  return std::all_of(rows.begin(), rows.end(), fits) && std::all_of(cols.begin(), cols.end(), fits);
}

void conv2d_backward_input_small_batch(float* dx, const float* dy, const float* w,
                                       const float* bias, const Conv2dShape& s) {
  if (columns_pay(s)) return columns_few(dx, dy, w, bias, s);
  Scratch<float> all_turned(s.w().numel());
  std::vector<const float*> turned;  // of each phase; null where no tap reaches it
  std::vector<int64_t> of_group;     // floats
  float* to = all_turned.data();
  for (const PhaseAxis& rows : row_phases(s))
    for (const PhaseAxis& cols : col_phases(s)) {
      const auto taps = static_cast<int64_t>(rows.taps.size() * cols.taps.size());
      turned.push_back(taps > 0 ? to : nullptr);
      of_group.push_back(s.IC_per_group * s.OC_per_group * taps);
      if (taps > 0) turn(to, w, s, rows, cols);
      to += s.params.groups * of_group.back();
    }
  // Many groups: some at a time, which stay in a cache until their phases are put together.
  constexpr int64_t kManyGroups = 16, kCachedFloats = 32 * 1024;
  const int64_t groups = s.params.groups, group_floats = s.IC_per_group * s.IH * s.IW;
  if (groups < kManyGroups) return input_gradient(dx, dy, turned, bias, s);
  const int64_t together =
      std::clamp<int64_t>(kCachedFloats / group_floats, 1, ceil_div(groups, kManyGroups));
  const int64_t cuts = ceil_div(groups, together);
  parallel_for(s.N * cuts, [&](int64_t task) {
    const int64_t n = task / cuts, group = task % cuts * together;
    const int64_t count = std::min(together, groups - group);
    Conv2dShape part = s;
    part.N = 1, part.params.groups = count;
    part.IC = count * s.IC_per_group, part.OC = count * s.OC_per_group;
    std::vector<const float*> own = turned;
    for (size_t i = 0; i < own.size(); ++i)
      if (own[i]) own[i] += group * of_group[i];
    const int64_t channel = group * s.IC_per_group;
    input_gradient(dx + n * s.IC * s.IH * s.IW + group * group_floats,
                   dy + (n * s.OC + group * s.OC_per_group) * s.OH * s.OW, own,
                   bias ? bias + channel : nullptr, part);
  });
}

void conv2d_backward_weight_small_batch(float* dw, const float* dy, const float* x,
                                        const Conv2dShape& s) {
  const int64_t C = s.IC_per_group, taps = s.KH * s.KW, J = C * taps, weights = s.w().numel();
  SmallBatchWindow window(s);
  const Cut cut = choose_cut(s, window.width);
  window.set_rows(cut.band);
  const int64_t items = s.N * cut.bands, x_plane = s.IH * s.IW, y_plane = s.OH * s.OW;
  const int64_t groups = s.params.groups, group_cuts = ceil_div(groups, cut.groups);
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
        cpu::DotTile args{};
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

}  // namespace fastconv
