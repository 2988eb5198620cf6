// The driver of the broadcast tile over images in lane blocks: forward convolution, the gradient by
// input, transposed convolution.
#pragma once

#include <vector>

#include "core/array.h"

namespace fastconv {

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
// band by band.
struct Correlation {
  int64_t groups, K, C;                     // K output and C input channels per group
  int64_t w_group, w_k, w_c;                // strides of w; it is read in place, never packed
  std::vector<CorrelationAxis> rows, cols;  // the first of each has the largest count
  bool streaming = false;                   // of y, see cpu/kernels.h
};

// Of the outputs of an axis, by phases, those from number `at` on, or those before it.
std::vector<CorrelationAxis> cut_axis(const std::vector<CorrelationAxis>& axis, int64_t at,
                                      bool from_there);

// y: all channels of every block; elements that no output lands on are not touched. bias: groups *
// K floats or null.
void correlate(float* y, const float* x, const float* w, const float* bias, bool relu,
               int64_t blocks, const Correlation& job);

}  // namespace fastconv
