// Linear layers (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

std::pair<Array, Array> linear(const Array& x, const Array& w, const Array& b,
                               Activation activation, Use use);
Array linear_backward_input(const Array& dy, const Array& w);
Array linear_backward_weight(const Array& dy, const Array& x);

}  // namespace fastconv::cpu
