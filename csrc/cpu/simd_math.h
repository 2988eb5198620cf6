// Elementary functions and long sums on the vectors of simd.h. Internal linkage, as there.
//
// Polynomials: Cephes (Moshier, netlib.org/cephes, single/). The error bounds hold over all floats
// (exp, log) or a dense sample, against float64. Kernels run with denormals flushed: results below
// 1.2e-38 become 0, and denormal arguments count as 0.
#pragma once

#include <math.h>

#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// e^a: 2^k * e^r with |r| <= ln(2)/2 and a polynomial of degree 6. Within 1.1 ulp; overflow gives
// +inf, underflow 0, NaN stays NaN.
FASTCONV_INLINE V exp(V a) {
  // NaN becomes -104 here, and comes back in the last line.
  const V x = min(max(a, set1(-104.0f)), set1(88.8f));
  const V k = round_to_int(x * set1(1.44269504088896341f));
  V r = fnma(k, set1(0.693359375f), x);  // ln(2) in two pieces, the first with few bits
  r = fnma(k, set1(-2.12194440e-4f), r);
  V p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p * r, r, r) + set1(1.0f);
  return select(is_nan(a), a, scale_by_exp2(p, k));
}

// ln(a): a = 2^k * m with sqrt(1/2) <= m < sqrt(2) and a polynomial in m - 1. Within 1 ulp, also
// near 1. ln(0) = -inf, ln(inf) = inf, NaN for NaN and anything below 0.
FASTCONV_INLINE V log(V a) {
  const uint32_t one = 0x3f800000u, sqrt_half = 0x3f3504f3u;  // the bits of 1.0f and sqrt(0.5f)
  const U shifted = bits_of(a) + set1_u(one - sqrt_half);
  const V k = to_float(shift_right<23>(shifted)) - set1(127.0f);
  const V m = from_bits((shifted & set1_u(0x007fffffu)) + set1_u(sqrt_half));
  const V f = m - set1(1.0f), z = f * f;
  V p = set1(7.0376836292e-2f);
  p = fma(p, f, set1(-1.1514610310e-1f));
  p = fma(p, f, set1(1.1676998740e-1f));
  p = fma(p, f, set1(-1.2420140846e-1f));
  p = fma(p, f, set1(1.4249322787e-1f));
  p = fma(p, f, set1(-1.6668057665e-1f));
  p = fma(p, f, set1(2.0000714765e-1f));
  p = fma(p, f, set1(-2.4999993993e-1f));
  p = fma(p, f, set1(3.3333331174e-1f));
  V low = fma(k, set1(-2.12194440e-4f), p * f * z);
  low = fnma(set1(0.5f), z, low);
  V y = fma(k, set1(0.693359375f), f + low);

  y = select(a < set1(INFINITY), y, a);  // inf and NaN are their own logarithms
  y = select(a == zero(), set1(-INFINITY), y);
  return select(a < zero(), set1(NAN), y);
}

// ln(1 + a) for finite a >= -1, within 2.5 ulp even where 1 + a rounds a away: the factor a / (w -
// 1) corrects the rounding of w = 1 + a (Kahan).
FASTCONV_INLINE V log1p(V a) {
  const V w = a + set1(1.0f), rounded = w - set1(1.0f);
  return select(rounded == zero(), a, log(w) * (a / rounded));
}

FASTCONV_INLINE V abs(V a) { return from_bits(bits_of(a) & set1_u(0x7fffffffu)); }

// 1 / (1 + e^-a), within 2.5 ulp
FASTCONV_INLINE V sigmoid(V a) { return set1(1.0f) / (set1(1.0f) + exp(zero() - a)); }

// Within 1.4 ulp, also near 0, where 1 - 2 / (e^2a + 1) would cancel.
FASTCONV_INLINE V tanh(V a) {
  const V size = abs(a), z = a * a;
  V p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  const V near = fma(p * z, a, a);
  const V far = set1(1.0f) - set1(2.0f) / (exp(size + size) + set1(1.0f));
  const V sign = from_bits(bits_of(a) & set1_u(0x80000000u));
  return select(size < set1(0.625f), near, from_bits(bits_of(far) ^ bits_of(sign)));
}

