// Operations that move, repeat or blend pixels: padding, joining, slicing, enlarging.
#pragma once

#include <array>
#include <vector>

#include "contract/operations.h"

namespace fastconv {

// (N, C, H, W) with `value` around the image; pads (top, bottom, left, right) may be negative,
// which crops. Its gradient is the negative padding.
Array pad2d(const Array& x, const std::array<int64_t, 4>& pads, float value);
// Joins arrays along an axis; their sizes must agree elsewhere.
Array cat(const Arrays& arrays, int64_t axis);
// Indices begin .. end - 1 of an axis.
Array slice_axis(const Array& x, int64_t axis, int64_t begin, int64_t end);

// y[i][j] = x[rows[i]][cols[j]] of every image: enlarging by the nearest pixel, borders that
// reflect or repeat the image. An index may stand there several times; the gradient adds up then.
Array gather2d(const Array& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& cols);
Array gather2d_backward(const Array& dy, const std::vector<int64_t>& rows,
                        const std::vector<int64_t>& cols, const Shape& x);
// Linear interpolation at i * (I - 1) / (O - 1), corners aligned, or else at max((i + 0.5) * I / O
// - 0.5, 0).
Array upsample_bilinear2d(const Array& x, std::array<int64_t, 2> output_size, bool align_corners);
Array upsample_bilinear2d_backward(const Array& dy, const Shape& x, bool align_corners);

}  // namespace fastconv
