// Rows of samples <-> lane blocks: a transpose of 16 rows, four features at a time.
//
//   four rows  r: [ row r | row r+4 | row r+8 | row r+12 ]   four features of each, r = 0..3
//   four lanes c: [ feature c of samples 0-3 | 4-7 | 8-11 | 12-15 ]
//
// With the rows loaded like that each 4x4 transpose stays inside a 128-bit quarter, where shuffles
// are cheapest, and the rest is done by the load (or store) units.
#include "cpu/kernels/functions.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kQuad = 4;  // features, or samples, in a 128-bit quarter

// Sixteen rows by four features; also sixteen samples of four features.
struct Quads {
  V v[kQuad][kParts];
};

#if defined(FASTCONV_ISA_AVX512)

FASTCONV_INLINE Quads load_rows(const float* const* row, int64_t f) {
  Quads q;
  for (int r = 0; r < kQuad; ++r) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(row[r] + f));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 4] + f), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 8] + f), 2);
    q.v[r][0].v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 12] + f), 3);
  }
  return q;
}

FASTCONV_INLINE void store_rows(float* x, int64_t stride, const Quads& q) {
  for (int r = 0; r < kQuad; ++r) {
    const __m512 v = q.v[r][0].v;
    _mm_storeu_ps(x + r * stride, _mm512_castps512_ps128(v));
    _mm_storeu_ps(x + (r + 4) * stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(x + (r + 8) * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(x + (r + 12) * stride, _mm512_extractf32x4_ps(v, 3));
  }
}

FASTCONV_INLINE V interleave_low(V a, V b) { return {_mm512_unpacklo_ps(a.v, b.v)}; }
FASTCONV_INLINE V interleave_high(V a, V b) { return {_mm512_unpackhi_ps(a.v, b.v)}; }
FASTCONV_INLINE V low_pairs(V a, V b) { return {_mm512_shuffle_ps(a.v, b.v, 0x44)}; }
FASTCONV_INLINE V high_pairs(V a, V b) { return {_mm512_shuffle_ps(a.v, b.v, 0xEE)}; }

#elif defined(FASTCONV_ISA_AVX2)

FASTCONV_INLINE Quads load_rows(const float* const* row, int64_t f) {
  Quads q;
  for (int r = 0; r < kQuad; ++r)
    for (int part = 0; part < kParts; ++part) {
      const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(row[r + 8 * part] + f));
      q.v[r][part].v = _mm256_insertf128_ps(v, _mm_loadu_ps(row[r + 8 * part + 4] + f), 1);
    }
  return q;
}

FASTCONV_INLINE void store_rows(float* x, int64_t stride, const Quads& q) {
  for (int r = 0; r < kQuad; ++r)
    for (int part = 0; part < kParts; ++part) {
      const __m256 v = q.v[r][part].v;
      _mm_storeu_ps(x + (r + 8 * part) * stride, _mm256_castps256_ps128(v));
      _mm_storeu_ps(x + (r + 8 * part + 4) * stride, _mm256_extractf128_ps(v, 1));
    }
}

FASTCONV_INLINE V interleave_low(V a, V b) { return {_mm256_unpacklo_ps(a.v, b.v)}; }
FASTCONV_INLINE V interleave_high(V a, V b) { return {_mm256_unpackhi_ps(a.v, b.v)}; }
FASTCONV_INLINE V low_pairs(V a, V b) { return {_mm256_shuffle_ps(a.v, b.v, 0x44)}; }
FASTCONV_INLINE V high_pairs(V a, V b) { return {_mm256_shuffle_ps(a.v, b.v, 0xEE)}; }

#else

FASTCONV_INLINE Quads load_rows(const float* const* row, int64_t f) {
  Quads q;
  for (int r = 0; r < kQuad; ++r)
    for (int part = 0; part < kParts; ++part) q.v[r][part] = load(row[r + kQuad * part] + f);
  return q;
}

FASTCONV_INLINE void store_rows(float* x, int64_t stride, const Quads& q) {
  for (int r = 0; r < kQuad; ++r)
    for (int part = 0; part < kParts; ++part)
      store(x + (r + kQuad * part) * stride, q.v[r][part]);
}

FASTCONV_INLINE V interleave_low(V a, V b) { return {{a.v[0], b.v[0], a.v[1], b.v[1]}}; }
FASTCONV_INLINE V interleave_high(V a, V b) { return {{a.v[2], b.v[2], a.v[3], b.v[3]}}; }
FASTCONV_INLINE V low_pairs(V a, V b) { return {{a.v[0], a.v[1], b.v[0], b.v[1]}}; }
FASTCONV_INLINE V high_pairs(V a, V b) { return {{a.v[2], a.v[3], b.v[2], b.v[3]}}; }

#endif

// Each quarter is a 4x4 matrix with a row in each of the four vectors; transposes all of them. Its
// own inverse.
FASTCONV_INLINE Quads transpose(const Quads& q) {
  Quads t;
  for (int part = 0; part < kParts; ++part) {
    const V a = q.v[0][part], b = q.v[1][part], c = q.v[2][part], d = q.v[3][part];
    const V ab01 = interleave_low(a, b), ab23 = interleave_high(a, b);  // a0 b0 a1 b1; a2 b2 a3 b3
    const V cd01 = interleave_low(c, d), cd23 = interleave_high(c, d);
    t.v[0][part] = low_pairs(ab01, cd01);  // a0 b0 c0 d0
    t.v[1][part] = high_pairs(ab01, cd01);
    t.v[2][part] = low_pairs(ab23, cd23);
    t.v[3][part] = high_pairs(ab23, cd23);
  }
  return t;
}

// Lanes below `samples` keep their value, the others become 0.
FASTCONV_INLINE V keep_samples(V a, int part, int samples) {
  const int lanes = samples - part * kWidth;
  if (lanes >= kWidth) return a;
  return lanes <= 0 ? zero() : select(first_lanes(lanes), a, zero());
}

// y[f][i] = finish(row[i][f]). All sixteen rows must be readable; `samples` of them count.
template <class Finish>
FASTCONV_INLINE void rows_to_lanes(float* y, const float* const* row, int64_t features, int samples,
                                   const Finish& finish) {
  int64_t f = 0;
  for (; f + kQuad <= features; f += kQuad) {
    const Quads q = transpose(load_rows(row, f));
    for (int c = 0; c < kQuad; ++c)
      for (int part = 0; part < kParts; ++part)
        store(y + (f + c) * kBlock + part * kWidth,
              keep_samples(finish(q.v[c][part]), part, samples));
  }
  for (; f < features; ++f) {
    float lanes[kBlock];
    for (int i = 0; i < kBlock; ++i) lanes[i] = row[i][f];
    for (int part = 0; part < kParts; ++part)
      store(y + f * kBlock + part * kWidth,
            keep_samples(finish(load(lanes + part * kWidth)), part, samples));
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

void to_plain(float* x, const float* y, int64_t features, int64_t stride, int samples) {
  int64_t f = 0;
  for (; samples == kBlock && f + kQuad <= features; f += kQuad) {
    Quads q;
    for (int c = 0; c < kQuad; ++c)
      for (int part = 0; part < kParts; ++part)
        q.v[c][part] = load(y + (f + c) * kBlock + part * kWidth);
    store_rows(x + f, stride, transpose(q));
  }
  for (; f < features; ++f)
    for (int i = 0; i < samples; ++i) x[i * stride + f] = y[f * kBlock + i];
}

}  // namespace fastconv::cpu::FASTCONV_ISA