// The lane sums of `count` accumulators (at most 24), each in the order of reduce() in simd.h:
// lanes eight apart first, then four, two, one. Folds sixteen (or eight) accumulators into one
// vector: four shuffles and additions for each, instead of some thirty instructions.
template <int count>
FASTCONV_INLINE void sum_lanes(float (&sums)[count], const V (&acc)[count][kParts]) {
#if defined(FASTCONV_ISA_AVX512)
  for (int first = 0; first < count; first += 16) {
    V a[16], b[8], c[4], d[2];
    for (int i = 0; i < 16; ++i) a[i] = first + i < count ? acc[first + i][0] : zero();
    for (int i = 0; i < 8; ++i)  // -> halves of two accumulators
      b[i] = V{_mm512_shuffle_f32x4(a[2 * i].v, a[2 * i + 1].v, 0x44)} +
             V{_mm512_shuffle_f32x4(a[2 * i].v, a[2 * i + 1].v, 0xee)};
    for (int i = 0; i < 4; ++i)  // -> quarters of four
      c[i] = V{_mm512_shuffle_f32x4(b[2 * i].v, b[2 * i + 1].v, 0x88)} +
             V{_mm512_shuffle_f32x4(b[2 * i].v, b[2 * i + 1].v, 0xdd)};
    for (int i = 0; i < 2; ++i)
      d[i] = V{_mm512_shuffle_ps(c[2 * i].v, c[2 * i + 1].v, 0x44)} +
             V{_mm512_shuffle_ps(c[2 * i].v, c[2 * i + 1].v, 0xee)};
    float lanes[16];  // lane 4 * g + m holds accumulator 4 * m + g
    store(lanes,
          V{_mm512_shuffle_ps(d[0].v, d[1].v, 0x88)} + V{_mm512_shuffle_ps(d[0].v, d[1].v, 0xdd)});
    for (int i = 0; i < 16 && first + i < count; ++i) sums[first + i] = lanes[4 * (i % 4) + i / 4];
  }
#elif defined(FASTCONV_ISA_AVX2)
  for (int first = 0; first < count; first += 8) {
    V a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i)
      a[i] = first + i < count ? acc[first + i][0] + acc[first + i][1] : zero();
    for (int i = 0; i < 4; ++i)
      b[i] = V{_mm256_permute2f128_ps(a[2 * i].v, a[2 * i + 1].v, 0x20)} +
             V{_mm256_permute2f128_ps(a[2 * i].v, a[2 * i + 1].v, 0x31)};
    for (int i = 0; i < 2; ++i)
      c[i] = V{_mm256_shuffle_ps(b[2 * i].v, b[2 * i + 1].v, 0x44)} +
             V{_mm256_shuffle_ps(b[2 * i].v, b[2 * i + 1].v, 0xee)};
    float lanes[8];  // lane 4 * g + m holds accumulator 2 * m + g
    store(lanes,
          V{_mm256_shuffle_ps(c[0].v, c[1].v, 0x88)} + V{_mm256_shuffle_ps(c[0].v, c[1].v, 0xdd)});
    for (int i = 0; i < 8 && first + i < count; ++i) sums[first + i] = lanes[4 * (i % 2) + i / 2];
  }
#else
  for (int i = 0; i < count; ++i) sums[i] = reduce(acc[i]);
#endif
}

// K sums over n elements: float lanes within runs of at most 4096 elements (64 additions each),
// double across runs. As accurate as a pairwise sum, at the speed of memory.
//
// term(i, valid, v) fills v[0 .. K-1] for elements i .. i + kWidth - 1. Only the first `valid`
// count; the others must give 0. lanes: how many of every sixteen elements count (fewer than 16 in
// a block with empty lanes; n is then a multiple of 16). The order of additions depends on n and
// lanes alone.
template <int K, class Term>
FASTCONV_INLINE void long_sums(double (&total)[K], int64_t n, int lanes, const Term& term) {
  constexpr int kRun = 4096 / K, kChains = K == 1 ? 4 : 2;
  for (int k = 0; k < K; ++k) total[k] = 0.0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    const int64_t end = n - begin < kRun ? n : begin + kRun;
    V sum[K][kChains][kParts];
    for (int k = 0; k < K; ++k)
      for (int chain = 0; chain < kChains; ++chain)
        for (int part = 0; part < kParts; ++part) sum[k][chain][part] = zero();
    int64_t i = begin;
    if (lanes == kBlock) {
      for (; i + kChains * kBlock <= end; i += kChains * kBlock)
        for (int chain = 0; chain < kChains; ++chain)
          for (int part = 0; part < kParts; ++part) {
            V v[K];
            term(i + chain * kBlock + part * kWidth, kWidth, v);
            for (int k = 0; k < K; ++k) sum[k][chain][part] = sum[k][chain][part] + v[k];
          }
    }
    for (; i < end; i += kBlock) {
      const int64_t count = end - i < lanes ? end - i : lanes;
      for (int part = 0; part < kParts; ++part) {
        const int64_t left = count - part * kWidth;
        if (left <= 0) break;
        V v[K];
        term(i + part * kWidth, left < kWidth ? static_cast<int>(left) : kWidth, v);
        for (int k = 0; k < K; ++k) sum[k][0][part] = sum[k][0][part] + v[k];
      }
    }
    for (int k = 0; k < K; ++k) {
      for (int step = kChains / 2; step > 0; step /= 2)
        for (int chain = 0; chain < step; ++chain)
          for (int part = 0; part < kParts; ++part)
            sum[k][chain][part] = sum[k][chain][part] + sum[k][chain + step][part];
      total[k] += static_cast<double>(reduce(sum[k][0]));
    }
  }
}

// Loads and stores of the first n floats. In a loop over whole vectors the test folds away.
FASTCONV_INLINE V load_first(const float* p, int n) {
  return n == kWidth ? load(p) : load_partial(p, n);
}
FASTCONV_INLINE void store_first(float* p, V a, int n) {
  if (n == kWidth)
    store(p, a);
  else
    store_partial(p, a, n);
}
// The same, with non-temporal stores of whole vectors when streaming.
FASTCONV_INLINE void store_first(float* p, V a, int n, bool streaming) {
  if (streaming && n == kWidth)
    stream(p, a);
  else
    store_first(p, a, n);
}

// body(i, valid) for i = 0, kWidth, 2 * kWidth, ...: whole vectors, then the rest of n.
template <class Body>
FASTCONV_INLINE void for_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, kWidth);
  if (i < n) body(i, static_cast<int>(n - i));
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
