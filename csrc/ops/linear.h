// Linear layers: y = x w^T + b, x (N, I), w (O, I), y (N, O).
#pragma once

#include <utility>

#include "contract/operations.h"

namespace fastconv {

// (y, x): the second is x as linear_backward_weight likes it best. b may be undefined.
std::pair<Array, Array> linear(const Array& x, const Array& w, const Array& b,
                               Activation activation, Use use);
Array linear_backward_input(const Array& dy, const Array& w);   // dx = dy w
Array linear_backward_weight(const Array& dy, const Array& x);  // dw = dy^T x

}  // namespace fastconv
