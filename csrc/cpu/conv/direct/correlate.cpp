#include "cpu/conv/direct/correlate.h"

#include <algorithm>

#include "cpu/conv/direct/depthwise.h"
#include "cpu/conv/direct/runs.h"
#include "cpu/conv/direct/tiling.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// Runs of fewer columns, as beside the edges, would leave a tile too few sums for their latency.
constexpr int64_t kNarrow = 4;

// A 1x1 convolution that reads each pixel where it writes it knows no rows: all pixels are one row.
Correlation flattened(Correlation job) {
  CorrelationAxis &rows = job.rows.front(), &cols = job.cols.front();
  const auto in_place = [](const CorrelationAxis& axis) {
    return axis.taps.size() == 1 && axis.taps[0] == 0 && axis.x_first == 0 && axis.y_first == 0 &&
           axis.x_step == 1 && axis.y_step == 1 && axis.x_size == axis.count &&
           axis.y_size == axis.count;
  };
  if (job.rows.size() != 1 || job.cols.size() != 1 || !in_place(rows) || !in_place(cols))
    return job;
  cols.count = cols.x_size = cols.y_size = rows.count * cols.count;
  rows.count = rows.x_size = rows.y_size = 1;
  return job;
}

std::vector<std::vector<Run>> runs_of_phases(const std::vector<CorrelationAxis>& axes) {
  std::vector<std::vector<Run>> runs;
  for (const CorrelationAxis& axis : axes)
    runs.push_back(runs_of(
        axis.count, static_cast<int64_t>(axis.taps.size()), [&axis](int64_t i, int64_t tap) {
          const int64_t at = axis.x_first + i * axis.x_step + axis.taps[static_cast<size_t>(tap)];
          return at >= 0 && at < axis.x_size;
        }));
  return runs;
}

// One axis of what a call of the broadcast tile computes: outputs of a run.
struct RunOfPhase {
  RunOfPhase(const CorrelationAxis& phase, const Run& run, const Overlap& outputs)
      : axis(phase),
        taps(run.taps.count()),
        tap(phase.taps.data() + run.taps.first),
        w_tap(phase.w_taps.data() + run.taps.first),
        y(phase.y_first + outputs.begin * phase.y_step),
        x(phase.x_first + outputs.begin * phase.x_step + (taps > 0 ? tap[0] : 0)),
        count(outputs.count) {}

  int64_t reach() const { return tap[taps - 1] - tap[0]; }

  const CorrelationAxis& axis;
  int64_t taps;
  const int64_t *tap, *w_tap;
  int64_t y, x, count;  // the first output, what its first tap reads, and how many outputs
};

// The broadcast tile over all runs of all phases.
class Broadcast {
 public:
  Broadcast(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
            const Correlation& job, int64_t min_tasks)
      : y_(y),
        x_(x),
        w_(w),
        bias_(bias),
        relu_(relu),
        blocks_(blocks),
        job_(job),
        tiling_(choose_tiling(job, blocks, min_tasks)),
        row_runs_(runs_of_phases(job.rows)),
        col_runs_(runs_of_phases(job.cols)),
        x_row_(job.cols.front().x_size * kLanes),
        x_plane_(job.rows.front().x_size * x_row_),
        y_row_(job.cols.front().y_size * kLanes),
        y_plane_(job.rows.front().y_size * y_row_),
        group_tiles_(ceil_div(job.groups, tiling_.groups)),
        row_tiles_(ceil_div(job.rows.front().count, tiling_.rows)),
        col_tiles_(ceil_div(job.cols.front().count, tiling_.cols)),
        k_tiles_(ceil_div(job.K, tiling_.K)),
        max_taps_(taps_of(job.rows) * taps_of(job.cols)),
        once_(reads_once(job)) {
    for (const CorrelationAxis& rows : job.rows)
      for (const CorrelationAxis& cols : job.cols) {
        number_.push_back(phases_with_taps_);
        if (!rows.taps.empty() && !cols.taps.empty()) ++phases_with_taps_;
      }
  }

  void run() const {
    parallel_for(blocks_ * group_tiles_ * row_tiles_ * col_tiles_ * k_tiles_,
                 [&](int64_t task) { run(tile_at(task)); });
  }

 private:
  // Where a task begins.
  struct Tile {
    int64_t block, group, row, col, k;
  };

  Tile tile_at(int64_t task) const {
    Tile tile{};
    tile.k = task % k_tiles_ * tiling_.K, task /= k_tiles_;
    tile.col = task % col_tiles_ * tiling_.cols, task /= col_tiles_;
    tile.row = task % row_tiles_ * tiling_.rows, task /= row_tiles_;
    tile.group = task % group_tiles_ * tiling_.groups;
    tile.block = task / group_tiles_;
    return tile;
  }

  // From what a task reads to what the next one does; 0: the same, or it is not known.
  int64_t to_next_tile(const Tile& tile) const {
    const CorrelationAxis &rows = job_.rows.front(), &cols = job_.cols.front();
    if (tile.k + tiling_.K < job_.K) return 0;
    const int64_t right = cols.x_step * kLanes, down = rows.x_step * x_row_;
    if (tile.col + tiling_.cols < cols.count) return tiling_.cols * right;
    return tile.row + tiling_.rows < rows.count ? tiling_.rows * down - tile.col * right : 0;
  }

