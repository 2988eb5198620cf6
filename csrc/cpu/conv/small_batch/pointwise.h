// Convolution forward for a few samples with kernels of one pixel, stride 1 and no padding.
#pragma once

#include "cpu/kernels.h"
#include "ops/conv2d.h"

namespace fastconv {

bool is_pointwise(const Conv2dShape& s);

// y, x, w: plain. bias may be null. Pointers in finish are to arrays of OC floats and of y's shape.
void pointwise_few(float* y, const float* x, const float* w, const float* bias,
                   const Conv2dShape& s, const cpu::ChannelPostOps& finish);

}  // namespace fastconv
