// Forward convolution and its gradient by input as one problem: sums over taps, along two axes.
#pragma once

#include <vector>

#include "contract/conv2d_shape.h"
#include "core/array.h"

namespace fastconv::cpu {

// One axis of a correlation: output i < count lands in y at y_first + i * y_step and sums over taps
// t x at x_first + i * x_step + taps[t]. Taps outside 0 .. x_size - 1 are left out. taps ascend.
struct CorrelationAxis {
  int64_t count;
  int64_t y_size, y_first, y_step;
  int64_t x_size, x_first, x_step;
  std::vector<int64_t> taps;    // offsets in x
  std::vector<int64_t> w_taps;  // offsets in w of the same taps
};

// Forward convolution has one axis each way. The gradient by input has one for each phase of the
// stride: outputs in between belong to different phases, each with taps of its own; all are done
// tile by tile.
struct Correlation {
  int64_t groups, K, C;                     // K output and C input channels per group
  int64_t w_group, w_k, w_c;                // strides of w; it is read in place, never packed
  std::vector<CorrelationAxis> rows, cols;  // the first of each has the largest count
  bool streaming = false;                   // of y, see cpu/kernels.h
};

Correlation forward_correlation(const Conv2dShape& shape, bool streaming);
Correlation backward_input_correlation(const Conv2dShape& shape, bool streaming);

// Of the outputs of an axis, by phases, those from number `at` on, and those before it.
std::vector<CorrelationAxis> outputs_from(const std::vector<CorrelationAxis>& axis, int64_t at);
std::vector<CorrelationAxis> outputs_before(const std::vector<CorrelationAxis>& axis, int64_t at);

}  // namespace fastconv::cpu
