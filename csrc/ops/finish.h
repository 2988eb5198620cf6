// Ends of convolutions (cpu::Finish) for operations.
#pragma once

#include <limits>

#include "cpu/kernels.h"

namespace fastconv {

// Nothing but ReLU, or nothing at all.
inline cpu::Finish finish_relu(bool relu) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {nullptr, nullptr, nullptr, relu ? 0.0f : -kInfinity, kInfinity};
}

// The end of output channels from k on, whose y begins at float `at`.
inline cpu::Finish finish_from(cpu::Finish finish, int64_t k, int64_t at) {
  if (finish.scale) finish.scale += k, finish.shift += k;
  if (finish.plus) finish.plus += at;
  return finish;
}

}  // namespace fastconv
