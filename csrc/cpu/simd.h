// A vector of floats, the same names on every instruction set. kernels/*.cpp are compiled once per
// set, with FASTCONV_ISA defined as scalar, avx2 or avx512 and the matching compiler flags.
//
// Everything here has internal linkage: an object compiled with AVX flags must not offer the linker
// a shared copy of anything. For the same reason kernels use no standard library templates.
//
//   kWidth    floats in a vector: 16 (avx512), 8 (avx2), 4 (scalar: plain loops, any CPU)
//   kParts    vectors that make a lane block of sixteen samples
//
// AVX2 and AVX-512 give the same bits: each lane sees the same operations in the same order, and
// reduce() adds the sixteen lanes of a block in one fixed order. Scalar has no fused multiply-add.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(FASTCONV_ISA_AVX512) || defined(FASTCONV_ISA_AVX2)
#include <immintrin.h>
#endif

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

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

#if defined(FASTCONV_ISA_AVX512)

constexpr int kWidth = 16;
struct V {
  __m512 v;
};
struct Mask {  // one truth value a lane
  __mmask16 m;
};

FASTCONV_INLINE V load(const float* p) { return {_mm512_loadu_ps(p)}; }
FASTCONV_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a.v); }
// Past the caches: p is aligned to the vector, and stream_fence() comes before anybody reads it.
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
// As the x86 instructions: when either is NaN (or both are zero) the *second* operand comes out.
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
// Four tables of four floats each, in a row, and for each of them what the lanes pick there: the
// number of a float, counted from the first table.
struct Picks {
  __m512i of[4];
};
// For sixteen lanes, each a number below four: that of the float in its table.
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
FASTCONV_INLINE V pick(const float* tables, int table, const Picks& picks) {
  return {_mm512_permutexvar_ps(picks.of[table], _mm512_loadu_ps(tables))};
}

#elif defined(FASTCONV_ISA_AVX2)

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

#else  // scalar: the readable meaning of every function above

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
#include <math.h>
namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kWidth = 4;
struct V {
  float v[kWidth];
};
struct Mask {
  bool m[kWidth];
};
struct U {
  uint32_t u[kWidth];
};

#define FASTCONV_EACH(Type, expression)                              \
  Type r;                                                            \
  for (int i = 0; i < kWidth; ++i) r.FASTCONV_FIELD[i] = expression; \
  return r;
