// The driver of the broadcast tile over images in lane blocks. Forward convolution is one correlation;
// the gradient by input is one for each phase of the stride; so is transposed convolution.
#pragma once

#include <vector>

#include "core/array.h"

namespace fastconv {

// One axis of a correlation: output i < count lands in y at y_first + i * y_step and sums over taps t
// x at x_first + i * x_step + taps[t]. Taps outside 0 .. x_size - 1 are left out. taps are ascending or
// descending.
struct CorrelationAxis {
  int64_t count;
  int64_t y_size, y_first, y_step;
  int64_t x_size, x_first, x_step;
  std::vector<int64_t> taps;
};

struct Correlation {
  int64_t groups, K, C;          // K output and C input channels per group
  CorrelationAxis rows, cols;
  int64_t w_group, w_k, w_c;     // strides of w; tap (r, s) is at r * cols.taps.size() + s
};

// y: all channels of every block; elements that no output lands on are not touched. bias: groups * K
// floats or null.
void correlate(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
               const Correlation& correlation);

}  // namespace fastconv
