// Convolution forward for a few samples: plain images in, plain images out.
#pragma once

#include "cpu/kernels.h"
#include "ops/conv2d.h"

namespace fastconv {

// bias may be null. Pointers in finish are to arrays of OC floats and of y's shape.
Array conv2d_forward_few(const Array& x, const Array& w, const float* bias,
                         const Conv2dShape& shape, const cpu::Finish& finish);

}  // namespace fastconv
