// By input, each phase of the stride is a convolution of dy forward, with stride 1 and the taps of
// the phase turned by 180 degrees, so it runs where those run. By weight, the dot tile sums over
// neighbouring pixels: dy and the window of x it meets are laid out flat, both with rows of
// `width`, and dy is zero between its rows.
#include "ops/conv2d_few_backward.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/scratch.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/conv2d_few.h"
#include "ops/few_window.h"
#include "ops/finish.h"

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
  const Conv2dParams& p = s.params;
  return phases_of(s.IH, s.OH, s.KH, p.pads[0], p.stride[0], p.dilation[0]);
}

std::vector<PhaseAxis> col_phases(const Conv2dShape& s) {
  const Conv2dParams& p = s.params;
  return phases_of(s.IW, s.OW, s.KW, p.pads[2], p.stride[1], p.dilation[1]);
}

// The weights of a phase with the channels exchanged: turned[c][k][r][s] of each group.
void turn(float* turned, const float* w, const Conv2dShape& s, const PhaseAxis& rows,
          const PhaseAxis& cols) {
  const int64_t C = s.IC_per_group, K = s.OC_per_group, taps = s.KH * s.KW;
  const auto R = static_cast<int64_t>(rows.taps.size()), T = static_cast<int64_t>(cols.taps.size());
  constexpr int64_t kTogether = 16;  // channels whose weights share a cache line or two
  parallel_ranges(s.params.groups * C, ceil_div(int64_t{1} << 14, K * taps),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t at = begin; at < end; at += kTogether)
                      for (int64_t k = 0; k < K; ++k)
                        for (int64_t c = at; c < std::min(end, at + kTogether); ++c) {
                          const float* from = w + ((c / C * K + k) * C + c % C) * taps;
                          float* to = turned + (c * K + k) * R * T;
                          if (taps == 1) {
                            *to = *from;
                            continue;
                          }
                          for (const int64_t r : rows.taps)
                            for (const int64_t t : cols.taps) *to++ = from[r * s.KW + t];
                        }
                  });
}

// dx at the pixels of a phase.
void spread(float* dx, const float* phase, const Conv2dShape& s, const PhaseAxis& rows,
            const PhaseAxis& cols) {
  const int64_t plane = rows.count * cols.count;
  parallel_ranges(s.N * s.IC, ceil_div(int64_t{1} << 14, plane), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t r = 0; r < rows.count; ++r) {
        const float* from = phase + i * plane + r * cols.count;
        float* to = dx + (i * s.IH + rows.first + r * s.params.stride[0]) * s.IW + cols.first;
        for (int64_t c = 0; c < cols.count; ++c) to[c * s.params.stride[1]] = from[c];
      }
  });
}

// How the sum over samples and bands of rows is cut: see WeightCut in conv2d.cpp.
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

bool has_backward_input_few(const Conv2dShape& s) {
  const auto fits = [](const PhaseAxis& axis) {
    return axis.taps.empty() || (axis.before >= 0 && axis.after >= 0);
  };
  const auto rows = row_phases(s), cols = col_phases(s);
  return std::all_of(rows.begin(), rows.end(), fits) && std::all_of(cols.begin(), cols.end(), fits);
}

void conv2d_backward_input_few(float* dx, const float* dy, const float* w, const float* bias,
                               const Conv2dShape& s) {
  const bool whole = s.params.stride[0] == 1 && s.params.stride[1] == 1;
  Scratch<float> turned(s.w().numel());
  for (const PhaseAxis& rows : row_phases(s))
    for (const PhaseAxis& cols : col_phases(s)) {
      Scratch<float> phase(whole ? 1 : s.N * s.IC * rows.count * cols.count);
      float* y = whole ? dx : phase.data();
      if (rows.taps.empty() || cols.taps.empty()) {
        for (int64_t i = 0; i < s.N * s.IC; ++i)
          std::fill_n(y + i * rows.count * cols.count, rows.count * cols.count,
                      bias ? bias[i % s.IC] : 0.0f);
      } else {
        turn(turned.data(), w, s, rows, cols);
        Conv2dShape forward{s.N,
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
                            {}};
        forward.params = {{1, 1},
                          {rows.before, rows.after, cols.before, cols.after},
                          {rows.dilation, cols.dilation},
                          s.params.groups};
        conv2d_forward_few(y, dy, turned.data(), bias, forward, finish_relu(false));
      }
      if (!whole) spread(dx, y, s, rows, cols);
    }
}

void conv2d_backward_weight_few(float* dw, const float* dy, const float* x, const Conv2dShape& s) {
  const int64_t C = s.IC_per_group, taps = s.KH * s.KW, J = C * taps, weights = s.w().numel();
  FewWindow window(s);
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
        cpu::DotSweep sweep{};
        sweep.K = K, sweep.J = J;
        sweep.images = sweep.rows = 1, sweep.cols = ceil_div(pixels, kLanes);
        sweep.a = gapless ? dy_rows : dy_flat.data();
        sweep.a_k = gapless ? y_plane : flat, sweep.a_col = kLanes;
        sweep.b = x_flat.data(), sweep.b_col = kLanes;
        sweep.b_j = offsets.data();
        sweep.out = sums + (cut.slices > 1 ? slice * weights : 0) + k * J;
        sweep.out_k = J, sweep.out_j = 1;
        sweep.accumulate = item > first;
        sweep.tail = static_cast<int>(pixels - (sweep.cols - 1) * kLanes);
        cpu::kernels().dot_sweep(sweep);
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
