// Convolution forward for a few samples: plain images in, plain images out.
#pragma once

#include "ops/conv2d.h"

namespace fastconv {

Array conv2d_forward_few(const Array& x, const Array& w, const float* bias,
                         const Conv2dShape& shape, bool relu);

}  // namespace fastconv
