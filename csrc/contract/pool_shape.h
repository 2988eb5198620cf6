// The sizes of pooling windows on images (N, C, H, W).
#pragma once

#include <array>

#include "core/shape.h"

namespace fastconv {

struct PoolParams {
  std::array<int64_t, 2> kernel{1, 1};
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> pads{0, 0, 0, 0};  // top, bottom, left, right
  std::array<int64_t, 2> dilation{1, 1};
  bool ceil_mode = false;

  // Whether a window can lie in the padding altogether: its maximum is -infinity, and ReLU and
  // maximum do not commute.
  bool misses_pixels() const {
    return (dilation[0] > 1 || dilation[1] > 1) &&
           (pads[0] > 0 || pads[1] > 0 || pads[2] > 0 || pads[3] > 0);
  }
};

// One axis: the window of output o covers the inputs first(o) + k * dilation, k < kernel.
struct PoolAxis {
  int64_t input, kernel, stride, before, after, dilation, output;

  int64_t first(int64_t o) const { return o * stride - before; }
};

// Every size of one pooling, checked.
struct PoolShape {
  int64_t N, C;
  PoolAxis rows, cols;

  Shape x() const { return {N, C, rows.input, cols.input}; }
  Shape y() const { return {N, C, rows.output, cols.output}; }
};

}  // namespace fastconv
