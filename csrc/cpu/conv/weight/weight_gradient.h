// The gradient of a convolution's weights: two ways of summing over samples and pixels. dw is plain
// and overwritten; dy and x have `blocks` blocks of sixteen samples or, where not in lanes, of one.
#pragma once

#include "contract/conv2d_shape.h"

namespace fastconv::cpu {

// Lanes are added up at the end: for few channels.
void weight_gradient_dot(float* dw, const float* dy, const float* x, int64_t blocks,
                         const Conv2dShape& shape);

// Channels are moved into the lanes first, so that there is nothing to add up: for many.
bool weight_gradient_transposed_pays(const Conv2dShape& shape, bool lanes);
void weight_gradient_transposed(float* dw, const float* dy, const float* x, int64_t blocks,
                                bool lanes, const Conv2dShape& shape);

}  // namespace fastconv::cpu
