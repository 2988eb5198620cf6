// How arrays come to be (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

Array full(Device device, const Shape& shape, float value);
Array zeros_like(const Array& x);
Array copy(const Array& x);

}  // namespace fastconv::cpu
