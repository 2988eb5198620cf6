// Linear maps of images that take rows and columns apart: average pooling, nearest and bilinear
// interpolation, and (transposed) their gradients. An operation says which inputs each output row
// and column is made from; the rest is one kernel.
#pragma once

#include <vector>

#include "contract/tap_table.h"
#include "core/array.h"
#include "cpu/kernels.h"

namespace fastconv {

inline cpu::Taps taps_of(const TapTable& table) {
  return {table.begin(), table.index(), table.weight()};
}

// (N, C, IH, IW) -> (N, C, rows.outputs(), cols.outputs()), in the layout of x. Divisors: one an
// output, or both empty.
Array resample(const Array& x, const TapTable& rows, const TapTable& cols,
               const std::vector<float>& row_divisor = {},
               const std::vector<float>& col_divisor = {});

}  // namespace fastconv
