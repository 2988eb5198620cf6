// Maxima of windows of images, and their gradient (contract/operations.h). Shapes may be of the
// whole batch where the arrays are some of its samples and channels.
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

std::pair<Array, Array> max_pool2d(const Array& x, const PoolShape& shape, bool relu,
                                   bool with_indices, Use use);
// The same into memory that is there, of the right shapes and x's layout; argmax may be undefined.
void max_pool2d_into(Array& y, Array& argmax, const Array& x, const PoolShape& shape, bool relu);
Array max_pool2d_backward(const Array& dy, const Array& argmax, const Array& y,
                          const PoolShape& shape);
Array max_pool2d_indices(const Array& argmax, const PoolShape& shape);

}  // namespace fastconv::cpu
