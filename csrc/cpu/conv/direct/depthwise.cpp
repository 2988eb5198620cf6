#include "cpu/conv/direct/depthwise.h"

#include <algorithm>

#include "cpu/conv/direct/tiling.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

// Stores set the pace of depthwise convolutions: up to here they leave their outputs to L3.
constexpr int64_t kCachedFloats = 2 * kStreamedFloats;

// The axes as the kernel takes them; none where it does not.
std::vector<DepthwiseAxis> kernel_axes(const std::vector<CorrelationAxis>& axes) {
  std::vector<DepthwiseAxis> found;
  for (const CorrelationAxis& axis : axes) {
    const auto taps = static_cast<int64_t>(axis.taps.size());
    if (taps < axis.x_step || axis.count == 0) return {};
    const int64_t w_step = taps > 1 ? axis.w_taps[1] - axis.w_taps[0] : 0;
    for (size_t t = 1; t < axis.taps.size(); ++t)
      if (axis.taps[t] != axis.taps[t - 1] + 1) return {};
    const int64_t first = axis.x_first + axis.taps[0];
    const bool meet = first + taps > 0 && first + (axis.count - 1) * axis.x_step < axis.x_size;
    const bool known = axis.x_step == 1   ? taps <= 3 || taps == 5
                       : axis.x_step == 2 ? taps == 3 || taps == 5
                                          : false;
    if (!meet || !known) return {};
    found.push_back({axis.count, axis.y_first, first, taps, axis.w_taps[0], w_step});
  }
  return found;
}

// The outputs from number `begin` on, at most `count` of each phase.
std::vector<DepthwiseAxis> some_of(const std::vector<DepthwiseAxis>& axes, int64_t begin,
                                   int64_t count, int64_t x_step, int64_t y_step) {
  std::vector<DepthwiseAxis> some;
  for (DepthwiseAxis axis : axes) {
    axis.count = std::min(axis.count - begin, count);
    axis.y_first += begin * y_step, axis.x_first += begin * x_step;
    if (axis.count > 0) some.push_back(axis);
  }
  return some;
}

}  // namespace

bool correlate_depthwise(float* y, const float* x, const float* w, const float* bias, bool relu,
                         int64_t blocks, const Correlation& job, int64_t min_tasks) {
  const CorrelationAxis &row_axis = job.rows.front(), &col_axis = job.cols.front();
  if (job.K != 1 || job.C != 1 || row_axis.x_step != col_axis.x_step ||
      row_axis.y_step != col_axis.y_step)
    return false;
  const std::vector<DepthwiseAxis> rows = kernel_axes(job.rows), cols = kernel_axes(job.cols);
  if (rows.empty() || cols.empty() || cols.size() > kDepthwisePhases) return false;
  DepthwiseTile whole{};
  whole.x_rows = row_axis.x_size, whole.x_cols = col_axis.x_size, whole.x_step = col_axis.x_step;
  whole.y_row = col_axis.y_size * kLanes, whole.y_step = col_axis.y_step;
  whole.y_plane = row_axis.y_size * whole.y_row;
  whole.w_plane = job.w_group;
  whole.relu = relu;
  whole.streaming = job.streaming && blocks * job.groups * whole.y_plane > kCachedFloats;
  const int64_t x_plane = whole.x_rows * whole.x_cols * kLanes;
  whole.prefetch = blocks * job.groups * x_plane > kFarFloats;

  const Tiling tiling = choose_tiling(job, blocks, min_tasks);
  const int64_t group_tiles = ceil_div(job.groups, tiling.groups);
  const int64_t row_tiles = ceil_div(row_axis.count, tiling.rows);
  const int64_t col_tiles = ceil_div(col_axis.count, tiling.cols);
  parallel_for(blocks * group_tiles * row_tiles * col_tiles, [&](int64_t task) {
    const int64_t col = task % col_tiles * tiling.cols;
    const int64_t row = task / col_tiles % row_tiles * tiling.rows;
    const int64_t group = task / (col_tiles * row_tiles) % group_tiles * tiling.groups;
    const int64_t plane = task / (col_tiles * row_tiles * group_tiles) * job.groups + group;
    const auto own_rows = some_of(rows, row, tiling.rows, whole.x_step, whole.y_step);
    const auto own_cols = some_of(cols, col, tiling.cols, whole.x_step, whole.y_step);
    DepthwiseTile args = whole;
    args.planes = std::min(tiling.groups, job.groups - group);
    args.x = x + plane * x_plane, args.y = y + plane * args.y_plane;
    args.w = w + group * job.w_group, args.bias = bias ? bias + group : nullptr;
    args.rows = own_rows.data(), args.row_phases = static_cast<int64_t>(own_rows.size());
    args.cols = own_cols.data(), args.col_phases = static_cast<int64_t>(own_cols.size());
    cpu::kernels().depthwise_tile(args);
  });
  return true;
}

}  // namespace fastconv::cpu
