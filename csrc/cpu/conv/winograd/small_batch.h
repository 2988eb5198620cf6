// 3x3 and 5x5 convolutions with stride 1 of one to fifteen plain images through Winograd's
// F(4x4, 3x3) and F(2x2, 5x5).
#pragma once

#include "contract/conv2d_shape.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// Whether it is quicker than the direct sum; from the shape alone. Never when forbidden
// (allow_winograd in winograd/winograd.h).
bool winograd_small_batch_pays(const Conv2dShape& shape);
// Of a core with one product of vectors a cycle.
double winograd_small_batch_cycles(const Conv2dShape& shape);

// y, x, w: plain. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
// Returns whether all sums are finite; those that are not become NaN in y, whatever post says.
bool winograd_forward_small_batch(float* y, const float* x, const float* w, const float* bias,
                                  const Conv2dShape& shape, const ChannelPostOps& post);

}  // namespace fastconv::cpu
