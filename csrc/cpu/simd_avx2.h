// The vector of simd.h on AVX2 and FMA: a lane block is two registers. Part of simd.h; what each
// function does is said in simd_avx512.h and, in plain C++, in simd_scalar.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kWidth = 8;
struct V {
  __m256 v;
};
struct Mask {
  __m256 m;  // all bits of a lane set or clear
};

FASTCONV_INLINE V load(const float* p) { return {_mm256_loadu_ps(p)}; }
FASTCONV_INLINE void store(float* p, V a) { _mm256_storeu_ps(p, a.v); }
FASTCONV_INLINE void stream(float* p, V a) { _mm256_stream_ps(p, a.v); }
FASTCONV_INLINE void stream_fence() { _mm_sfence(); }
FASTCONV_INLINE V set1(float a) { return {_mm256_set1_ps(a)}; }
FASTCONV_INLINE V zero() { return {_mm256_setzero_ps()}; }
FASTCONV_INLINE V operator+(V a, V b) { return {_mm256_add_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator-(V a, V b) { return {_mm256_sub_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator*(V a, V b) { return {_mm256_mul_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator/(V a, V b) { return {_mm256_div_ps(a.v, b.v)}; }
FASTCONV_INLINE V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FASTCONV_INLINE V fnma(V a, V b, V c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
FASTCONV_INLINE V sqrt(V a) { return {_mm256_sqrt_ps(a.v)}; }
FASTCONV_INLINE V max(V a, V b) { return {_mm256_max_ps(a.v, b.v)}; }
FASTCONV_INLINE V min(V a, V b) { return {_mm256_min_ps(a.v, b.v)}; }
FASTCONV_INLINE Mask operator>(V a, V b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
FASTCONV_INLINE Mask operator<(V a, V b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FASTCONV_INLINE Mask operator<=(V a, V b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
FASTCONV_INLINE Mask operator==(V a, V b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
FASTCONV_INLINE Mask is_nan(V a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
FASTCONV_INLINE Mask either_nan(V a, V b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_UNORD_Q)}; }
FASTCONV_INLINE Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
FASTCONV_INLINE Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
FASTCONV_INLINE Mask operator!(Mask a) {
  return {_mm256_xor_ps(a.m, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))};
}
FASTCONV_INLINE bool any(Mask a) { return _mm256_movemask_ps(a.m) != 0; }
FASTCONV_INLINE V select(Mask m, V yes, V no) { return {_mm256_blendv_ps(no.v, yes.v, m.m)}; }
FASTCONV_INLINE Mask first_lanes(int n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane))};
}
FASTCONV_INLINE V load_partial(const float* p, int n) {
  return {_mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n).m))};
}
FASTCONV_INLINE V load_masked(const float* p, Mask m) {
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.m))};
}
// Not vmaskmovps: as a store it takes 42 micro-operations on Zen 4.
FASTCONV_INLINE void store_partial(float* p, V a, int n) {
  float lanes[kWidth];
  _mm256_storeu_ps(lanes, a.v);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
}
FASTCONV_INLINE V round_to_int(V a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
FASTCONV_INLINE V scale_by_exp2(V a, V k) {
  // In two halves, each a power of two that a float can be: it is its exponent's bits.
  const __m256i whole = _mm256_cvtps_epi32(k.v), half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i other = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
  return a * V{_mm256_castsi256_ps(power)} * V{_mm256_castsi256_ps(other)};
}
FASTCONV_INLINE V load_u16(const uint16_t* p) {
  return {_mm256_cvtepi32_ps(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
FASTCONV_INLINE void store_u16(uint16_t* p, V a) {
  const __m256i whole = _mm256_cvttps_epi32(a.v);
  const __m128i packed =
      _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
template <int number>
FASTCONV_INLINE Mask has_bit(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 31 - number))};  // select looks at the sign
}
FASTCONV_INLINE V load_u8(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
FASTCONV_INLINE V load_even(const float* p, int n) {
  const V low = n > 4 ? load(p) : load_partial(p, 2 * n - 1);
  const V high = n > 4 ? load_partial(p + 7, 2 * n - 8) : zero();
  // a0 a2 b1 b3 | a4 a6 b5 b7, then the middle pairs change places
  const __m256 both = _mm256_shuffle_ps(low.v, high.v, _MM_SHUFFLE(3, 1, 2, 0));
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(both), _MM_SHUFFLE(3, 1, 2, 0)))};
}
FASTCONV_INLINE V evens(V a, V b) {
  // a0 a2 b0 b2 | a4 a6 b4 b6, then the middle pairs change places
  const __m256 both = _mm256_shuffle_ps(a.v, b.v, _MM_SHUFFLE(2, 0, 2, 0));
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(both), _MM_SHUFFLE(3, 1, 2, 0)))};
}
FASTCONV_INLINE V odds(V a, V b) {
  const __m256 both = _mm256_shuffle_ps(a.v, b.v, _MM_SHUFFLE(3, 1, 3, 1));
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(both), _MM_SHUFFLE(3, 1, 2, 0)))};
}

struct U {
  __m256i v;
};
FASTCONV_INLINE U set1_u(uint32_t a) { return {_mm256_set1_epi32(static_cast<int>(a))}; }
FASTCONV_INLINE U lane_numbers() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }
FASTCONV_INLINE U operator+(U a, U b) { return {_mm256_add_epi32(a.v, b.v)}; }
FASTCONV_INLINE U operator*(U a, U b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
FASTCONV_INLINE U operator&(U a, U b) { return {_mm256_and_si256(a.v, b.v)}; }
FASTCONV_INLINE U operator^(U a, U b) { return {_mm256_xor_si256(a.v, b.v)}; }
template <unsigned bits>
FASTCONV_INLINE U shift_right(U a) {
  return {_mm256_srli_epi32(a.v, bits)};
}
FASTCONV_INLINE V to_float(U a) { return {_mm256_cvtepi32_ps(a.v)}; }
FASTCONV_INLINE U bits_of(V a) { return {_mm256_castps_si256(a.v)}; }
FASTCONV_INLINE V from_bits(U a) { return {_mm256_castsi256_ps(a.v)}; }
struct Picks {
  __m256i of;  // in the first table: vpermilps looks at two bits
};
FASTCONV_INLINE void store_picks(uint8_t (&lanes)[4][16], const uint16_t* which) {
  const __m256i words = _mm256_and_si256(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(which)), _mm256_set1_epi16(3));
  const __m128i first =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  for (int table = 0; table < 4; ++table)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes[table]),
                     _mm_add_epi8(first, _mm_set1_epi8(static_cast<char>(4 * table))));
}
FASTCONV_INLINE Picks load_picks(const uint8_t (&lanes)[4][16], int part) {
  const auto* p = reinterpret_cast<const __m128i*>(lanes[0] + part * kWidth);
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(p))};
}
FASTCONV_INLINE V pick(const float* tables, int table, const Picks& picks) {
  const auto* four = reinterpret_cast<const __m128*>(tables + 4 * table);
  return {_mm256_permutevar_ps(_mm256_broadcast_ps(four), picks.of)};
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
