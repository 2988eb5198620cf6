// Convolution forward for a few samples with sixteen output channels in a vector.
#pragma once

#include "cpu/kernels.h"
#include "ops/conv2d.h"

namespace fastconv {

// Whether this is quicker than vectors of neighbouring pixels.
bool channels_few_pay(const Conv2dShape& s);

// y, x, w: plain. bias may be null. Pointers in finish are to arrays of OC floats and of y's shape.
void channels_few(float* y, const float* x, const float* w, const float* bias, const Conv2dShape& s,
                  const cpu::ChannelPostOps& finish);
// The maxima of windows of 2x2 outputs side by side, with ReLU or not: y is (N, OC, OH / 2, OW /
// 2).
void channels_pooled_few(float* y, const float* x, const float* w, const float* bias,
                         const Conv2dShape& s, bool relu);

}  // namespace fastconv
