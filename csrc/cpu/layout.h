// Between plain arrays and lane blocks (core/array.h), once at each edge of a network.
#pragma once

#include <cstdint>

#include "core/array.h"

namespace fastconv {

// The same array in the other layout; itself, sharing storage, when it is there already. Empty
// lanes become 0.
Array to_lanes(const Array& x);
Array to_plain(const Array& x);
Array as_layout(const Array& x, Layout layout);

// Samples indices[0 .. n) of a row-major array (count, ...) of uint8 or float32, as
// x * scale[c] + shift[c] in lanes, shape (n, ...). c is the place along axis 1 when `channels` is
// shape[1], and 0 when it is 1. std::out_of_range naming the first bad index.
Array gather_lanes(const void* x, DType dtype, const Shape& shape, const int64_t* indices,
                   int64_t n, const float* scale, const float* shift, int64_t channels);

// The matrices (K, C) of so many groups as (C, K), with `row` floats from one c to the next.
void transpose_matrices(float* turned, int64_t row, const float* w, int64_t groups, int64_t K,
                        int64_t C);

}  // namespace fastconv
