// The gradient by input, along one axis: input positions first, first + stride, ... share a phase
// (position + pad) % stride. The taps r with r * dilation % stride == phase reach them, no others.
// With position + pad = q * stride + phase and r * dilation = e * stride + phase, tap r meets
// output q - e: at stride 1 this is the textbook's kernel flipped by 180 degrees.
#pragma once

#include <algorithm>
#include <vector>

#include "core/shape.h"

namespace fastconv::cpu {

struct StridePhase {
  int64_t first, count;       // input positions
  std::vector<int64_t> taps;  // in descending order, so that the outputs they meet ascend
};

inline std::vector<StridePhase> stride_phases(int64_t inputs, int64_t kernel, int64_t pad,
                                              int64_t stride, int64_t dilation) {
  std::vector<StridePhase> phases;
  for (int64_t first = 0; first < std::min(stride, inputs); ++first) {
    phases.push_back({first, (inputs - 1 - first) / stride + 1, {}});
    for (int64_t r = kernel - 1; r >= 0; --r)
      if (r * dilation % stride == (first + pad) % stride) phases.back().taps.push_back(r);
  }
  return phases;
}

}  // namespace fastconv::cpu
