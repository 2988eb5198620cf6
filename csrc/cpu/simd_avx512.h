// The vector of simd.h on AVX-512 (F, BW, DQ, VL): a lane block is one register. Part of simd.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kWidth = 16;
struct V {
  __m512 v;
};
struct Mask {  // one truth value a lane
  __mmask16 m;
};

FASTCONV_INLINE V load(const float* p) { return {_mm512_loadu_ps(p)}; }
FASTCONV_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a.v); }
// A non-temporal store: p is aligned to the vector, and stream_fence() must come before anybody
// reads.
FASTCONV_INLINE void stream(float* p, V a) { _mm512_stream_ps(p, a.v); }
FASTCONV_INLINE void stream_fence() { _mm_sfence(); }
FASTCONV_INLINE V set1(float a) { return {_mm512_set1_ps(a)}; }
FASTCONV_INLINE V zero() { return {_mm512_setzero_ps()}; }
FASTCONV_INLINE V operator+(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator-(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator*(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
FASTCONV_INLINE V operator/(V a, V b) { return {_mm512_div_ps(a.v, b.v)}; }
FASTCONV_INLINE V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a*b + c
FASTCONV_INLINE V fnma(V a, V b, V c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a*b
FASTCONV_INLINE V sqrt(V a) { return {_mm512_sqrt_ps(a.v)}; }
// As the x86 instructions: the *second* operand, when either is NaN or both are zero.
FASTCONV_INLINE V max(V a, V b) { return {_mm512_max_ps(a.v, b.v)}; }
FASTCONV_INLINE V min(V a, V b) { return {_mm512_min_ps(a.v, b.v)}; }
FASTCONV_INLINE Mask operator>(V a, V b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
FASTCONV_INLINE Mask operator<(V a, V b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FASTCONV_INLINE Mask operator<=(V a, V b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
FASTCONV_INLINE Mask operator==(V a, V b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
FASTCONV_INLINE Mask is_nan(V a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
FASTCONV_INLINE Mask either_nan(V a, V b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)}; }
FASTCONV_INLINE Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.m | b.m)}; }
FASTCONV_INLINE Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
FASTCONV_INLINE Mask operator!(Mask a) { return {static_cast<__mmask16>(~a.m)}; }
FASTCONV_INLINE bool any(Mask a) { return a.m != 0; }
FASTCONV_INLINE V select(Mask m, V yes, V no) { return {_mm512_mask_blend_ps(m.m, no.v, yes.v)}; }
FASTCONV_INLINE Mask first_lanes(int n) {  // true in lanes 0 .. n-1; n from 0 to kWidth
  return {static_cast<__mmask16>((1u << n) - 1u)};
}
// Lanes 0 .. n-1 only; the others are not touched, and read as zero.
FASTCONV_INLINE V load_partial(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n).m, p)};
}
// The lanes where the mask is true only; the others are not touched, and read as zero.
FASTCONV_INLINE V load_masked(const float* p, Mask m) { return {_mm512_maskz_loadu_ps(m.m, p)}; }
FASTCONV_INLINE void store_partial(float* p, V a, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n).m, a.v);
}
FASTCONV_INLINE V round_to_int(V a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// a * 2^k for whole k in [-252, 254]
FASTCONV_INLINE V scale_by_exp2(V a, V k) { return {_mm512_scalef_ps(a.v, k.v)}; }
// kWidth unsigned 16-bit integers, as floats and back (values must be whole and below 65536)
FASTCONV_INLINE V load_u16(const uint16_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))))};
}
FASTCONV_INLINE void store_u16(uint16_t* p, V a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(a.v)));
}
// Whether each of kWidth unsigned 16-bit integers has the bit 2^number.
template <int number>
FASTCONV_INLINE Mask has_bit(const uint16_t* p) {
  return {_mm256_test_epi16_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                 _mm256_set1_epi16(1 << number))};
}
FASTCONV_INLINE V load_u8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
// p[0], p[2], ..., p[2 * n - 2] and zeros, n from 1 to kWidth; nothing beyond is read.
FASTCONV_INLINE V load_even(const float* p, int n) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
  const uint32_t mask = 0xffffffffu >> (2 * (kWidth - n) + 1);  // the first 2n - 1 floats
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 15), p + 15);
  return {_mm512_permutex2var_ps(low, even, high)};
}
// a0, a2, ..., b0, b2, ...
FASTCONV_INLINE V evens(V a, V b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return {_mm512_permutex2var_ps(a.v, even, b.v)};
}
// a1, a3, ..., b1, b3, ...
FASTCONV_INLINE V odds(V a, V b) {
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_permutex2var_ps(a.v, odd, b.v)};
}

struct U {  // kWidth unsigned 32-bit integers, arithmetic modulo 2^32
  __m512i v;
};
FASTCONV_INLINE U set1_u(uint32_t a) { return {_mm512_set1_epi32(static_cast<int>(a))}; }
FASTCONV_INLINE U lane_numbers() {  // 0, 1, 2, ...
  return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}
FASTCONV_INLINE U operator+(U a, U b) { return {_mm512_add_epi32(a.v, b.v)}; }
FASTCONV_INLINE U operator*(U a, U b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
FASTCONV_INLINE U operator&(U a, U b) { return {_mm512_and_si512(a.v, b.v)}; }
FASTCONV_INLINE U operator^(U a, U b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <unsigned bits>
FASTCONV_INLINE U shift_right(U a) {
  return {_mm512_srli_epi32(a.v, bits)};
}
FASTCONV_INLINE V to_float(U a) { return {_mm512_cvtepi32_ps(a.v)}; }  // values below 2^31
FASTCONV_INLINE U bits_of(V a) { return {_mm512_castps_si512(a.v)}; }
FASTCONV_INLINE V from_bits(U a) { return {_mm512_castsi512_ps(a.v)}; }
// For each of four tables of four floats, which lie in a row, the index that each lane picks,
// counted from the first table.
struct Picks {
  __m512i of[4];
};
// lanes[table][i] = 4 * table + which[i] % 4, for sixteen lanes i.
FASTCONV_INLINE void store_picks(uint8_t (&lanes)[4][16], const uint16_t* which) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(which));
  const __m512i first =
      _mm512_broadcast_i32x4(_mm256_cvtepi16_epi8(_mm256_and_si256(words, _mm256_set1_epi16(3))));
  const __m512i tables = _mm512_maskz_set1_epi32(0xfff0, 0x04040404);
  const __m512i more = _mm512_add_epi8(_mm512_maskz_set1_epi32(0xff00, 0x04040404),
                                       _mm512_maskz_set1_epi32(0xf000, 0x04040404));
  _mm512_storeu_si512(lanes, _mm512_add_epi8(first, _mm512_add_epi8(tables, more)));
}
FASTCONV_INLINE Picks load_picks(const uint8_t (&lanes)[4][16], int) {
  Picks p;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    p.of[i] = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes[i])));
  return p;
}
// In each lane the float of a table that it picks.
FASTCONV_INLINE V pick(const float* tables, int table, const Picks& picks) {
  return {_mm512_permutexvar_ps(picks.of[table], _mm512_loadu_ps(tables))};
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
