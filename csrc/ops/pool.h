// Pooling over windows of images (N, C, H, W), plain or in lanes: maxima, averages, averages over a
// given number of cells. Semantics and rounding of sizes are torch's.
#pragma once

#include <utility>

#include "contract/pool_shape.h"
#include "core/array.h"

namespace fastconv {

// OH = (IH + top + bottom - dilation * (KH - 1) - 1) / stride + 1, rounded down, or up in ceil
// mode; but the last window starts inside the image or its top padding, never below. OW likewise.
// Checks everything.
Shape pooled_shape(const char* op, const Shape& x, const PoolParams& params);

// y and, for each of its elements, the position kh * KW + kw of the maximum (uint16): of the first
// NaN, else of the first maximum; undefined unless `placed`. relu: of max(x, 0).
std::pair<Array, Array> max_pool2d_forward(const Array& x, const PoolParams& params, bool relu,
                                           bool placed = true);
// The same into memory that is there, of the right shapes and x's layout; argmax may be undefined.
void max_pool2d_forward_into(Array& y, Array& argmax, const Array& x, const PoolParams& params,
                             bool relu);
// Of the gradient of the maxima, their positions and, where there was a ReLU, the maxima: element
// types, and that all have one shape.
void check_pool_gradient(const Array& dy, const Array& argmax, const Array& y);
// y: the output of a forward pass with relu, else undefined. ceil_mode of params is not used: dy
// tells.
Array max_pool2d_backward(const Array& dy, const Array& argmax, const Array& y,
                          const Shape& x_shape, const PoolParams& params);
// int64, plain: ih * IW + iw of each maximum.
Array max_pool2d_indices(const Array& argmax, const Shape& x_shape, const PoolParams& params);

// divisor_override: 0 for none.
Array avg_pool2d_forward(const Array& x, const PoolParams& params, bool count_include_pad,
                         int64_t divisor_override);
Array avg_pool2d_backward(const Array& dy, const Shape& x_shape, const PoolParams& params,
                          bool count_include_pad, int64_t divisor_override);
// Cell i of O averages the pixels from floor(i * I / O) to ceil((i + 1) * I / O) - 1.
Array adaptive_avg_pool2d_forward(const Array& x, std::array<int64_t, 2> output_size);
Array adaptive_avg_pool2d_backward(const Array& dy, const Shape& x_shape);

}  // namespace fastconv
