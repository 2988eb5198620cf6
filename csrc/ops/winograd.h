// 3x3 convolutions with stride 1 through Winograd's F(4x4, 3x3): 36 products for 16 outputs where
// the formula has 144, on images in lane blocks.
#pragma once

#include "ops/conv2d.h"

namespace fastconv {

enum class Pass { forward, backward_input, backward_weight };

// Whether Winograd is the quicker way for one pass of a convolution, from its shape alone, so that
// the choice is the same on every run. Never when forbidden, and only for 3x3, stride 1, no
// dilation, one group.
bool winograd_pays(const Conv2dShape& shape, Pass pass);

void allow_winograd(bool allowed);
bool winograd_allowed();

// The three passes, where winograd_pays(). Images in lane blocks; w and dw (OC, IC, 3, 3) plain;
// bias may be null.
void winograd_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Conv2dShape& shape);
void winograd_backward_input(float* dx, const float* dy, const float* w, const float* bias,
                             int64_t blocks, const Conv2dShape& shape);
void winograd_backward_weight(float* dw, const float* dy, const float* x, int64_t blocks,
                              const Conv2dShape& shape);

}  // namespace fastconv
