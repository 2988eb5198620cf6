// The CPU's layouts (core/array.h): which one a batch runs in, and the way between them.
#pragma once

#include <cstdint>

#include "contract/operations.h"

namespace fastconv::cpu {

// The layout a batch (N, ...) runs in.
Layout batch_layout(const Shape& x, Use use);
// x in lanes where that is the layout it runs in. What is in lanes already stays there.
Array in_batch_layout(const Array& x, Use use);

// The same array in the other layout; itself, sharing storage, when it is there already. Empty
// lanes become 0.
Array to_lanes(const Array& x);
Array to_plain(const Array& x);
Array as_layout(const Array& x, Layout layout);

// Entries of the table (contract/operations.h).
Array contiguous(const Array& x);
Array gather_batch(Device device, const HostSamples& samples, const int64_t* indices, int64_t n,
                   Use use);

// The matrices (K, C) of so many groups as (C, K), with `row` floats from one c to the next.
void transpose_matrices(float* transposed, int64_t row, const float* w, int64_t groups, int64_t K,
                        int64_t C);

}  // namespace fastconv::cpu
