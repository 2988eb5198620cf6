// A convolution and the 2x2 max pooling behind it, without the convolution's output: forward four
// outputs are compared in registers, and on the way back three of four gradients would be zero.
// For small networks.
#pragma once

#include "ops/conv_stage.h"

namespace fastconv {

// Whether windows are 2x2, side by side and all inside.
bool pools_side_by_side(const Conv2dShape& s, const ConvStage& stage);

// Whether this is the quicker way, forward and back, from the shape alone: such windows, and sums
// short enough for pooling to count, none that Winograd computes.
bool conv_pool_applies(const Conv2dShape& s, const ConvStage& stage);
// Back, moreover, kernels of 3x3 or 5x5 and stride 1; what Winograd computes by weight as long as
// it takes longer.
bool conv_pool_backward_applies(const Conv2dShape& s, const ConvStage& stage);

// y and, where it is defined, argmax are overwritten. w plain; b may be undefined.
void conv_pool_forward(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, bool relu);

// The same of plain images, one to fifteen of them, without argmax.
bool conv_pool_small_batch_applies(const Conv2dShape& s, const ConvStage& stage);
void conv_pool_forward_small_batch(Array& y, const Array& x, const Array& w, const Array& b,
                                   const Conv2dShape& s, bool relu);

// The gradients that are wanted: dx in lanes; dw and db, plain, are overwritten. y: undefined
// without ReLU. dx goes through the gradient of the convolution's output where Winograd makes it.
void conv_pool_backward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                        const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                        const ConvStage& stage, const Wanted& wanted);

}  // namespace fastconv
