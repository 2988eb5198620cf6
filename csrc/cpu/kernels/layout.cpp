// Rows of samples <-> lane blocks (contract: cpu/kernels.h): a transpose of kWidth rows by kWidth
// features in registers.
//
//   for f < features, i < 16:  y[f][i] = x[i][f]
//
//     sample 0:  a0 a1 a2 a3          feature 0:  a0 b0 c0 d0
//     sample 1:  b0 b1 b2 b3   --->   feature 1:  a1 b1 c1 d1
//     sample 2:  c0 c1 c2 c3          feature 2:  a2 b2 c2 d2
//     sample 3:  d0 d1 d2 d3          feature 3:  a3 b3 c3 d3
//
// Cost of a 16 x 16 block on AVX-512: 16 loads, 64 shuffles, 16 stores, so the shuffle port is the
// ceiling in cache. Whole vectors are read and written at once: rows a power of two apart share one
// set of the cache, and a line touched in pieces would be fetched for each piece. The steps
// (interleave floats, then pairs, then quarters) are those of _MM_TRANSPOSE4_PS, widened.
#include "cpu/kernels/functions.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// transpose(v): swaps v[i][j] and v[j][i], kWidth vectors of kWidth floats.
#if defined(FASTCONV_ISA_AVX512) || defined(FASTCONV_ISA_AVX2)

#if defined(FASTCONV_ISA_AVX512)
FASTCONV_INLINE V interleave_low(V a, V b) { return {_mm512_unpacklo_ps(a.v, b.v)}; }
FASTCONV_INLINE V interleave_high(V a, V b) { return {_mm512_unpackhi_ps(a.v, b.v)}; }
FASTCONV_INLINE V low_pairs(V a, V b) { return {_mm512_shuffle_ps(a.v, b.v, 0x44)}; }
FASTCONV_INLINE V high_pairs(V a, V b) { return {_mm512_shuffle_ps(a.v, b.v, 0xEE)}; }
#else
FASTCONV_INLINE V interleave_low(V a, V b) { return {_mm256_unpacklo_ps(a.v, b.v)}; }
FASTCONV_INLINE V interleave_high(V a, V b) { return {_mm256_unpackhi_ps(a.v, b.v)}; }
FASTCONV_INLINE V low_pairs(V a, V b) { return {_mm256_shuffle_ps(a.v, b.v, 0x44)}; }
FASTCONV_INLINE V high_pairs(V a, V b) { return {_mm256_shuffle_ps(a.v, b.v, 0xEE)}; }
#endif

// The 4x4 matrix in each 128-bit quarter of four vectors.
FASTCONV_INLINE void transpose_in_quarters(V& a, V& b, V& c, V& d) {
  const V ab01 = interleave_low(a, b), ab23 = interleave_high(a, b);  // a0 b0 a1 b1, a2 b2 a3 b3
  const V cd01 = interleave_low(c, d), cd23 = interleave_high(c, d);
  a = low_pairs(ab01, cd01);  // a0 b0 c0 d0
  b = high_pairs(ab01, cd01);
  c = low_pairs(ab23, cd23);
  d = high_pairs(ab23, cd23);
}

// The matrix whose elements are quarters: v[first + 4 * i] holds row i.
#if defined(FASTCONV_ISA_AVX512)
FASTCONV_INLINE void transpose_quarters(V (&v)[kWidth], int first) {
  const __m512 a = v[first].v, b = v[first + 4].v, c = v[first + 8].v, d = v[first + 12].v;
  const __m512 ab01 = _mm512_shuffle_f32x4(a, b, 0x44), ab23 = _mm512_shuffle_f32x4(a, b, 0xEE);
  const __m512 cd01 = _mm512_shuffle_f32x4(c, d, 0x44), cd23 = _mm512_shuffle_f32x4(c, d, 0xEE);
  v[first].v = _mm512_shuffle_f32x4(ab01, cd01, 0x88);  // a0 b0 c0 d0
  v[first + 4].v = _mm512_shuffle_f32x4(ab01, cd01, 0xDD);
  v[first + 8].v = _mm512_shuffle_f32x4(ab23, cd23, 0x88);
  v[first + 12].v = _mm512_shuffle_f32x4(ab23, cd23, 0xDD);
}
#else
FASTCONV_INLINE void transpose_quarters(V (&v)[kWidth], int first) {
  const __m256 a = v[first].v, b = v[first + 4].v;
  v[first].v = _mm256_permute2f128_ps(a, b, 0x20);  // a0 b0
  v[first + 4].v = _mm256_permute2f128_ps(a, b, 0x31);
}
#endif

FASTCONV_INLINE void transpose(V (&v)[kWidth]) {
#pragma GCC unroll 4
  for (int i = 0; i < kWidth; i += 4) transpose_in_quarters(v[i], v[i + 1], v[i + 2], v[i + 3]);
#pragma GCC unroll 4
  for (int first = 0; first < 4; ++first) transpose_quarters(v, first);
}

#else

FASTCONV_INLINE void transpose(V (&v)[kWidth]) {
  V t[kWidth];
  for (int i = 0; i < kWidth; ++i)
    for (int j = 0; j < kWidth; ++j) t[j].v[i] = v[i].v[j];
  for (int i = 0; i < kWidth; ++i) v[i] = t[i];
}

