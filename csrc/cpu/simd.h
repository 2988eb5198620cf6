// A vector of floats, under the same names on every instruction set. kernels/*.cpp are compiled
// once for each set, with FASTCONV_ISA_<SET> defined and the matching compiler flags. The functions
// are in simd_scalar.h (their plain meaning), simd_avx2.h and simd_avx512.h.
//
//   V, Mask, U   a vector of floats, of truth values, of unsigned integers
//   kWidth       floats in a vector: 16 (avx512), 8 (avx2), 4 (scalar, any CPU)
//   kParts       vectors in a lane block of sixteen samples
//
// Everything here has internal linkage: an object compiled with AVX flags must not offer the linker
// a shared copy of anything. For the same reason kernels use no templates of the standard library.
//
// AVX2 and AVX-512 give the same bits: each lane sees the same operations in the same order, and
// reduce() adds the sixteen lanes of a block in one fixed order. Scalar has no fused multiply-add.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_MSC_VER)
#define FASTCONV_INLINE __forceinline
#define FASTCONV_RESTRICT __restrict
#else
#define FASTCONV_INLINE inline __attribute__((always_inline))
#define FASTCONV_RESTRICT __restrict__
#endif

#if defined(FASTCONV_ISA_AVX512)
#define FASTCONV_ISA avx512
#elif defined(FASTCONV_ISA_AVX2)
#define FASTCONV_ISA avx2
#else
#define FASTCONV_ISA scalar
#endif

#if defined(FASTCONV_ISA_AVX512)
#include "cpu/simd_avx512.h"
#elif defined(FASTCONV_ISA_AVX2)
#include "cpu/simd_avx2.h"
#else
#include "cpu/simd_scalar.h"
#endif

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Keeps a in a register. The compiler would otherwise fold the load into each instruction that uses
// it.
FASTCONV_INLINE V loaded(V a) {
#if defined(FASTCONV_ISA_AVX512) && !defined(_MSC_VER)
  __asm__("" : "+v"(a.v));
#elif defined(FASTCONV_ISA_AVX2) && !defined(_MSC_VER)
  __asm__("" : "+x"(a.v));
#endif
  return a;
}

// Keeps a pointer or number in a register of its own: hides from the compiler how it was computed.
template <class T>
FASTCONV_INLINE T hidden(T a) {
#if !defined(_MSC_VER)
  __asm__("" : "+r"(a));
#endif
  return a;
}

#if defined(FASTCONV_ISA_AVX512) || defined(FASTCONV_ISA_AVX2)
constexpr bool kPrefetches = true;
#else
constexpr bool kPrefetches = false;
#endif
// Prefetches the cache line around p into L2. Any address is allowed.
FASTCONV_INLINE void prefetch([[maybe_unused]] const void* p) {
#if defined(FASTCONV_ISA_AVX512) || defined(FASTCONV_ISA_AVX2)
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
#endif
}

constexpr int kBlock = 16;               // samples in a lane block (kLanes in core/array.h)
constexpr int kParts = kBlock / kWidth;  // vectors in a lane block

// The sum of sixteen floats in one fixed order on every instruction set: neighbours eight apart,
// then four, two, one. `part` holds them as kParts vectors.
FASTCONV_INLINE float reduce(const V (&part)[kParts]) {
  float s[kBlock];
  for (int i = 0; i < kParts; ++i) store(s + i * kWidth, part[i]);
  for (int half = kBlock / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
  return s[0];
}

// a / b rounded up; a >= 0, b > 0.
FASTCONV_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
