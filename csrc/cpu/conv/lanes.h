// The passes of a convolution on images in lane blocks: by Winograd's algorithm where that is
// quicker, the rest by the formula, and by the formula again where Winograd leaves something that
// is not finite.
//
// min_tasks: into how many tasks work is divided at least (cpu/runtime/thread_pool.h).
#pragma once

#include "contract/conv2d_shape.h"
#include "contract/post_ops.h"
#include "core/array.h"

namespace fastconv::cpu {

// y, x, dx and dy are in lanes, w and dw plain, b plain or undefined. Results are overwritten.
void forward_in_lanes(Array& y, const Array& x, const Array& w, const Array& b,
                      const Conv2dShape& shape, Activation activation, int64_t min_tasks);
void backward_input_in_lanes(Array& dx, const Array& dy, const Array& w, const Array& b,
                             const Conv2dShape& shape, int64_t min_tasks);
void backward_weight_in_lanes(Array& dw, const Array& dy, const Array& x, const Conv2dShape& shape,
                              int64_t min_tasks);

}  // namespace fastconv::cpu
