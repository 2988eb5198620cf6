// The peak that benchmarks take shares of: as many fused multiply-adds as the CPU can do, on
// registers alone.
//
//   x[i] = x[i] * a + b       kChains independent chains, no loads
#include "cpu/kernels/functions.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Independent chains: enough to cover the latency (at most 5 cycles) of two instructions a cycle,
// and few enough for the registers there are.
constexpr int kChains = kWidth == 16 ? 24 : 12;

}  // namespace

double fma_loop(int64_t rounds) {
  // Read through volatile, so that the compiler cannot know the values and compute the result.
  volatile float half = 0.5f, one = 1.0f;
  const V a = set1(half), b = set1(one);
  V x[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) x[i] = set1(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) x[i] = fma(x[i], a, b);
  }
  V sum = zero();
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) sum = sum + x[i];
  float lanes[kWidth];
  store(lanes, sum);
  volatile float keep = 0.0f;  // every lane counts, or the compiler drops the others' work
  for (int i = 0; i < kWidth; ++i) keep = keep + lanes[i];
  return 2.0 * kChains * kWidth * static_cast<double>(rounds);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
