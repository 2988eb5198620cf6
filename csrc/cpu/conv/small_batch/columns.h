// By input of a few plain images without turning the weights.
#pragma once

#include "ops/conv2d.h"

namespace fastconv {

// dx; bias (IC floats) may be null. Input channels of a group: a multiple of kLanes.
void columns_few(float* dx, const float* dy, const float* w, const float* bias,
                 const Conv2dShape& shape);

}  // namespace fastconv
