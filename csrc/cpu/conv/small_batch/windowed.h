// Convolution forward for a small batch with sixteen neighbouring pixels in a vector.
#pragma once

#include "contract/conv2d_shape.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// y, x, w: plain. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
void windowed_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& shape, const ChannelPostOps& post);

}  // namespace fastconv::cpu
