// Convolution forward for a few samples: plain images in, plain images out.
#pragma once

#include "cpu/kernels.h"
#include "ops/conv2d.h"

namespace fastconv {

// y, x, w: plain. bias may be null. Pointers in finish are to arrays of OC floats and of y's shape.
void conv2d_forward_small_batch(float* y, const float* x, const float* w, const float* bias,
                                const Conv2dShape& shape, const cpu::ChannelPostOps& finish);

}  // namespace fastconv
