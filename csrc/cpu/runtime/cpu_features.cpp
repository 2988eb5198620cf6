// CPUID leaves and XCR0 bits: Intel SDM volume 1, chapters 14.3 (AVX) and 15.2 (AVX-512). Both are
// needed: an AVX instruction is illegal under an operating system that does not save its registers.
#include "cpu/runtime/cpu_features.h"

#include <cstdint>

#if defined(_M_X64)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastconv::cpu {

#if defined(__x86_64__) || defined(_M_X64)
namespace {

struct Registers {
  uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(uint32_t leaf) {
#if defined(_M_X64)
  int r[4];
  __cpuidex(r, static_cast<int>(leaf), 0);
  return {static_cast<uint32_t>(r[0]), static_cast<uint32_t>(r[1]), static_cast<uint32_t>(r[2]),
          static_cast<uint32_t>(r[3])};
#else
  Registers r{};
  __cpuid_count(leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
  return r;
#endif
}

uint64_t xcr0() {
#if defined(_M_X64)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool has(uint64_t word, uint64_t bits) { return (word & bits) == bits; }
constexpr uint64_t bit(int n) { return uint64_t{1} << n; }

}  // namespace

CpuFeatures cpu_features() {
  CpuFeatures features{false, false};
  if (cpuid(0).eax < 7) return features;
  const Registers basic = cpuid(1), extended = cpuid(7);
  const bool osxsave = has(basic.ecx, bit(27));
  if (!osxsave) return features;
  const uint64_t saved = xcr0();
  const uint64_t ymm = bit(1) | bit(2);                 // xmm and ymm state
  const uint64_t zmm = ymm | bit(5) | bit(6) | bit(7);  // mask registers, zmm0-15, zmm16-31
  features.avx2 = has(saved, ymm) && has(basic.ecx, bit(12) | bit(28)) &&  // FMA, AVX
                  has(extended.ebx, bit(5));
  features.avx512 = features.avx2 && has(saved, zmm) &&
                    has(extended.ebx, bit(16) | bit(17) | bit(30) | bit(31));  // F, DQ, BW, VL
  return features;
}

#else

CpuFeatures cpu_features() { return {false, false}; }

#endif

}  // namespace fastconv::cpu
