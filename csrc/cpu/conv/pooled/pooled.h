// A convolution with 2x2 max pooling as a post-op, without the convolution's output: forward four
// outputs are compared in registers, and on the way back three of four gradients would be zero.
// For small networks.
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

// Whether this is the quicker way, forward and back, from the shape alone: windows of 2x2, side by
// side and all inside, and sums short enough for pooling to count, none that Winograd computes.
bool pooled_forward_applies(const Conv2dShape& s, const PostOps& post);
// Back, moreover, kernels of 3x3 or 5x5 and stride 1; what Winograd computes by weight as long as
// it takes longer.
bool pooled_backward_applies(const Conv2dShape& s, const PostOps& post);

// y and, where it is defined, argmax are overwritten. w plain; b may be undefined.
void pooled_forward(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                    const Conv2dShape& s, bool relu);

// The same of plain images, one to fifteen of them, without argmax.
bool pooled_small_batch_applies(const Conv2dShape& s, const PostOps& post);
void pooled_forward_small_batch(Array& y, const Array& x, const Array& w, const Array& b,
                                const Conv2dShape& s, bool relu);

// The gradients that are wanted: dx in lanes; dw and db, plain, are overwritten. y: undefined
// without ReLU. dx goes through the gradient of the convolution's output where Winograd makes it.
void pooled_backward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                     const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                     const PoolShape& pool, const Wanted& wanted);

}  // namespace fastconv::cpu
