// By input for a small batch without transposing the weights.
#pragma once

#include "contract/conv2d_shape.h"
#include "core/array.h"

namespace fastconv::cpu {

// Whether this is quicker than phase by phase (small_batch/backward.h).
bool columns_small_batch_pay(const Conv2dShape& shape);

// dx; bias (IC floats) may be null. Input channels of a group: a multiple of kLanes.
void columns_small_batch(float* dx, const float* dy, const float* w, const float* bias,
                         const Conv2dShape& shape);

}  // namespace fastconv::cpu
