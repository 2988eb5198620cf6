// The sizes of a 2-D convolution (cross-correlation, as everywhere in the field):
//
//   y[n][k][oh][ow] = b[k] + sum_{c,r,s} w[k][c][r][s] * x[n][c][oh*stride - top + r*dilation][...]
#pragma once

#include <array>

#include "core/shape.h"

namespace fastconv {

// How windows lie on an image.
struct Geometry {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> pads{0, 0, 0, 0};  // top, bottom, left, right
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;
};

// Every size of one convolution, checked.
struct Conv2dShape {
  int64_t N, IC, IH, IW, OC, KH, KW, OH, OW;
  int64_t IC_per_group, OC_per_group;
  Geometry geometry;

  Shape x() const { return {N, IC, IH, IW}; }
  Shape w() const { return {OC, IC_per_group, KH, KW}; }
  Shape y() const { return {N, OC, OH, OW}; }
};

}  // namespace fastconv
