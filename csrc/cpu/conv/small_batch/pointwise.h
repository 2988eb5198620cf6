// Convolution forward for a small batch with kernels of one pixel, stride 1 and no padding.
#pragma once

#include "contract/conv2d_shape.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// y, x, w: plain. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
void pointwise_small_batch(float* y, const float* x, const float* w, const float* bias,
                           const Conv2dShape& s, const ChannelPostOps& post);

}  // namespace fastconv::cpu