#define FASTCONV_FIELD v
FASTCONV_INLINE V load(const float* p){FASTCONV_EACH(V, p[i])} FASTCONV_INLINE
    void store(float* p, V a) {
  for (int i = 0; i < kWidth; ++i) p[i] = a.v[i];
}
FASTCONV_INLINE void stream(float* p, V a) { store(p, a); }
FASTCONV_INLINE void stream_fence() {}
FASTCONV_INLINE V set1(float a){FASTCONV_EACH(V, a)} FASTCONV_INLINE V zero() { return set1(0.0f); }
FASTCONV_INLINE V operator+(V a, V b){
    FASTCONV_EACH(V, a.v[i] + b.v[i])} FASTCONV_INLINE V operator-(V a, V b){
    FASTCONV_EACH(V, a.v[i] - b.v[i])} FASTCONV_INLINE V operator*(V a, V b){
    FASTCONV_EACH(V, a.v[i] * b.v[i])} FASTCONV_INLINE V operator/(V a, V b){
    FASTCONV_EACH(V, a.v[i] / b.v[i])} FASTCONV_INLINE V
    fma(V a, V b, V c){FASTCONV_EACH(V, a.v[i] * b.v[i] + c.v[i])} FASTCONV_INLINE V
    fnma(V a, V b, V c){FASTCONV_EACH(V, c.v[i] - a.v[i] * b.v[i])} FASTCONV_INLINE V
    sqrt(V a){FASTCONV_EACH(V, ::sqrtf(a.v[i]))} FASTCONV_INLINE V
    max(V a, V b){FASTCONV_EACH(V, a.v[i] > b.v[i] ? a.v[i] : b.v[i])} FASTCONV_INLINE V
    min(V a, V b){FASTCONV_EACH(V, a.v[i] < b.v[i] ? a.v[i] : b.v[i])} FASTCONV_INLINE V
    select(Mask m, V yes, V no){FASTCONV_EACH(V, m.m[i] ? yes.v[i] : no.v[i])} FASTCONV_INLINE V
    load_partial(const float* p, int n){FASTCONV_EACH(V, i < n ? p[i] : 0.0f)} FASTCONV_INLINE V
    load_masked(const float* p, Mask m){FASTCONV_EACH(V, m.m[i] ? p[i] : 0.0f)} FASTCONV_INLINE
    void store_partial(float* p, V a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
FASTCONV_INLINE V round_to_int(V a){FASTCONV_EACH(V, ::rintf(a.v[i]))} FASTCONV_INLINE V
    scale_by_exp2(V a, V k){
        FASTCONV_EACH(V, ::ldexpf(a.v[i], static_cast<int>(k.v[i])))} FASTCONV_INLINE V
    load_u16(const uint16_t* p){FASTCONV_EACH(V, static_cast<float>(p[i]))} FASTCONV_INLINE
    void store_u16(uint16_t* p, V a) {
  for (int i = 0; i < kWidth; ++i) p[i] = static_cast<uint16_t>(a.v[i]);
}
FASTCONV_INLINE V load_u8(const uint8_t* p){
    FASTCONV_EACH(V, static_cast<float>(p[i]))} FASTCONV_INLINE V
    load_even(const float* p, int n){FASTCONV_EACH(V, i < n ? p[2 * i] : 0.0f)} FASTCONV_INLINE V
    evens(V a, V b){
        FASTCONV_EACH(V, 2 * i < kWidth ? a.v[2 * i] : b.v[2 * i - kWidth])} FASTCONV_INLINE V
    odds(V a, V b){FASTCONV_EACH(V, 2 * i < kWidth ? a.v[2 * i + 1]
                                                   : b.v[2 * i + 1 - kWidth])} FASTCONV_INLINE V
    to_float(U a){
        FASTCONV_EACH(V, static_cast<float>(static_cast<int32_t>(a.u[i])))} FASTCONV_INLINE V
    from_bits(U a) {
  V r;
  std::memcpy(r.v, a.u, sizeof r.v);
  return r;
}
#undef FASTCONV_FIELD
#define FASTCONV_FIELD m
FASTCONV_INLINE Mask operator>(V a, V b){
    FASTCONV_EACH(Mask, a.v[i] > b.v[i])} FASTCONV_INLINE Mask operator<(V a, V b){
    FASTCONV_EACH(Mask, a.v[i] < b.v[i])} FASTCONV_INLINE Mask operator<=(V a, V b){
    FASTCONV_EACH(Mask, a.v[i] <= b.v[i])} FASTCONV_INLINE Mask operator==(V a, V b){
    FASTCONV_EACH(Mask, a.v[i] == b.v[i])} FASTCONV_INLINE Mask
    is_nan(V a){FASTCONV_EACH(Mask, a.v[i] != a.v[i])} FASTCONV_INLINE Mask either_nan(V a, V b){
        FASTCONV_EACH(Mask, a.v[i] != a.v[i] ||
                                b.v[i] != b.v[i])} FASTCONV_INLINE Mask operator|(Mask a, Mask b){
        FASTCONV_EACH(Mask, a.m[i] || b.m[i])} FASTCONV_INLINE Mask operator&(Mask a, Mask b){
        FASTCONV_EACH(Mask, a.m[i] && b.m[i])} FASTCONV_INLINE Mask operator!(Mask a){
        FASTCONV_EACH(Mask, !a.m[i])} FASTCONV_INLINE Mask
    first_lanes(int n){FASTCONV_EACH(Mask, i < n)} FASTCONV_INLINE bool any(Mask a) {
  bool yes = false;
  for (int i = 0; i < kWidth; ++i) yes = yes || a.m[i];
  return yes;
}
#undef FASTCONV_FIELD
#define FASTCONV_FIELD u
FASTCONV_INLINE U set1_u(uint32_t a){FASTCONV_EACH(U, a)} FASTCONV_INLINE U lane_numbers(){
    FASTCONV_EACH(U, static_cast<uint32_t>(i))} FASTCONV_INLINE U operator+(U a, U b){
    FASTCONV_EACH(U, a.u[i] + b.u[i])} FASTCONV_INLINE U operator*(U a, U b){
    FASTCONV_EACH(U, a.u[i] * b.u[i])} FASTCONV_INLINE U operator&(U a, U b){
    FASTCONV_EACH(U, a.u[i] & b.u[i])} FASTCONV_INLINE U operator^(U a, U b) {
  FASTCONV_EACH(U, a.u[i] ^ b.u[i])
}
template <unsigned bits>
FASTCONV_INLINE U shift_right(U a){FASTCONV_EACH(U, a.u[i] >> bits)} FASTCONV_INLINE U
    bits_of(V a) {
  U r;
  std::memcpy(r.u, a.v, sizeof r.u);
  return r;
}
#undef FASTCONV_FIELD
#undef FASTCONV_EACH
template <int number>
FASTCONV_INLINE Mask has_bit(const uint16_t* p) {
  Mask r;
  for (int i = 0; i < kWidth; ++i) r.m[i] = p[i] >> number & 1;
  return r;
}
struct Picks {
  const uint8_t (*of)[16];
  int first;
};
FASTCONV_INLINE void store_picks(uint8_t (&lanes)[4][16], const uint16_t* which) {
  for (int table = 0; table < 4; ++table)
    for (int i = 0; i < 16; ++i) lanes[table][i] = static_cast<uint8_t>(4 * table + which[i] % 4);
}
FASTCONV_INLINE Picks load_picks(const uint8_t (&lanes)[4][16], int part) {
  return {lanes, part * kWidth};
}
FASTCONV_INLINE V pick(const float* tables, int table, const Picks& picks) {
  V r;
  for (int i = 0; i < kWidth; ++i) r.v[i] = tables[picks.of[table][picks.first + i]];
  return r;
}

#endif

// a, in a register: what is used several times is not to be loaded several times.
FASTCONV_INLINE V loaded(V a) {
#if defined(FASTCONV_ISA_AVX512) && !defined(_MSC_VER)
  __asm__("" : "+v"(a.v));
#elif defined(FASTCONV_ISA_AVX2) && !defined(_MSC_VER)
  __asm__("" : "+x"(a.v));
#endif
  return a;
}

// A pointer or a number in a register of its own: the compiler does not know what it was made of.
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
// Asks for the cache line around p in L2. No address is wrong.
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
