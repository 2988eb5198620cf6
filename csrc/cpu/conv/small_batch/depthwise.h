// Convolution of a few samples where each group has one input channel: forward, by weight.
#pragma once

#include "cpu/kernels.h"
#include "ops/conv2d.h"

namespace fastconv {

// For groups of one input channel: whether this is quicker than what other groups run on.
bool depthwise_few_pays(const Conv2dShape& s);
// y, x, w: plain. bias may be null. Pointers in finish are to arrays of OC floats and of y's shape.
void depthwise_few(float* y, const float* x, const float* w, const float* bias,
                   const Conv2dShape& s, const cpu::ChannelPostOps& finish);

// dw, dy, x: plain; for the shapes that the kernel takes.
bool has_depthwise_weight_small_batch(const Conv2dShape& s);
void depthwise_weight_small_batch(float* dw, const float* dy, const float* x, const Conv2dShape& s);

}  // namespace fastconv
