// Ends of convolutions (cpu::ChannelPostOps) for operations.
#pragma once

#include <limits>

#include "cpu/dispatch.h"

namespace fastconv {

// Nothing but ReLU, or nothing at all.
inline cpu::ChannelPostOps finish_relu(bool relu) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return {nullptr, nullptr, nullptr, relu ? 0.0f : -kInfinity, kInfinity};
}

// The end of output channels from k on, whose y begins at float `at`.
inline cpu::ChannelPostOps finish_from(cpu::ChannelPostOps finish, int64_t k, int64_t at) {
  if (finish.scale) finish.scale += k, finish.shift += k;
  if (finish.plus) finish.plus += at;
  return finish;
}

// The end of one sum of output channel k, whose y is element `at`.
inline float finished(float sum, const cpu::ChannelPostOps& finish, int64_t k, int64_t at) {
  if (finish.scale) sum = sum * finish.scale[k] + finish.shift[k];
  if (finish.plus) sum += finish.plus[at];
  if (sum < finish.low) sum = finish.low;
  return sum > finish.high ? finish.high : sum;
}

// The same for n neighbours in y, in place.
inline void finish_plane(float* y, const cpu::ChannelPostOps& finish, int64_t n) {
  const float mean = 0.0f, one = 1.0f, zero = 0.0f;
  cpu::kernels().channel_affine(
      y, y, finish.plus, 0, 1, 1, n, &mean, finish.scale ? finish.scale : &one,
      finish.scale ? finish.shift : &zero, finish.low, finish.high, false);
}

}  // namespace fastconv
