// Strided convolutions as ones with stride 1, which Winograd's algorithm can take: the pixels of
// each phase of the stride become channels of their own, and so do the taps that meet them.
//
//   r = q * stride + phase:   x'[c][phase][h] = x[c][h * stride + phase - pad],  w'[k][c][phase][q]
//
// AlexNet's first layer, 3 channels, 11x11, stride 4, is 48 channels, 3x3; ResNet's, 7x7, stride 2,
// is 12 channels, 4x4.
#pragma once

#include "ops/conv2d.h"
#include "ops/winograd.h"

namespace fastconv {

// Whether Winograd on the folded shape is quicker than the formula; from the shape alone.
bool fold_pays(const Conv2dShape& shape, Pass pass);

Conv2dShape folded(const Conv2dShape& shape);

// x and w of the folded convolution; x in lanes, w plain.
Array fold_image(const Array& x, const Conv2dShape& shape);
Array fold_weight(const Array& w, const Conv2dShape& shape);

// The adjoint of each: dx in lanes, start[c] (0 where null) added; dw plain.
void unfold_image(Array& dx, const Array& folded_dx, const float* start, const Conv2dShape& shape);
Array unfold_weight(const Array& folded_dw, const Conv2dShape& shape);

}  // namespace fastconv
