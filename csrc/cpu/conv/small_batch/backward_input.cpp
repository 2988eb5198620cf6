// By input for a small batch: each phase of the stride is a convolution of dy forward, with
// stride 1 and the taps of the phase flipped by 180 degrees, so it runs where those run.
#include "cpu/conv/small_batch/backward.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/route.h"
#include "cpu/conv/small_batch/columns.h"
#include "cpu/conv/stride_phases.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// A phase of the stride as a convolution forward of dy with its taps, `dilation` apart, and zeros
// before and after.
struct PhaseAxis : StridePhase {
  int64_t dilation, before, after;
};

std::vector<PhaseAxis> phases_of(int64_t inputs, int64_t outputs, int64_t kernel, int64_t pad,
                                 int64_t stride, int64_t dilation) {
  std::vector<PhaseAxis> phases;
  for (const StridePhase& phase : stride_phases(inputs, kernel, pad, stride, dilation)) {
    PhaseAxis axis{phase, dilation / std::gcd(stride, dilation), 0, 0};
    if (!axis.taps.empty()) {
      const int64_t reach = (static_cast<int64_t>(axis.taps.size()) - 1) * axis.dilation;
      axis.before = axis.taps.front() * dilation / stride - (axis.first + pad) / stride;
      axis.after = axis.count + reach - outputs - axis.before;
    }
    phases.push_back(axis);
  }
  return phases;
}

std::vector<PhaseAxis> row_phases(const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  return phases_of(s.IH, s.OH, s.KH, p.pads[0], p.stride[0], p.dilation[0]);
}

std::vector<PhaseAxis> col_phases(const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  return phases_of(s.IW, s.OW, s.KW, p.pads[2], p.stride[1], p.dilation[1]);
}

// The taps of a phase of kernels [k][c], for some neighbouring c, to [c][k]. R and T: taps along
// the axes, or 0 where not known to the compiler.
struct PhaseTaps {
  int64_t first, row, col;  // in a kernel: of the first tap and from one to the next
  int64_t rows, cols;
};

template <int R, int T>
void transpose_kernels(float* to, const float* from, int64_t taps, int64_t C, int64_t K,
                       int64_t channels, const PhaseTaps& phase) {
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

// The weights of a phase with their taps flipped and the channels exchanged: [c][k][r][s] of each
// group.
void transpose_phase(float* transposed, const float* w, const Conv2dShape& s, const PhaseAxis& rows,
                     const PhaseAxis& cols) {
  const int64_t C = s.IC_per_group, K = s.OC_per_group, taps = s.KH * s.KW;
  if (taps == 1) return transpose_matrices(transposed, K, w, s.geometry.groups, K, C);
  const auto step = [](const PhaseAxis& axis) {
    return axis.taps.size() > 1 ? axis.taps[1] - axis.taps[0] : 0;
  };
  const PhaseTaps phase{rows.taps[0] * s.KW + cols.taps[0], step(rows) * s.KW, step(cols),
                        static_cast<int64_t>(rows.taps.size()),
                        static_cast<int64_t>(cols.taps.size())};
  const bool one = phase.rows == 1 && phase.cols == 1;
  const auto transpose = one                                  ? transpose_kernels<1, 1>
                         : phase.rows == 1 && phase.cols == 2 ? transpose_kernels<1, 2>
                         : phase.rows == 2 && phase.cols == 1 ? transpose_kernels<2, 1>
                         : phase.rows == 2 && phase.cols == 2 ? transpose_kernels<2, 2>
                         : phase.rows == 3 && phase.cols == 3 ? transpose_kernels<3, 3>
                         : phase.rows == 5 && phase.cols == 5 ? transpose_kernels<5, 5>
                                                              : transpose_kernels<0, 0>;
  const int64_t sixteens = ceil_div(C, kLanes);
  for_chunks(s.geometry.groups * sixteens, kLanes * K * taps, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / sixteens, c = i % sixteens * kLanes;
      const int64_t channels = std::min(C - c, kLanes);
      const float* from = w + (group * K * C + c) * taps;
      float* to = transposed + (group * C + c) * K * phase.rows * phase.cols;
      transpose(to, from, taps, C, K, channels, phase);
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
           s.geometry.groups}};
}

