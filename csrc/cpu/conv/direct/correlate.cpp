#include "cpu/conv/direct/correlate.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {
namespace {

// Neighbouring outputs that meet the same taps: all of them away from the edges, fewer beside them.
// So padding is never read and never multiplied: of the 25 * 9 products that a 3 x 3 gradient map
// and a 3 x 3 kernel seem to need for their 5 x 5 inputs, 81 remain.
struct Run {
  int64_t begin, end;  // outputs
  int64_t first_tap, taps;
};

std::vector<Run> runs_of(const CorrelationAxis& axis) {
  std::vector<Run> runs;
  for (int64_t i = 0; i < axis.count; ++i) {
    const int64_t origin = axis.x_first + i * axis.x_step;
    int64_t first = 0, last = static_cast<int64_t>(axis.taps.size());
    const auto outside = [&](int64_t t) {
      const int64_t at = origin + axis.taps[static_cast<size_t>(t)];
      return at < 0 || at >= axis.x_size;
    };
    while (first < last && outside(first)) ++first;
    while (first < last && outside(last - 1)) --last;
    if (!runs.empty() && runs.back().first_tap == first && runs.back().taps == last - first)
      ++runs.back().end;
    else
      runs.push_back({i, i + 1, first, last - first});
  }
  return runs;
}

// How one image is cut: bands of output rows and columns, chunks of input channels. Chosen from the
// shape alone, so the order of every sum is the same on every machine and for any number of
// threads.
struct Cut {
  int64_t rows, cols, C;  // sizes of a band, of a chunk of channels
  int64_t K, groups;      // of a task's share
};

// Images of more floats come from memory, and are asked for in time.
constexpr int64_t kFarFloats = 2 << 20;
// Up to here depthwise convolutions, whose pace stores set, leave their outputs to L3.
constexpr int64_t kKeptFloats = 2 * kStreamedFloats;
// What a band reads must stay in half of a 1 MiB L2 beside weights and outputs.
constexpr int64_t kBandVectors = 384 * 1024 / (kLanes * 4);
// Or in a third of L1, if many output channels pass over so many columns, whole tiles of 3, 4
// and 6.
constexpr int64_t kNearVectors = 16 * 1024 / (kLanes * 4), kNearCols = 12, kManyPasses = 24;
// A chunk shorter than this many steps spends more on reloading accumulators than on the sum.
constexpr int64_t kMinSteps = 256;
// Steps of a task after which the other threads have waited long enough for its end, some 0.3 ms.
constexpr int64_t kLongTask = 1 << 20;
// Runs of fewer columns, as beside the edges, would leave a tile too few sums for their latency.
constexpr int64_t kNarrow = 4;

int64_t taps_of(const std::vector<CorrelationAxis>& axes) {
  size_t taps = 0;
  for (const CorrelationAxis& axis : axes) taps += axis.taps.size();
  return static_cast<int64_t>(taps);
}

// Does one pass over an image larger than the caches do: a tile holds all output channels, and
// outputs of one phase? Then the next row of the same columns is what to ask for, and a band is a
// strip.
bool reads_once(const Correlation& job) {
  return job.K <= 6 && job.rows.size() * job.cols.size() == 1 &&
         job.C * job.rows.front().x_size * job.cols.front().x_size * kLanes > kFarFloats;
}

Cut choose_cut(const Correlation& job, int64_t blocks) {
  const CorrelationAxis &row_axis = job.rows.front(), &col_axis = job.cols.front();
  const int64_t row_taps = taps_of(job.rows), col_taps = taps_of(job.cols);
  const int64_t phases = static_cast<int64_t>(job.rows.size() * job.cols.size());
  const int64_t taps =
      std::max<int64_t>(1, row_taps * col_taps / phases);  // of an output, on average
  Cut cut{row_axis.count, col_axis.count, job.C, job.K, 1};
  const auto vectors_of = [&](int64_t rows, int64_t cols) {
    return cut.C * std::min((rows - 1) * row_axis.x_step + row_taps, row_axis.x_size) *
           std::min((cols - 1) * col_axis.x_step + col_taps, col_axis.x_size);
  };
  const auto too_large = [&] { return vectors_of(cut.rows, cut.cols) > kBandVectors; };
  const int64_t min_C = std::min(job.C, std::max<int64_t>(8, ceil_div(kMinSteps, taps)));
  const bool once = reads_once(job);
  const int64_t min_rows = std::min<int64_t>(row_axis.count, once ? 16 : 4);
  const int64_t min_cols = once ? 12 : 24;
  // 1x1: many channels of few pixels. Twelve neighbours are whole tiles of 3, 4 and 6. If that is
  // too much still, the sum goes in short chunks, beside which the weights find room (512 <- 2048,
  // 7 x 7, 1.03x to 1.07x; 256 <- 1024, 14 x 14, 1.00x to 1.03x).
  if (row_axis.count == 1 && taps == 1) {
    cut.cols = std::min(cut.cols, std::max<int64_t>(kBandVectors / job.C / 12, 1) * 12);
    if (too_large()) cut.C = min_C;
  }
  // Large results of few input channels: stores past the caches hold buffers that loads from L2
  // would wait for, so what a band reads stays in L1 while all output channels pass over it.
  if (job.streaming && phases == 1 && taps > 1 && job.K >= kManyPasses &&
      vectors_of(1, kNearCols) <= kNearVectors) {
    cut.cols = std::min(cut.cols, kNearCols), cut.rows = 1;
    while (cut.rows < row_axis.count && vectors_of(cut.rows + 1, kNearCols) <= kNearVectors)
      ++cut.rows;
  }
  // Fewer rows first, then fewer channels, then narrower and lower bands.
  while (too_large() && cut.rows > min_rows) cut.rows = std::max(min_rows, cut.rows / 2);
  while (too_large() && cut.C > min_C) cut.C = std::max(min_C, ceil_div(cut.C, 2));
  while (too_large() && cut.cols > min_cols) cut.cols = ceil_div(cut.cols, 2);
  while (too_large() && cut.rows > 1) cut.rows = ceil_div(cut.rows, 2);
  cut.rows = ceil_div(row_axis.count, ceil_div(row_axis.count, cut.rows));
  cut.cols = ceil_div(col_axis.count, ceil_div(col_axis.count, cut.cols));
  if (6 * cut.cols <= col_axis.count)
    cut.cols =
        ceil_div(cut.cols, 12) * 12;  // whole tiles of 3, 4 and 6, where there are many bands
  cut.C = ceil_div(job.C, ceil_div(job.C, cut.C));

  // Groups too small to be a task by themselves go together; then at least as many tasks as wanted
  // where the work allows it: more bands first, then shares of the output channels.
  const int64_t steps_per_group = phases * job.K * job.C * taps * cut.rows * cut.cols;
  cut.groups = std::clamp<int64_t>(ceil_div(16384, steps_per_group), 1, job.groups);
  const int64_t wanted = tasks_wanted();
  const auto too_few_tasks = [&] {
    return blocks * ceil_div(job.groups, cut.groups) * ceil_div(row_axis.count, cut.rows) *
               ceil_div(col_axis.count, cut.cols) * ceil_div(job.K, cut.K) <
           wanted;
  };
  while (too_few_tasks() && cut.groups > 1) cut.groups = ceil_div(cut.groups, 2);
  while (too_few_tasks() && cut.rows > 8) cut.rows = ceil_div(cut.rows, 2);
  while (too_few_tasks() && cut.K >= 32) cut.K = ceil_div(cut.K, 2);
  while (too_few_tasks() && cut.rows > 2) cut.rows = ceil_div(cut.rows, 2);
  // Inside a task of another operation nobody waits for an end.
  const int64_t steps_of_channel = phases * job.C * taps * cut.rows * cut.cols;
  while (wanted > 1 && cut.K >= 128 && cut.K * steps_of_channel > kLongTask)
    cut.K = ceil_div(cut.K, 2);
  return cut;
}

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

// The axes of a depthwise convolution as the kernel for planes takes them; none where it does not.
std::vector<cpu::DepthwiseAxis> plane_axes(const std::vector<CorrelationAxis>& axes) {
  std::vector<cpu::DepthwiseAxis> planes;
  for (const CorrelationAxis& axis : axes) {
    const auto taps = static_cast<int64_t>(axis.taps.size());
    if (taps < axis.x_step || axis.count == 0) return {};
    const int64_t w_step = taps > 1 ? axis.w_taps[1] - axis.w_taps[0] : 0;
    for (int64_t t = 1; t < taps; ++t)
      if (axis.taps[t] != axis.taps[t - 1] + 1) return {};
    const int64_t first = axis.x_first + axis.taps[0];
    const bool meet = first + taps > 0 && first + (axis.count - 1) * axis.x_step < axis.x_size;
    const bool known = axis.x_step == 1   ? taps <= 3 || taps == 5
                       : axis.x_step == 2 ? taps == 3 || taps == 5
                                          : false;
    if (!meet || !known) return {};
    planes.push_back({axis.count, axis.y_first, first, taps, axis.w_taps[0], w_step});
  }
  return planes;
}

// The outputs from number `begin` on, at most `count` of each phase.
std::vector<cpu::DepthwiseAxis> band_of(const std::vector<cpu::DepthwiseAxis>& axes, int64_t begin,
                                        int64_t count, int64_t x_step, int64_t y_step) {
  std::vector<cpu::DepthwiseAxis> band;
  for (cpu::DepthwiseAxis axis : axes) {
    axis.count = std::min(axis.count - begin, count);
    axis.y_first += begin * y_step, axis.x_first += begin * x_step;
    if (axis.count > 0) band.push_back(axis);
  }
  return band;
}

// One input and one output channel a group. False where the broadcast tile must do it.
bool correlate_planes(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Correlation& job) {
  const CorrelationAxis &row_axis = job.rows.front(), &col_axis = job.cols.front();
  if (job.K != 1 || job.C != 1 || row_axis.x_step != col_axis.x_step ||
      row_axis.y_step != col_axis.y_step)
    return false;
  const std::vector<cpu::DepthwiseAxis> rows = plane_axes(job.rows), cols = plane_axes(job.cols);
  if (rows.empty() || cols.empty() || cols.size() > cpu::kDepthwisePhases) return false;
  cpu::DepthwiseTile whole{};
  whole.x_rows = row_axis.x_size, whole.x_cols = col_axis.x_size, whole.x_step = col_axis.x_step;
  whole.y_row = col_axis.y_size * kLanes, whole.y_step = col_axis.y_step;
  whole.y_plane = row_axis.y_size * whole.y_row;
  whole.w_plane = job.w_group;
  whole.relu = relu;
  whole.streaming = job.streaming && blocks * job.groups * whole.y_plane > kKeptFloats;
  const int64_t x_plane = whole.x_rows * whole.x_cols * kLanes;
  whole.prefetch = blocks * job.groups * x_plane > kFarFloats;

  const Cut cut = choose_cut(job, blocks);
  const int64_t group_cuts = ceil_div(job.groups, cut.groups);
  const int64_t row_cuts = ceil_div(row_axis.count, cut.rows);
  const int64_t col_cuts = ceil_div(col_axis.count, cut.cols);
  parallel_for(blocks * group_cuts * row_cuts * col_cuts, [&](int64_t task) {
    const int64_t col = task % col_cuts * cut.cols;
    const int64_t row = task / col_cuts % row_cuts * cut.rows;
    const int64_t group = task / (col_cuts * row_cuts) % group_cuts * cut.groups;
    const int64_t plane = task / (col_cuts * row_cuts * group_cuts) * job.groups + group;
    const auto row_band = band_of(rows, row, cut.rows, whole.x_step, whole.y_step);
    const auto col_band = band_of(cols, col, cut.cols, whole.x_step, whole.y_step);
    cpu::DepthwiseTile args = whole;
    args.planes = std::min(cut.groups, job.groups - group);
    args.x = x + plane * x_plane, args.y = y + plane * args.y_plane;
    args.w = w + group * job.w_group, args.bias = bias ? bias + group : nullptr;
    args.rows = row_band.data(), args.row_phases = static_cast<int64_t>(row_band.size());
    args.cols = col_band.data(), args.col_phases = static_cast<int64_t>(col_band.size());
    cpu::kernels().depthwise_tile(args);
  });
  return true;
}

}  // namespace

