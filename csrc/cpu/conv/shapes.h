// Convolutions that are something simpler.
#pragma once

#include "contract/conv2d_shape.h"

namespace fastconv::cpu {

inline bool has_no_padding(const Conv2dShape& s) {
  return s.geometry.pads == std::array<int64_t, 4>{0, 0, 0, 0};
}

// 1x1 kernels: a product of matrices, channels by pixels.
inline bool is_pointwise(const Conv2dShape& s) {
  return s.KH == 1 && s.KW == 1 && has_no_padding(s);
}

// A kernel as large as its image: a linear layer of all pixels, in either layout.
inline bool is_linear(const Conv2dShape& s) {
  return s.N > 0 && s.KH == s.IH && s.KW == s.IW && s.geometry.groups == 1 && has_no_padding(s) &&
         s.geometry.dilation == std::array<int64_t, 2>{1, 1};
}

}  // namespace fastconv::cpu
