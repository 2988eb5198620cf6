// The way back through a convolution and the 2x2 max pooling behind it, without the gradient of the
// convolution's output: three of four of its elements would be zero.
#pragma once

#include "ops/conv_stage.h"

namespace fastconv {

// Whether this is the quicker way: square kernels of 3 or 5, stride 1, windows side by side and all
// inside, no pass through Winograd, which needs fewer products still, and sizes of a small network.
// From the shape alone.
bool pooled_gradient_applies(const Conv2dShape& s, const ConvStage& stage);

// The gradients that are wanted: dx in lanes; dw and db, plain, are overwritten. dy, y (undefined
// without ReLU), argmax and x in lanes.
void pooled_gradient(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                     const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                     const Wanted& wanted);

}  // namespace fastconv