std::vector<CorrelationAxis> cut_axis(const std::vector<CorrelationAxis>& axis, int64_t at,
                                      bool from_there) {
  std::vector<CorrelationAxis> cut;
  for (CorrelationAxis phase : axis) {
    const int64_t before = std::clamp<int64_t>(
        ceil_div(std::max<int64_t>(at - phase.y_first, 0), phase.y_step), 0, phase.count);
    if (from_there) {
      phase.y_first += before * phase.y_step, phase.x_first += before * phase.x_step;
      phase.count -= before;
    } else {
      phase.count = before;
    }
    if (phase.count > 0) cut.push_back(phase);
  }
  return cut;
}

void correlate(float* y, const float* x, const float* w, const float* bias, bool relu,
               int64_t blocks, const Correlation& given) {
  if (correlate_planes(y, x, w, bias, relu, blocks, given)) return;
  const Correlation job = flattened(given);
  const cpu::Kernels& kernels = cpu::kernels();
  std::vector<std::vector<Run>> row_runs, col_runs;
  for (const CorrelationAxis& axis : job.rows) row_runs.push_back(runs_of(axis));
  for (const CorrelationAxis& axis : job.cols) col_runs.push_back(runs_of(axis));
  const int64_t x_row = job.cols.front().x_size * kLanes, x_plane = job.rows.front().x_size * x_row;
  const int64_t y_row = job.cols.front().y_size * kLanes, y_plane = job.rows.front().y_size * y_row;
  const int64_t max_taps = taps_of(job.rows) * taps_of(job.cols);
  std::vector<int64_t> part;  // of each phase, among those that have taps
  int64_t parts = 0;
  for (const CorrelationAxis& rows : job.rows)
    for (const CorrelationAxis& cols : job.cols) {
      part.push_back(parts);
      if (!rows.taps.empty() && !cols.taps.empty()) ++parts;
    }
  const bool once = reads_once(job);
  const Cut cut = choose_cut(job, blocks);
  const int64_t group_cuts = ceil_div(job.groups, cut.groups), k_cuts = ceil_div(job.K, cut.K);
  const int64_t row_cuts = ceil_div(job.rows.front().count, cut.rows);
  const int64_t col_cuts = ceil_div(job.cols.front().count, cut.cols);

  parallel_for(blocks * group_cuts * row_cuts * col_cuts * k_cuts, [&](int64_t task) {
    int64_t rest = task;
    const int64_t k0 = rest % k_cuts * cut.K;
    rest /= k_cuts;
    const int64_t col0 = rest % col_cuts * cut.cols;
    rest /= col_cuts;
    const int64_t row0 = rest % row_cuts * cut.rows;
    rest /= row_cuts;
    const int64_t group0 = rest % group_cuts * cut.groups;
    const int64_t block = rest / group_cuts;

    Scratch<int64_t> taps(2 * max_taps);
    int64_t *x_tap = taps.data(), *w_tap = taps.data() + max_taps;
    int64_t to_next = 0;  // from what a sweep reads to what the one behind it will read; 0: unknown
    cpu::BroadcastTile args{};
    args.groups = std::min(cut.groups, job.groups - group0);
    args.K = std::min(cut.K, job.K - k0);
    args.x_group = job.C * x_plane, args.x_c = x_plane;
    args.w_group = job.w_group, args.w_k = job.w_k, args.w_c = job.w_c;
    args.y_group = job.K * y_plane, args.y_k = y_plane;
    args.x_tap = x_tap, args.w_tap = w_tap;
    args.bias = bias ? bias + group0 * job.K + k0 : nullptr;
    args.tail = kLanes;

    // The outputs [row, row + rows) x [col, col + cols) of two runs.
    const auto sweep_runs = [&](const CorrelationAxis& rows, const Run& row_run, int64_t row,
                                const CorrelationAxis& cols, const Run& col_run, int64_t col,
                                int64_t phase_part, const float* image, float* out) {
      const int64_t* tap_row = rows.taps.data() + row_run.first_tap;
      const int64_t* tap_col = cols.taps.data() + col_run.first_tap;
      const int64_t* w_row = rows.w_taps.data() + row_run.first_tap;
      const int64_t* w_col = cols.w_taps.data() + col_run.first_tap;
      args.taps = row_run.taps * col_run.taps;
      for (int64_t r = 0, t = 0; r < row_run.taps; ++r)
        for (int64_t s = 0; s < col_run.taps; ++s, ++t) {
          x_tap[t] = (tap_row[r] - tap_row[0]) * x_row + (tap_col[s] - tap_col[0]) * kLanes;
          w_tap[t] = w_row[r] + w_col[s];
        }
      args.x = image;
      if (args.taps > 0)  // at the first tap, which lies inside the image
        args.x += (rows.x_first + row * rows.x_step + tap_row[0]) * x_row +
                  (cols.x_first + col * cols.x_step + tap_col[0]) * kLanes;
      args.x_row = rows.x_step * x_row, args.x_col = cols.x_step * kLanes;
      args.y = out + (rows.y_first + row * rows.y_step) * y_row +
               (cols.y_first + col * cols.y_step) * kLanes;
      args.y_row = rows.y_step * y_row, args.y_col = cols.y_step * kLanes;
      // The lowest of the rows that an output meets; those above it were read by others.
      cpu::Prefetch& prefetch = args.prefetch;
      prefetch = {};
      if (to_next != 0 && args.taps > 0) {
        prefetch.offset = to_next + (tap_row[row_run.taps - 1] - tap_row[0]) * x_row;
        prefetch.rows = std::min(rows.x_step, row_run.taps), prefetch.row = -x_row;
        prefetch.col = col_run.taps > 1 ? kLanes : args.x_col;
        prefetch.more = (tap_col[col_run.taps - 1] - tap_col[0]) * kLanes;
        prefetch.part = phase_part, prefetch.parts = parts;
      }
      if (args.cols < kNarrow && args.rows > args.cols) {  // tiles lie along the columns instead
        prefetch = {};
        std::swap(args.rows, args.cols);
        std::swap(args.x_row, args.x_col);
        std::swap(args.y_row, args.y_col);
      }
      kernels.broadcast_tile(args);
    };

    // Where the next task reads, as seen from here; 0: where this one does, or it is not known.
    const auto next_task = [&]() -> int64_t {
      const CorrelationAxis &rows = job.rows.front(), &cols = job.cols.front();
      if (k0 + cut.K < job.K) return 0;
      const int64_t right = cols.x_step * kLanes, down = rows.x_step * x_row;
      if (col0 + cut.cols < cols.count) return cut.cols * right;
      return row0 + cut.rows < rows.count ? cut.rows * down - col0 * right : 0;
    };

    for (int64_t c0 = 0; c0 < job.C; c0 += cut.C) {
      args.C = std::min(cut.C, job.C - c0);
      args.accumulate = c0 > 0;
      args.relu = relu && c0 + args.C == job.C;
      to_next = once                  ? job.rows.front().x_step * x_row
                : c0 + args.C < job.C ? args.C * x_plane
                                      : next_task() - c0 * x_plane;
      args.streaming = job.streaming && c0 + args.C == job.C;
      args.w = w + group0 * job.w_group + k0 * job.w_k + c0 * job.w_c;
      const float* image = x + ((block * job.groups + group0) * job.C + c0) * x_plane;
      float* out = y + ((block * job.groups + group0) * job.K + k0) * y_plane;
      for (size_t i = 0; i < job.rows.size(); ++i)
        for (const Run& row_run : row_runs[i]) {
          const int64_t row = std::max(row_run.begin, row0);
          const int64_t rows = std::min(row_run.end, row0 + cut.rows) - row;
          if (rows <= 0) continue;
          for (size_t j = 0; j < job.cols.size(); ++j)
            for (const Run& col_run : col_runs[j]) {
              const int64_t col = std::max(col_run.begin, col0);
              args.rows = rows, args.cols = std::min(col_run.end, col0 + cut.cols) - col;
              if (args.cols <= 0) continue;
              const bool nothing_to_add = row_run.taps * col_run.taps == 0 && c0 > 0 && !args.relu;
              if (!nothing_to_add)
                sweep_runs(job.rows[i], row_run, row, job.cols[j], col_run, col,
                           part[i * job.cols.size() + j], image, out);
            }
        }
    }
  });
}

}  // namespace fastconv
