// Convolution forward for a small batch with sixteen output channels in a vector.
#pragma once

#include "contract/conv2d_shape.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// Whether this is quicker than vectors of neighbouring pixels.
bool channels_small_batch_pays(const Conv2dShape& s);

// y, x, w: plain. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
void channels_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& s, const ChannelPostOps& post);
// The maxima of windows of 2x2 outputs side by side, with ReLU or not: y is (N, OC, OH / 2, OW /
// 2).
void channels_pooled_small_batch(float* y, const float* x, const float* w, const float* bias,
                                 const Conv2dShape& s, bool relu);

}  // namespace fastconv::cpu
