// The gradients of a convolution for a small batch: plain images in, plain images out.
#pragma once

#include "contract/conv2d_shape.h"
#include "core/array.h"

namespace fastconv::cpu {

// False where padding goes beyond the kernel, so that outputs lie outside every input's reach.
bool has_backward_input_small_batch(const Conv2dShape& shape);

// dx; bias (IC floats) may be null.
void backward_input_small_batch(float* dx, const float* dy, const float* w, const float* bias,
                                const Conv2dShape& shape);
void backward_weight_small_batch(float* dw, const float* dy, const float* x,
                                 const Conv2dShape& shape);

}  // namespace fastconv::cpu
