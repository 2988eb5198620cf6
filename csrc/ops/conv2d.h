// 2-D convolution (cross-correlation, as everywhere in the field) in its three passes.
//
//   y[n][k][oh][ow] = b[k] + sum_{c,r,s} w[k][c][r][s] * x[n][c][oh*stride - top + r*dilation][...]
#pragma once

#include <array>

#include "core/array.h"
#include "ops/norm.h"

namespace fastconv {

struct Conv2dParams {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> pads{0, 0, 0, 0};  // top, bottom, left, right
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;
};

// Every size of one convolution, checked. The only place where its output size is computed:
// OH = (IH + top + bottom - dilation * (KH - 1) - 1) / stride + 1, rounded down.
struct Conv2dShape {
  int64_t N, IC, IH, IW, OC, KH, KW, OH, OW;
  int64_t IC_per_group, OC_per_group;
  Conv2dParams params;

  Shape x() const { return {N, IC, IH, IW}; }
  Shape w() const { return {OC, IC_per_group, KH, KW}; }
  Shape y() const { return {N, OC, OH, OW}; }
};
Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const Conv2dParams& params);
// The same of arrays, element types and b (may be undefined) checked too.
Conv2dShape conv2d_shape(const Array& x, const Array& w, const Array& b,
                         const Conv2dParams& params);

// x in lanes -> y in lanes; x plain -> y plain (the path for few samples). b may be undefined.
Array conv2d_forward(const Array& x, const Array& w, const Array& b, const Conv2dParams& params,
                     bool relu);
// The same, then batch_norm_eval of y. Of plain x it is one pass: the sums are normalised (rounding
// otherwise than in two) before they are stored.
Array conv_norm_forward(const Array& x, const Array& w, const Array& b, const Conv2dParams& params,
                        const NormStatistics& norm, const Epilogue& epilogue);
// dx in lanes, into memory that is there.
void conv2d_backward_input_into(Array& dx, const Array& dy, const Array& w,
                                const Conv2dParams& params, const Array& b = {});
// dx in lanes, or plain where dy is and samples are fewer than 16. b (IC floats, may be undefined)
// is added to each channel: with it, this is the transposed convolution of dy.
Array conv2d_backward_input(const Array& dy, const Array& w, const Shape& x_shape,
                            const Conv2dParams& params, const Array& b = {});
// dw plain (OC, IC/groups, KH, KW).
Array conv2d_backward_weight(const Array& dy, const Array& x, const Shape& w_shape,
                             const Conv2dParams& params);

}  // namespace fastconv
