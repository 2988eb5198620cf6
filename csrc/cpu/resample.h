// Linear maps of images that take rows and columns apart (contract/operations.h).
#pragma once

#include "contract/operations.h"
#include "cpu/kernels.h"

namespace fastconv::cpu {

inline Taps taps_of(const TapTable& table) {
  return {table.begin(), table.index(), table.weight()};
}

Array resample(const Array& x, const Resampling& map, std::optional<Use> use);

}  // namespace fastconv::cpu
