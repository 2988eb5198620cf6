// Linear layers: y = x w^T + b, x (N, I), w (O, I), y (N, O).
#pragma once

#include "core/array.h"

namespace fastconv {

// y has the layout of x. b may be undefined.
Array linear_forward(const Array& x, const Array& w, const Array& b, bool relu);
// dx = dy w, in the layout of dy.
Array linear_backward_input(const Array& dy, const Array& w);
// dw = dy^T x, plain (O, I).
Array linear_backward_weight(const Array& dy, const Array& x);

}  // namespace fastconv
