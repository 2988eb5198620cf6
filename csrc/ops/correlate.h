// The driver of the broadcast tile over images in lane blocks. Forward convolution is one correlation;
// the gradient by input is one for each phase of the stride; so is transposed convolution.
#pragma once

#include <vector>

#include "core/array.h"

namespace fastconv {

struct Correlation {
  int64_t groups, K, C;    // K output and C input channels per group
  int64_t x_rows, x_cols;  // the image read from
  int64_t y_rows, y_cols;  // the image written to

  // Output (i, j), i < rows, j < cols, is y at (y_row0 + i * y_row_step, y_col0 + j * y_col_step), the
  // sum over channels and taps t of w[k][c][t] * x at (x_row0 + i * x_row_step + tap_row[t], ...).
  int64_t rows, cols;
  int64_t y_row0, y_col0, y_row_step, y_col_step;
  int64_t x_row0, x_col0, x_row_step, x_col_step;
  std::vector<int64_t> tap_row, tap_col;  // >= 0

  int64_t w_group, w_k, w_c;  // strides of w; taps lie side by side
};

// y: all channels of every block; elements that no output lands on are not touched. bias: groups * K
// floats or null.
void correlate(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
               const Correlation& correlation);

}  // namespace fastconv