#endif

// Lanes below `samples` keep their value, the others become 0.
FASTCONV_INLINE V keep_samples(V a, int part, int samples) {
  const int lanes = samples - part * kWidth;
  if (lanes >= kWidth) return a;
  return lanes <= 0 ? zero() : select(first_lanes(lanes), a, zero());
}

// y[f][i] = map(row[i][f]). All sixteen rows must be readable; `samples` of them count.
template <class Map>
FASTCONV_INLINE void rows_to_lanes(float* y, const float* const* row, int64_t features, int samples,
                                   const Map& map) {
  V v[kWidth];
  int64_t f = 0;
  for (; f + kWidth <= features; f += kWidth)
    for (int part = 0; part < kParts; ++part) {
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) v[i] = load(row[part * kWidth + i] + f);
      transpose(v);
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j)
        store(y + (f + j) * kBlock + part * kWidth, keep_samples(map(v[j]), part, samples));
    }
  const int rest = static_cast<int>(features - f);
  for (int part = 0; rest > 0 && part < kParts; ++part) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) v[i] = load_partial(row[part * kWidth + i] + f, rest);
    transpose(v);
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j)
      if (j < rest)
        store(y + (f + j) * kBlock + part * kWidth, keep_samples(map(v[j]), part, samples));
  }
}

// Sixteen bytes of sixteen rows: y[c][i] = row[i][f + c].
FASTCONV_INLINE void transpose_bytes(uint8_t (&y)[kBlock][kBlock], const uint8_t* const* row,
                                     int64_t f) {
#if defined(FASTCONV_ISA_AVX512) || defined(FASTCONV_ISA_AVX2)
  // Four rounds of interleaving the first half of the rows with the second: each round moves one
  // bit of the row number into the column number.
  __m128i a[kBlock], b[kBlock];
  for (int i = 0; i < kBlock; ++i)
    a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[i] + f));
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < kBlock / 2; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
    }
    for (int i = 0; i < kBlock; ++i) a[i] = b[i];
  }
  for (int i = 0; i < kBlock; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(y[i]), a[i]);
#else
  for (int c = 0; c < kBlock; ++c)
    for (int i = 0; i < kBlock; ++i) y[c][i] = row[i][f + c];
#endif
}

}  // namespace

void to_lanes(float* y, const float* x, int64_t features, int64_t stride, int samples) {
  // Missing rows are read from the first one and then cleared.
  const float* row[kBlock];
  for (int i = 0; i < kBlock; ++i) row[i] = x + (i < samples ? i * stride : 0);
  const auto same = [](V a) { return a; };
  if (samples == kBlock)
    rows_to_lanes(y, row, features, kBlock, same);
  else
    rows_to_lanes(y, row, features, samples, same);
}

void floats_to_lanes(float* y, const float* const* x, int64_t features, int samples, float scale,
                     float shift) {
  const float* row[kBlock];
  for (int i = 0; i < kBlock; ++i) row[i] = x[i < samples ? i : 0];
  const V a = set1(scale), b = set1(shift);
  const auto scaled = [=](V v) { return fma(v, a, b); };
  rows_to_lanes(y, row, features, samples, scaled);
}

void bytes_to_lanes(float* y, const uint8_t* const* x, int64_t features, int samples, float scale,
                    float shift) {
  const uint8_t* row[kBlock];
  for (int i = 0; i < kBlock; ++i) row[i] = x[i < samples ? i : 0];
  const V a = set1(scale), b = set1(shift);
  uint8_t lanes[kBlock][kBlock];
  for (int64_t f = 0; f < features; f += kBlock) {
    const int64_t left = features - f;
    const int count = left < kBlock ? static_cast<int>(left) : kBlock;
    if (count == kBlock)
      transpose_bytes(lanes, row, f);
    else
      for (int c = 0; c < count; ++c)
        for (int i = 0; i < kBlock; ++i) lanes[c][i] = row[i][f + c];
    for (int c = 0; c < count; ++c)
      for (int part = 0; part < kParts; ++part)
        store(y + (f + c) * kBlock + part * kWidth,
              keep_samples(fma(load_u8(lanes[c] + part * kWidth), a, b), part, samples));
  }
}

void to_plain(float* x, int64_t x_i, const float* y, int64_t y_f, int64_t features, int samples) {
  V v[kWidth];
  int64_t f = 0;
  for (; samples == kBlock && f + kWidth <= features; f += kWidth)
    for (int part = 0; part < kParts; ++part) {
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) v[j] = load(y + (f + j) * y_f + part * kWidth);
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) store(x + (part * kWidth + i) * x_i + f, v[i]);
    }
  for (; f < features; f += kWidth) {
    const int rest = features - f < kWidth ? static_cast<int>(features - f) : kWidth;
    for (int part = 0; part * kWidth < samples; ++part) {
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j)
        v[j] = j < rest ? load(y + (f + j) * y_f + part * kWidth) : zero();
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i)
        if (part * kWidth + i < samples)
          store_partial(x + (part * kWidth + i) * x_i + f, v[i], rest);
    }
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
