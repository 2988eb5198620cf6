// How arrays come to be, and the same values in other memory or under another shape.
#pragma once

#include "contract/operations.h"

namespace fastconv {

Array full(const Shape& shape, float value, Device device = {});
Array zeros(const Shape& shape, Device device = {});
Array zeros_like(const Array& x);
Array copy(const Array& x);
Array contiguous(const Array& x);  // row-major; x itself if it is
// The same elements, in the same memory where the layout of x allows.
Array reshape(const Array& x, const Shape& shape);

// Samples indices[0 .. n), shape (n, ...). std::out_of_range naming the first bad index.
Array gather_batch(const HostSamples& samples, const int64_t* indices, int64_t n, Use use,
                   Device device = {});

}  // namespace fastconv
