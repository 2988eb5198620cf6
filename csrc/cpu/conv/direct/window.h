// A rectangle of an image in lane blocks, with zeros outside the image: what a tile of output rows
// and columns reads. Taken in place where it lies inside the image, copied into scratch where it
// does not, so that kernels never test for edges.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/array.h"

namespace fastconv::cpu {

struct Window {
  const float* data;          // element (channel 0, row 0, col 0) of the rectangle
  int64_t channel, row, col;  // strides in floats
};

// The rectangle [row0, row0 + rows) x [col0, col0 + cols) of C channels of IH x IW lane vectors,
// copied into `scratch`, C * rows * cols * 16 floats.
inline Window copy_window(const float* image, int64_t C, int64_t IH, int64_t IW, int64_t row0,
                          int64_t col0, int64_t rows, int64_t cols, float* scratch) {
  const int64_t first = std::min(cols, std::max<int64_t>(0, -col0));  // columns left of the image
  const int64_t last = std::max(first, std::min(cols, IW - col0));    // end of those inside it
  const auto bytes = [](int64_t vectors) {
    return static_cast<size_t>(vectors * kLanes) * sizeof(float);
  };
  float* out = scratch;
  for (int64_t c = 0; c < C; ++c) {
    for (int64_t r = 0; r < rows; ++r, out += cols * kLanes) {
      const int64_t ih = row0 + r;
      if (ih < 0 || ih >= IH || last == first) {
        std::memset(out, 0, bytes(cols));
        continue;
      }
      const float* in = image + ((c * IH + ih) * IW + col0) * kLanes;
      if (first > 0) std::memset(out, 0, bytes(first));
      std::memcpy(out + first * kLanes, in + first * kLanes, bytes(last - first));
      if (last < cols) std::memset(out + last * kLanes, 0, bytes(cols - last));
    }
  }
  return {scratch, rows * cols * kLanes, cols * kLanes, kLanes};
}

// The same, copied only when the rectangle leaves the image.
inline Window take_window(const float* image, int64_t C, int64_t IH, int64_t IW, int64_t row0,
                          int64_t col0, int64_t rows, int64_t cols, float* scratch) {
  const bool inside = row0 >= 0 && col0 >= 0 && row0 + rows <= IH && col0 + cols <= IW;
  if (inside) return {image + (row0 * IW + col0) * kLanes, IH * IW * kLanes, IW * kLanes, kLanes};
  return copy_window(image, C, IH, IW, row0, col0, rows, cols, scratch);
}

}  // namespace fastconv::cpu
