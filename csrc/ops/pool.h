// Pooling over windows of images (N, C, H, W): maxima, averages, averages over a given number of
// cells. What a window covers and how sizes round is torch's.
#pragma once

#include <array>
#include <utility>

#include "contract/operations.h"

namespace fastconv {

// OH = (IH + top + bottom - dilation * (KH - 1) - 1) / stride + 1, rounded down, or up in ceil
// mode; but the last window starts inside the image or its top padding, never below. OW likewise.
// Checks everything.
PoolShape pool2d_shape(const char* op, const Shape& x, const PoolParams& params);
// The same for maxima, whose position in a window must fit 16 bits.
PoolShape max_pool2d_shape(const char* op, const Shape& x, const PoolParams& params);
// The same of a gradient dy (or of the positions), whose size tells which way the forward pass
// rounded: ceil_mode of params is not used.
PoolShape max_pool2d_shape_of_gradient(const char* op, const Array& dy, const Shape& x,
                                       PoolParams params);
// Of the gradient of the maxima, their positions and, where there was a ReLU, the maxima: element
// types, and that all have one shape.
void check_pool_gradient(const Array& dy, const Array& argmax, const Array& y);

// y and, with_indices, the position kh * KW + kw of each maximum. relu: of max(x, 0).
std::pair<Array, Array> max_pool2d(const Array& x, const PoolParams& params, bool relu,
                                   bool with_indices, Use use);
// y: the output of a forward pass with relu, else undefined.
Array max_pool2d_backward(const Array& dy, const Array& argmax, const Array& y, const Shape& x,
                          const PoolParams& params);
// int64: ih * IW + iw of each maximum.
Array max_pool2d_indices(const Array& argmax, const Shape& x, const PoolParams& params);

struct Averaging {
  bool count_include_pad;
  int64_t divisor_override;  // 0 for none
};
Array avg_pool2d(const Array& x, const PoolParams& params, const Averaging& averaging, Use use);
// leaf: dy comes from the user, not from an operation, and may be moved to another layout.
Array avg_pool2d_backward(const Array& dy, const Shape& x, const PoolParams& params,
                          const Averaging& averaging, bool leaf);
// Cell i of O averages the pixels from floor(i * I / O) to ceil((i + 1) * I / O) - 1.
Array adaptive_avg_pool2d(const Array& x, std::array<int64_t, 2> output_size, Use use);
Array adaptive_avg_pool2d_backward(const Array& dy, const Shape& x);

}  // namespace fastconv