  void run(const Tile& tile) const {
    Scratch<int64_t> taps(2 * max_taps_);
    BroadcastTile args{};
    args.groups = std::min(tiling_.groups, job_.groups - tile.group);
    args.K = std::min(tiling_.K, job_.K - tile.k);
    args.x_group = job_.C * x_plane_, args.x_c = x_plane_;
    args.w_group = job_.w_group, args.w_k = job_.w_k, args.w_c = job_.w_c;
    args.y_group = job_.K * y_plane_, args.y_k = y_plane_;
    args.bias = bias_ ? bias_ + tile.group * job_.K + tile.k : nullptr;
    args.tail = kLanes;
    const int64_t group = tile.block * job_.groups + tile.group;
    float* y = y_ + (group * job_.K + tile.k) * y_plane_;
    for (int64_t c = 0; c < job_.C; c += tiling_.C) {
      args.C = std::min(tiling_.C, job_.C - c);
      const bool last = c + args.C == job_.C;
      args.accumulate = c > 0;
      args.relu = relu_ && last;
      args.streaming = job_.streaming && last;
      args.w = w_ + tile.group * job_.w_group + tile.k * job_.w_k + c * job_.w_c;
      // From what this chunk reads to what will be read next; 0: unknown.
      const int64_t to_next = once_   ? job_.rows.front().x_step * x_row_
                              : !last ? args.C * x_plane_
                                      : to_next_tile(tile) - c * x_plane_;
      run_chunk(args, taps.data(), tile, x_ + (group * job_.C + c) * x_plane_, y, to_next);
    }
  }

  // All runs in a tile, of a chunk of input channels.
  void run_chunk(const BroadcastTile& args, int64_t* taps, const Tile& tile, const float* x,
                 float* y, int64_t to_next) const {
    for (size_t i = 0; i < job_.rows.size(); ++i)
      for (const Run& row_run : row_runs_[i]) {
        const Overlap rows(row_run, tile.row, tiling_.rows);
        if (rows.count <= 0) continue;
        for (size_t j = 0; j < job_.cols.size(); ++j)
          for (const Run& col_run : col_runs_[j]) {
            const Overlap cols(col_run, tile.col, tiling_.cols);
            if (cols.count <= 0) continue;
            const bool adds = row_run.taps.count() > 0 && col_run.taps.count() > 0;
            if (adds || !args.accumulate || args.relu)
              run_kernel(args, taps, {job_.rows[i], row_run, rows}, {job_.cols[j], col_run, cols},
                         x, y, to_next, number_[i * job_.cols.size() + j]);
          }
      }
  }

  void run_kernel(BroadcastTile args, int64_t* taps, const RunOfPhase& rows, const RunOfPhase& cols,
                  const float* x, float* y, int64_t to_next, int64_t phase) const {
    int64_t *x_tap = taps, *w_tap = taps + max_taps_;
    for (int64_t r = 0, t = 0; r < rows.taps; ++r)
      for (int64_t s = 0; s < cols.taps; ++s, ++t) {
        x_tap[t] = (rows.tap[r] - rows.tap[0]) * x_row_ + (cols.tap[s] - cols.tap[0]) * kLanes;
        w_tap[t] = rows.w_tap[r] + cols.w_tap[s];
      }
    args.x_tap = x_tap, args.w_tap = w_tap, args.taps = rows.taps * cols.taps;
    args.rows = rows.count, args.cols = cols.count;
    args.x = args.taps > 0 ? x + rows.x * x_row_ + cols.x * kLanes : x;
    args.x_row = rows.axis.x_step * x_row_, args.x_col = cols.axis.x_step * kLanes;
    args.y = y + rows.y * y_row_ + cols.y * kLanes;
    args.y_row = rows.axis.y_step * y_row_, args.y_col = cols.axis.y_step * kLanes;
    if (args.cols < kNarrow && args.rows > args.cols) {  // tiles lie along the columns instead
      std::swap(args.rows, args.cols);
      std::swap(args.x_row, args.x_col);
      std::swap(args.y_row, args.y_col);
    } else if (to_next != 0 && args.taps > 0) {
      // The lowest of the rows that an output meets; those above it were read by others.
      args.prefetch.offset = to_next + rows.reach() * x_row_;
      args.prefetch.rows = std::min(rows.axis.x_step, rows.taps), args.prefetch.row = -x_row_;
      args.prefetch.col = cols.taps > 1 ? kLanes : args.x_col;
      args.prefetch.more = cols.reach() * kLanes;
      args.prefetch.part = phase, args.prefetch.parts = phases_with_taps_;
    }
    cpu::kernels().broadcast_tile(args);
  }

  float* y_;
  const float *x_, *w_, *bias_;
  bool relu_;
  int64_t blocks_;
  const Correlation& job_;
  Tiling tiling_;
  std::vector<std::vector<Run>> row_runs_, col_runs_;  // of each phase
  int64_t x_row_, x_plane_, y_row_, y_plane_;
  int64_t group_tiles_, row_tiles_, col_tiles_, k_tiles_;
  int64_t max_taps_;
  bool once_;
  std::vector<int64_t> number_;  // of each phase, among those that have taps
  int64_t phases_with_taps_ = 0;
};

}  // namespace

void correlate(float* y, const float* x, const float* w, const float* bias, bool relu,
               int64_t blocks, const Correlation& job, int64_t min_tasks) {
  if (correlate_depthwise(y, x, w, bias, relu, blocks, job, min_tasks)) return;
  const Correlation flat = flattened(job);
  Broadcast(y, x, w, bias, relu, blocks, flat, min_tasks).run();
}

}  // namespace fastconv::cpu
