// Depthwise convolution of plain images by weight: neighbouring pixels of a row in a vector
// (contract: DepthwiseImageWeight in cpu/tiles.h). In plain loops:
//
//   for t < K, u < K:
//     sum = 0
//     for image, row, col:  sum += dy[image][row][col] * x[image][row * step + t - PT]
//                                                               [col * step + u - PL]
//     dw[t][u] = sum
//
// The registers hold the K * K sums of one image, and one vector of each of four rows of dy:
//
//     dy[row]    d0             for each u, for each row of x that they meet:
//     ..                          one load
//     dy[row+3]  d3               up to min(4, K) multiply-adds, sum[t][u] += d[r] * x
//
// Cost of four rows: K * (3 * step + K) loads of x for 4 * K * K multiply-adds: 18 for 36 with 3 x
// 3 taps, 40 for 100 with 5 x 5. Loads of x are unaligned and most cross a cache line, so they are
// the ceiling for 3 x 3.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kRows = 4;  // of dy at a time

FASTCONV_INLINE int lanes(int64_t n) {
  return static_cast<int>(n < 0 ? 0 : n < kWidth ? n : kWidth);
}

// Columns ow .. ow + kWidth - 1 of the rows of dy, which meet the rows x[0], x[1], ...
template <int K, int S>
struct Sums {
  V at[K * K];

  FASTCONV_INLINE void add(const DepthwiseImageWeight& s, const float* const* dy,
                           const float* const* x, int64_t ow) {
    const int64_t iw = ow * S - s.PL;
    if (iw >= 0 && iw + K - 1 + S * kWidth <= s.IW)
      add(s, dy, x, ow, [](const float* p, int64_t) { return loaded(load(p)); });
    else
      add(s, dy, x, ow, [&](const float* p, int64_t i) {
        return load_masked(p, first_lanes(lanes(s.IW - i)) & !first_lanes(lanes(-i)));
      });
  }

  // read(p, i) loads a vector of columns from i on; lanes outside the image become zero.
  template <class Read>
  FASTCONV_INLINE void add(const DepthwiseImageWeight& s, const float* const* dy,
                           const float* const* x, int64_t ow, const Read& read) {
    V rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = load_first(dy[r] + ow, lanes(s.OW - ow));
#pragma GCC unroll 8
    for (int kw = 0; kw < K; ++kw) {
      const int64_t i = ow * S - s.PL + kw;
#pragma GCC unroll 16
      for (int row = 0; row < (kRows - 1) * S + K; ++row) {
        const float* p = x[row] + i;
        const V v = S == 1 ? read(p, i) : evens(read(p, i), read(p + kWidth, i + kWidth));
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const int kh = row - r * S;
          if (kh >= 0 && kh < K) at[kh * K + kw] = fma(rows[r], v, at[kh * K + kw]);
        }
      }
    }
  }
};

template <int K, int S>
void sum_plane(const DepthwiseImageWeight& s, const float* dy, const float* x, bool accumulate,
               float* dw) {
  constexpr int kMet = (kRows - 1) * S + K;
  V acc[K * K][kParts];
  for (int part = 0; part < kParts; ++part) {
    Sums<K, S> sums;
    for (V& sum : sums.at) sum = zero();
    for (int64_t oh = 0; oh < s.OH; oh += kRows) {
      const float *dy_row[kRows], *x_row[kMet];
      for (int r = 0; r < kRows; ++r) dy_row[r] = oh + r < s.OH ? dy + (oh + r) * s.OW : s.zeros;
      for (int i = 0; i < kMet; ++i) {
        const int64_t ih = oh * S - s.PT + i;
        x_row[i] = ih >= 0 && ih < s.IH ? x + ih * s.IW : s.zeros;
      }
      for (int64_t ow = part * kWidth; ow < s.OW; ow += kBlock) sums.add(s, dy_row, x_row, ow);
    }
    for (int t = 0; t < K * K; ++t) acc[t][part] = sums.at[t];
  }
  float added[K * K];
  sum_lanes(added, acc);
  for (int t = 0; t < K * K; ++t) dw[t] = accumulate ? dw[t] + added[t] : added[t];
}

}  // namespace

void depthwise_image_weight(const DepthwiseImageWeight& s) {
  const auto sum = s.K == 3 ? (s.step == 1 ? sum_plane<3, 1> : sum_plane<3, 2>)
                            : (s.step == 1 ? sum_plane<5, 1> : sum_plane<5, 2>);
  for (int64_t n = 0; n < s.images; ++n)
    sum(s, s.dy + n * s.dy_image, s.x + n * s.x_image, n > 0, s.dw);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
