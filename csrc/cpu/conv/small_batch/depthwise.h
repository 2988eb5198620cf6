// Convolution of a small batch where each group has one input channel: forward, by weight.
#pragma once

#include "contract/conv2d_shape.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// For groups of one input channel: whether this is quicker than what other groups run on.
bool depthwise_small_batch_pays(const Conv2dShape& s);
// y, x, w: plain. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
void depthwise_small_batch(float* y, const float* x, const float* w, const float* bias,
                           const Conv2dShape& s, const ChannelPostOps& post);

// dw, dy, x: plain; for the shapes that the kernel takes.
bool depthwise_weight_small_batch_applies(const Conv2dShape& s);
void depthwise_weight_small_batch(float* dw, const float* dy, const float* x, const Conv2dShape& s);

}  // namespace fastconv::cpu
