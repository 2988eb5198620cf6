// The post-ops of a convolution on one vector of sums (contract: ChannelPostOps in cpu/tiles.h).
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Sums of channel k, of which `valid` count. plus: the address of their addends, or null.
FASTCONV_INLINE V with_post_ops(V sum, const ChannelPostOps& ops, int64_t k, const float* plus,
                                int valid) {
  if (ops.scale) sum = fma(sum, set1(ops.scale[k]), set1(ops.shift[k]));
  if (plus) sum = sum + load_first(plus, valid);
  return min(set1(ops.high), max(set1(ops.low), sum));  // NaN passes as second operand
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
