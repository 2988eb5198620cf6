// Convolutions through Winograd's F(m x m, r x r): 36 products for m * m outputs, m + r = 7, where
// the formula has m * m * r * r, 144 for 3x3 kernels; 25 for 4 x 4 outputs of 2x2 kernels, or 3 x 3
// of 3x3 ones. On images in lane blocks. r is the size of the kernels with stride 1, or of the
// phases of larger strides (winograd/phases.h).
#pragma once

#include "contract/conv2d_shape.h"

namespace fastconv::cpu {

enum class Pass { forward, backward_input, backward_weight };

// The outputs (row < rows, col < cols) of one pass that Winograd computes quicker than the formula,
// from the shape alone, so that the choice is the same on every run: all of them, all but a last
// row or column that would need tiles of its own, or none (0, 0). None when forbidden; only for
// square kernels and strides, no dilation, one group. By weight and with strides it is all or none.
// By input there are two ways: the forward one with flipped weights, in tiles of dx, and, with
// stride 1, the adjoint of the forward pass, in tiles of dy, which are fewer where there is no
// padding.
struct WinogradPart {
  int64_t rows, cols;
  int64_t points;  // along an axis of a tile
  bool adjoint = false;
  // Of all outputs, in cycles for each pair of channels of a core with one product a cycle; without
  // meaning where none are computed.
  double cost = 0.0;
};
WinogradPart winograd_part(const Conv2dShape& shape, Pass pass);

void allow_winograd(bool allowed);
bool winograd_allowed();
// Allowed, and a shape that it can be used for with profit if the image is large enough.
bool winograd_applies(const Conv2dShape& shape);

// The three passes, for the part of the outputs given. Images in lane blocks; w and dw (OC, IC, KH,
// KW) plain; bias may be null.
//
// One value that is not finite makes a whole tile so, and a transform may overflow where the
// formula does not. So they return whether all sums are finite. Otherwise those that are not are
// NaN or infinite in the result, NaN after a ReLU, and are to be computed by the formula
// (winograd/not_finite.h).
bool winograd_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Conv2dShape& shape, const WinogradPart& part,
                      bool streaming, int64_t min_tasks);
bool winograd_backward_input(float* dx, const float* dy, const float* w, const float* bias,
                             int64_t blocks, const Conv2dShape& shape, const WinogradPart& part,
                             bool streaming, int64_t min_tasks);
bool winograd_backward_weight(float* dw, const float* dy, const float* x, int64_t blocks,
                              const Conv2dShape& shape, const WinogradPart& part,
                              int64_t min_tasks);

}  // namespace fastconv::cpu
