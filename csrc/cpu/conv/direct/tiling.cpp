#include "cpu/conv/direct/tiling.h"

#include <algorithm>

#include "core/array.h"

namespace fastconv::cpu {
namespace {

// What a tile reads must stay in half of a 1 MiB L2 beside weights and outputs.
constexpr int64_t kTileVectors = 384 * 1024 / (kLanes * 4);
// Or in a third of L1, if many output channels pass over so many columns, whole tiles of 3, 4
// and 6.
constexpr int64_t kNearVectors = 16 * 1024 / (kLanes * 4), kNearCols = 12, kManyPasses = 24;
// A chunk shorter than this many steps spends more on reloading accumulators than on the sum.
constexpr int64_t kMinSteps = 256;
// Steps of a task after which the other threads have waited long enough for its end, some 0.3 ms.
constexpr int64_t kLongTask = 1 << 20;
// Groups too small to be a task by themselves go together until they have so many steps.
constexpr int64_t kShortTask = 16384;

class Chooser {
 public:
  explicit Chooser(const Correlation& job)
      : job_(job),
        rows_(job.rows.front()),
        cols_(job.cols.front()),
        row_taps_(taps_of(job.rows)),
        col_taps_(taps_of(job.cols)),
        phases_(static_cast<int64_t>(job.rows.size() * job.cols.size())),
        taps_(std::max<int64_t>(1, row_taps_ * col_taps_ / phases_)),
        tiling_{rows_.count, cols_.count, job.C, job.K, 1} {}

  Tiling choose(int64_t blocks, int64_t min_tasks) {
    fit_caches();
    make_even();
    make_tasks(blocks, min_tasks);
    return tiling_;
  }

 private:
  int64_t vectors_of(int64_t rows, int64_t cols) const {
    return tiling_.C * std::min((rows - 1) * rows_.x_step + row_taps_, rows_.x_size) *
           std::min((cols - 1) * cols_.x_step + col_taps_, cols_.x_size);
  }
  bool too_large() const { return vectors_of(tiling_.rows, tiling_.cols) > kTileVectors; }

  void fit_caches() {
    Tiling& t = tiling_;
    const int64_t min_C = std::min(job_.C, std::max<int64_t>(8, ceil_div(kMinSteps, taps_)));
    const bool once = reads_once(job_);
    const int64_t min_rows = std::min<int64_t>(rows_.count, once ? 16 : 4);
    const int64_t min_cols = once ? 12 : 24;
    // 1x1: many channels of few pixels. Twelve neighbours are whole tiles of 3, 4 and 6. If that is
    // too much still, the sum goes in short chunks, beside which the weights find room.
    if (rows_.count == 1 && taps_ == 1) {
      t.cols = std::min(t.cols, std::max<int64_t>(kTileVectors / job_.C / 12, 1) * 12);
      if (too_large()) t.C = min_C;
    }
    // Large results of few input channels: non-temporal stores hold buffers that loads from L2
    // would wait for, so what a tile reads stays in L1 while all output channels pass over it.
    if (job_.streaming && phases_ == 1 && taps_ > 1 && job_.K >= kManyPasses &&
        vectors_of(1, kNearCols) <= kNearVectors) {
      t.cols = std::min(t.cols, kNearCols), t.rows = 1;
      while (t.rows < rows_.count && vectors_of(t.rows + 1, kNearCols) <= kNearVectors) ++t.rows;
    }
    // Fewer rows first, then fewer channels, then narrower and lower tiles.
    while (too_large() && t.rows > min_rows) t.rows = std::max(min_rows, t.rows / 2);
    while (too_large() && t.C > min_C) t.C = std::max(min_C, ceil_div(t.C, 2));
    while (too_large() && t.cols > min_cols) t.cols = ceil_div(t.cols, 2);
    while (too_large() && t.rows > 1) t.rows = ceil_div(t.rows, 2);
  }

  void make_even() {
    Tiling& t = tiling_;
    t.rows = ceil_div(rows_.count, ceil_div(rows_.count, t.rows));
    t.cols = ceil_div(cols_.count, ceil_div(cols_.count, t.cols));
    // Whole tiles of 3, 4 and 6, where there are many side by side.
    if (6 * t.cols <= cols_.count) t.cols = ceil_div(t.cols, 12) * 12;
    t.C = ceil_div(job_.C, ceil_div(job_.C, t.C));
  }

  // At least min_tasks where the work allows it: lower tiles first, then fewer output channels.
  void make_tasks(int64_t blocks, int64_t min_tasks) {
    Tiling& t = tiling_;
    const int64_t steps_of_group = phases_ * job_.K * job_.C * taps_ * t.rows * t.cols;
    t.groups = std::clamp<int64_t>(ceil_div(kShortTask, steps_of_group), 1, job_.groups);
    const auto too_few = [&] {
      return blocks * ceil_div(job_.groups, t.groups) * ceil_div(rows_.count, t.rows) *
                 ceil_div(cols_.count, t.cols) * ceil_div(job_.K, t.K) <
             min_tasks;
    };
    while (too_few() && t.groups > 1) t.groups = ceil_div(t.groups, 2);
    while (too_few() && t.rows > 8) t.rows = ceil_div(t.rows, 2);
    while (too_few() && t.K >= 32) t.K = ceil_div(t.K, 2);
    while (too_few() && t.rows > 2) t.rows = ceil_div(t.rows, 2);
    // Inside a task of another operation nobody waits for an end.
    const int64_t steps_of_channel = phases_ * job_.C * taps_ * t.rows * t.cols;
    while (min_tasks > 1 && t.K >= 128 && t.K * steps_of_channel > kLongTask)
      t.K = ceil_div(t.K, 2);
  }

  const Correlation& job_;
  const CorrelationAxis &rows_, &cols_;
  int64_t row_taps_, col_taps_, phases_;
  int64_t taps_;  // of an output, on average
  Tiling tiling_;
};

}  // namespace

int64_t taps_of(const std::vector<CorrelationAxis>& axes) {
  size_t taps = 0;
  for (const CorrelationAxis& axis : axes) taps += axis.taps.size();
  return static_cast<int64_t>(taps);
}

bool reads_once(const Correlation& job) {
  return job.K <= 6 && job.rows.size() * job.cols.size() == 1 &&
         job.C * job.rows.front().x_size * job.cols.front().x_size * kLanes > kFarFloats;
}

Tiling choose_tiling(const Correlation& job, int64_t blocks, int64_t min_tasks) {
  return Chooser(job).choose(blocks, min_tasks);
}

}  // namespace fastconv::cpu
