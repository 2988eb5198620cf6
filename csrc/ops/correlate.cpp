#include "ops/correlate.h"

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/window.h"

namespace fastconv {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How one image is cut: bands of output rows x cols, chunks of input channels. Chosen from the shape
// alone, so the order of every sum is the same on every machine and for any number of threads.
struct Cut {
  int64_t rows, cols, C, K, groups;  // sizes of a band, of a chunk of channels, of a task's share
};

// The window of a band must stay in half of a 1 MiB L2 beside weights and outputs.
constexpr int64_t kWindowVectors = 384 * 1024 / (kLanes * 4);
// A chunk shorter than this many steps spends more on reloading accumulators than on the sum.
constexpr int64_t kMinSteps = 144;

Cut choose_cut(const Correlation& job, int64_t blocks) {
  const int64_t taps = static_cast<int64_t>(job.tap_row.size());
  const int64_t reach_row = *std::max_element(job.tap_row.begin(), job.tap_row.end());
  const int64_t reach_col = *std::max_element(job.tap_col.begin(), job.tap_col.end());
  const auto window = [&](int64_t rows, int64_t cols) {
    return ((rows - 1) * job.x_row_step + reach_row + 1) * ((cols - 1) * job.x_col_step + reach_col + 1);
  };
  Cut cut{job.rows, job.cols, job.C, job.K, 1};
  const int64_t min_C = std::min(job.C, std::max<int64_t>(8, ceil_div(kMinSteps, taps)));
  const int64_t min_rows = std::min<int64_t>(job.rows, 4);
  // A band smaller than the reach of the taps would copy more halo than it uses.
  const int64_t floor_rows = std::min(job.rows, ceil_div(reach_row, job.x_row_step) + 1);
  const int64_t floor_cols = std::min(job.cols, ceil_div(reach_col, job.x_col_step) + 1);
  if (cut.cols > 64) cut.cols = ceil_div(cut.cols, ceil_div(cut.cols, 56));
  // Fewer rows first, then fewer channels, then narrower bands.
  while (cut.C * window(cut.rows, cut.cols) > kWindowVectors && cut.rows > min_rows)
    cut.rows = std::max(min_rows, cut.rows / 2);
  while (cut.C * window(cut.rows, cut.cols) > kWindowVectors && cut.C > min_C)
    cut.C = std::max(min_C, ceil_div(cut.C, 2));
  while (cut.C * window(cut.rows, cut.cols) > kWindowVectors &&
         cut.cols > std::max<int64_t>(16, floor_cols))
    cut.cols = std::max(floor_cols, ceil_div(cut.cols, 2));
  while (cut.C * window(cut.rows, cut.cols) > kWindowVectors && cut.rows > floor_rows)
    cut.rows = std::max(floor_rows, ceil_div(cut.rows, 2));
  cut.rows = std::max(cut.rows, floor_rows);
  cut.cols = std::max(cut.cols, floor_cols);
  cut.rows = ceil_div(job.rows, ceil_div(job.rows, cut.rows));
  cut.C = ceil_div(job.C, ceil_div(job.C, cut.C));

  // At least 8 tasks where the work allows it: first more bands, then shares of the output channels.
  const int64_t steps_per_group = job.K * job.C * taps * cut.rows * cut.cols;
  cut.groups = std::clamp<int64_t>(ceil_div(16384, steps_per_group), 1, job.groups);
  const auto tasks = [&] {
    return blocks * ceil_div(job.groups, cut.groups) * ceil_div(job.rows, cut.rows) *
           ceil_div(job.cols, cut.cols) * ceil_div(job.K, cut.K);
  };
  while (tasks() < 8 && cut.groups > 1) cut.groups = ceil_div(cut.groups, 2);
  while (tasks() < 8 && cut.rows > std::max<int64_t>(8, floor_rows)) cut.rows = ceil_div(cut.rows, 2);
  while (tasks() < 8 && cut.K >= 32) cut.K = ceil_div(cut.K, 2);
  while (tasks() < 8 && cut.rows > std::max<int64_t>(2, floor_rows)) cut.rows = ceil_div(cut.rows, 2);
  return cut;
}

}  // namespace

void correlate(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
               const Correlation& job) {
  const cpu::Kernels& kernels = cpu::kernels();
  const int64_t taps = static_cast<int64_t>(job.tap_row.size());
  const int64_t reach_row = *std::max_element(job.tap_row.begin(), job.tap_row.end());
  const int64_t reach_col = *std::max_element(job.tap_col.begin(), job.tap_col.end());
  const int64_t x_plane = job.x_rows * job.x_cols * kLanes, y_plane = job.y_rows * job.y_cols * kLanes;
  const Cut cut = choose_cut(job, blocks);
  const int64_t group_cuts = ceil_div(job.groups, cut.groups), row_cuts = ceil_div(job.rows, cut.rows);
  const int64_t col_cuts = ceil_div(job.cols, cut.cols), k_cuts = ceil_div(job.K, cut.K);

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
    const int64_t rows = std::min(cut.rows, job.rows - row0), cols = std::min(cut.cols, job.cols - col0);
    const int64_t K = std::min(cut.K, job.K - k0);
    const int64_t in_rows = (rows - 1) * job.x_row_step + reach_row + 1;
    const int64_t in_cols = (cols - 1) * job.x_col_step + reach_col + 1;
    const int64_t x_row = job.x_row0 + row0 * job.x_row_step, x_col = job.x_col0 + col0 * job.x_col_step;

    Scratch<float> scratch(cut.C * in_rows * in_cols * kLanes);
    Scratch<int64_t> x_tap(taps);
    for (int64_t group = group0; group < std::min(group0 + cut.groups, job.groups); ++group) {
      for (int64_t c0 = 0; c0 < job.C; c0 += cut.C) {
        const int64_t C = std::min(cut.C, job.C - c0);
        const float* image = x + (block * job.groups * job.C + group * job.C + c0) * x_plane;
        const Window window = take_window(image, C, job.x_rows, job.x_cols, x_row, x_col, in_rows,
                                          in_cols, scratch.data());
        for (int64_t t = 0; t < taps; ++t)
          x_tap.data()[t] = job.tap_row[static_cast<size_t>(t)] * window.row +
                            job.tap_col[static_cast<size_t>(t)] * window.col;

        cpu::TileSweep sweep{};
        sweep.K = K, sweep.C = C, sweep.taps = taps, sweep.rows = rows, sweep.cols = cols;
        sweep.x = window.data;
        sweep.x_c = window.channel;
        sweep.x_row = window.row * job.x_row_step;
        sweep.x_col = window.col * job.x_col_step;
        sweep.x_tap = x_tap.data();
        sweep.w = w + group * job.w_group + k0 * job.w_k + c0 * job.w_c;
        sweep.w_k = job.w_k, sweep.w_c = job.w_c, sweep.w_t = 1;
        const int64_t k = group * job.K + k0;
        sweep.y = y + (block * job.groups * job.K + k) * y_plane +
                  ((job.y_row0 + row0 * job.y_row_step) * job.y_cols + job.y_col0 +
                   col0 * job.y_col_step) *
                      kLanes;
        sweep.y_k = y_plane;
        sweep.y_row = job.y_row_step * job.y_cols * kLanes;
        sweep.y_col = job.y_col_step * kLanes;
        sweep.bias = bias ? bias + k : nullptr;
        sweep.accumulate = c0 > 0;
        sweep.relu = relu && c0 + C == job.C;
        sweep.tail = kLanes;
        kernels.tile_sweep(sweep);
      }
    }
  });
}

}  // namespace fastconv