// dx at the rows of a phase, from the phases of its columns, each [plane][row][col].
void interleave(float* dx, const std::vector<const float*>& phases, const Conv2dShape& s,
                const PhaseAxis& rows, const std::vector<PhaseAxis>& cols) {
  const int64_t step = s.geometry.stride[1];
  for_chunks(s.N * s.IC, rows.count * s.IW * 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * rows.count; i < end * rows.count; ++i) {
      const int64_t row = rows.first + i % rows.count * s.geometry.stride[0];
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

// dx from the transposed weights of all phases.
void input_gradient(float* dx, const float* dy, const std::vector<const float*>& transposed,
                    const float* bias, const Conv2dShape& s) {
  const bool whole = s.geometry.stride[0] == 1 && s.geometry.stride[1] == 1;
  const std::vector<PhaseAxis> row_axes = row_phases(s), col_axes = col_phases(s);
  auto w = transposed.begin();
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
        convolve_small_batch(y, dy, *w, bias, forward_of(s, rows, cols),
                             post_ops_of(Activation::none));
      }
      y += s.N * s.IC * plane;
      ++w;
    }
    if (!whole) interleave(dx, phases, s, rows, col_axes);
  }
}

}  // namespace

// Whether dx is quicker from columns (ops/columns_small_batch.h). They take each product that the
// formula has and then some work for each of their floats, but do not turn weights, which costs the
// more the fewer pixels use them.
bool columns_small_batch_pay(const Conv2dShape& s) {
  const int64_t taps = s.KH * s.KW, pixels = s.OH * s.OW;
  if (s.IC_per_group % kLanes != 0 || taps == 1) return false;
  if (s.geometry.stride[0] == 1 && s.geometry.stride[1] == 1) {
    const Conv2dShape forward = forward_of(s, row_phases(s)[0], col_phases(s)[0]);
    constexpr double kAdded = 2.5, kTransposed = 2.2;  // cycles, of a float of columns and of w
    const double floats = double(s.N * pixels * taps * s.IC);
    if (winograd_small_batch_pays(forward))
      return floats * (1.05 * double(s.OC) / double(kLanes) + kAdded) <
             winograd_small_batch_cycles(forward) + kTransposed * double(s.w().numel());
    constexpr int64_t kManyOutputs = 128;  // with one phase there is less to gain
    if (s.OC_per_group < kManyOutputs) return false;
  }
  return pixels <= 4 * s.OC_per_group;
}

bool has_backward_input_small_batch(const Conv2dShape& s) {
  const auto fits = [](const PhaseAxis& axis) {
    return axis.taps.empty() || (axis.before >= 0 && axis.after >= 0);
  };
  const auto rows = row_phases(s), cols = col_phases(s);
  return std::all_of(rows.begin(), rows.end(), fits) && std::all_of(cols.begin(), cols.end(), fits);
}

void backward_input_small_batch(float* dx, const float* dy, const float* w, const float* bias,
                                const Conv2dShape& s) {
  Scratch<float> all_transposed(s.w().numel());
  std::vector<const float*> transposed;  // of each phase; null where no tap reaches it
  std::vector<int64_t> of_group;         // floats
  float* to = all_transposed.data();
  for (const PhaseAxis& rows : row_phases(s))
    for (const PhaseAxis& cols : col_phases(s)) {
      const auto taps = static_cast<int64_t>(rows.taps.size() * cols.taps.size());
      transposed.push_back(taps > 0 ? to : nullptr);
      of_group.push_back(s.IC_per_group * s.OC_per_group * taps);
      if (taps > 0) transpose_phase(to, w, s, rows, cols);
      to += s.geometry.groups * of_group.back();
    }
  // Many groups: some at a time, which stay in a cache until their phases are put together.
  constexpr int64_t kManyGroups = 16, kCachedFloats = 32 * 1024;
  const int64_t groups = s.geometry.groups, group_floats = s.IC_per_group * s.IH * s.IW;
  if (groups < kManyGroups) return input_gradient(dx, dy, transposed, bias, s);
  const int64_t together =
      std::clamp<int64_t>(kCachedFloats / group_floats, 1, ceil_div(groups, kManyGroups));
  const int64_t tasks = ceil_div(groups, together);
  parallel_for(s.N * tasks, [&](int64_t task) {
    const int64_t n = task / tasks, group = task % tasks * together;
    const int64_t count = std::min(together, groups - group);
    Conv2dShape part = s;
    part.N = 1, part.geometry.groups = count;
    part.IC = count * s.IC_per_group, part.OC = count * s.OC_per_group;
    std::vector<const float*> own = transposed;
    for (size_t i = 0; i < own.size(); ++i)
      if (own[i]) own[i] += group * of_group[i];
    const int64_t channel = group * s.IC_per_group;
    input_gradient(dx + n * s.IC * s.IH * s.IW + group * group_floats,
                   dy + (n * s.OC + group * s.OC_per_group) * s.OH * s.OW, own,
                   bias ? bias + channel : nullptr, part);
  });
}

}  // namespace fastconv::cpu
