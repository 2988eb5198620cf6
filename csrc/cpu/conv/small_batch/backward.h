// The gradients of a convolution for a few samples: plain images in, plain images out.
#pragma once

#include "ops/conv2d.h"

namespace fastconv {

// False where padding goes beyond the kernel, so that outputs lie outside every input's reach.
bool has_backward_input_small_batch(const Conv2dShape& shape);

// dx; bias (IC floats) may be null.
void conv2d_backward_input_small_batch(float* dx, const float* dy, const float* w,
                                       const float* bias, const Conv2dShape& shape);
void conv2d_backward_weight_small_batch(float* dw, const float* dy, const float* x,
                                        const Conv2dShape& shape);

}  // namespace fastconv
