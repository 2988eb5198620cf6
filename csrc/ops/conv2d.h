// 2-D convolution (cross-correlation, as everywhere in the field) in its three passes.
//
//   y[n][k][oh][ow] = b[k] + sum_{c,r,s} w[k][c][r][s] * x[n][c][oh*stride - top + r*dilation][...]
#pragma once

#include "contract/conv2d_shape.h"
#include "core/array.h"
#include "ops/norm.h"

namespace fastconv {

Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const Geometry& params);
// The same of arrays, element types and b (may be undefined) checked too.
Conv2dShape conv2d_shape(const Array& x, const Array& w, const Array& b, const Geometry& params);

// x in lanes -> y in lanes; x plain -> y plain (the path for few samples). b may be undefined.
Array conv2d_forward(const Array& x, const Array& w, const Array& b, const Geometry& params,
                     bool relu);
// The same, then batch_norm_eval of y. Of plain x it is one pass: the sums are normalised (rounding
// otherwise than in two) before they are stored.
Array conv_norm_forward(const Array& x, const Array& w, const Array& b, const Geometry& params,
                        const NormStatistics& norm, const Epilogue& epilogue);
// dx in lanes, into memory that is there.
void conv2d_backward_input_into(Array& dx, const Array& dy, const Array& w, const Geometry& params,
                                const Array& b = {});
// dx in lanes, or plain where dy is and samples are fewer than 16. b (IC floats, may be undefined)
// is added to each channel: with it, this is the transposed convolution of dy.
Array conv2d_backward_input(const Array& dy, const Array& w, const Shape& x_shape,
                            const Geometry& params, const Array& b = {});
// dw plain (OC, IC/groups, KH, KW).
Array conv2d_backward_weight(const Array& dy, const Array& x, const Shape& w_shape,
                             const Geometry& params);

}  // namespace fastconv
