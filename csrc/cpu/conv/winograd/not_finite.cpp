#include "cpu/conv/winograd/not_finite.h"

#include <algorithm>
#include <cmath>

#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// The rows begin .. end - 1 of K planes are those between the first and the last with elements that
// are not finite; none if begin == end.
struct Rows {
  int64_t begin = 0, end = 0;
};

Rows not_finite_rows(const float* y, int64_t K, int64_t rows, int64_t row) {
  Scratch<uint8_t> finite(rows);
  parallel_for(rows, [&](int64_t r) {
    finite.data()[r] = 1;
    for (int64_t k = 0; k < K && finite.data()[r]; ++k) {
      const float* from = y + (k * rows + r) * row;
      finite.data()[r] = std::all_of(from, from + row, [](float a) { return std::isfinite(a); });
    }
  });
  Rows found;
  for (int64_t r = 0; r < rows; ++r)
    if (!finite.data()[r]) {
      if (found.end == 0) found.begin = r;
      found.end = r + 1;
    }
  return found;
}

}  // namespace

void replace_not_finite(float* y, const float* formula, int64_t n) {
  parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (!std::isfinite(y[i])) y[i] = formula[i];
  });
}

void correlate_not_finite(float* y, const float* x, const float* w, const float* bias, bool relu,
                          int64_t blocks, const Correlation& job, int64_t min_tasks) {
  const CorrelationAxis &row_axis = job.rows.front(), &col_axis = job.cols.front();
  const int64_t K = job.groups * job.K, rows = row_axis.y_size, row = col_axis.y_size * kLanes;
  const int64_t x_block = job.groups * job.C * row_axis.x_size * col_axis.x_size * kLanes;
  for (int64_t block = 0; block < blocks; ++block) {
    float* to = y + block * K * rows * row;
    Rows found = not_finite_rows(to, K, rows, row);
    if (found.begin == found.end) continue;
    found.begin -= found.begin % row_axis.y_step;  // so that the first phase stays the longest
    const int64_t count = found.end - found.begin;
    Correlation part = job;
    part.rows = outputs_from(outputs_before(job.rows, found.end), found.begin);
    for (CorrelationAxis& axis : part.rows) axis.y_first -= found.begin, axis.y_size = count;
    part.streaming = false;
    Scratch<float> formula(K * count * row);
    correlate(formula.data(), x + block * x_block, w, bias, relu, 1, part, min_tasks);
    for (int64_t k = 0; k < K; ++k)
      replace_not_finite(to + (k * rows + found.begin) * row, formula.data() + k * count * row,
                         count * row);
  }
}

}  // namespace fastconv::cpu
