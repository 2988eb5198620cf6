// The end of a convolution in registers: contract of ChannelPostOps in cpu/sweeps.h.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// `valid` lanes of a vector of sums of channel k; plus: null, or the address of its addends.
FASTCONV_INLINE V finished(V sum, const ChannelPostOps& f, int64_t k, const float* plus,
                           int valid) {
  if (f.scale) sum = fma(sum, set1(f.scale[k]), set1(f.shift[k]));
  if (plus) sum = sum + load_first(plus, valid);
  return min(set1(f.high), max(set1(f.low), sum));  // NaN passes as second operand
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
