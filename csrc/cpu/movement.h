// Operations that move pixels (contract/operations.h). Results have the layout of the first array.
// Along axis 0, whose samples lanes hold in blocks, arrays are plain.
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

Array pad2d(const Array& x, const Shape& y, const std::array<int64_t, 4>& pads, float value);
Array cat(const Arrays& arrays, const Shape& y, int axis);
Array slice_axis(const Array& x, int axis, int64_t begin, int64_t end);
Array gather2d(const Array& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& cols);

}  // namespace fastconv::cpu
