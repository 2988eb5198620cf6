// Depthwise convolution in lane blocks by weight (contract: DepthwiseWeightTile in cpu/tiles.h). In
// plain loops, for stride 1:
//
//   for t < KH, u < KW:
//     sum = 0                                                          a vector
//     for image, row, col:  sum += dy[image][row][col] * x[image][row + t][col + u]
//     dw[t][u] = start + the sum of the lanes of `sum`
//
// The registers hold the sums of R rows of taps from the first image to the last, and W vectors of
// one row of dy:
//
//     dw[t]      | sum  sum  sum |         dy[row]   d0 d1 .. d(W-1)     loaded once for R rows
//     ..         |               |         x[row+t]  v0 v1 .. v(W+KW-2)  each used for KW taps
//     dw[t+R-1]  | sum  sum  sum |
//
// Cost of a tile: W + R * (W + KW - 1) loads for R * KW * W multiply-adds: 34 for 63 with 3 x 3
// taps and W = 7. Two loads a cycle then just feed two FMA pipes.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// R and W by KW. R * KW sums, W vectors of dy and one of x must fit the registers: 5 x 5 + 5 + 1 or
// 3 x 3 + 7 + 1 of 32, 2 x 5 + 4 + 1 or 3 x 3 + 4 + 1 of 16.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kRows[6] = {0, 0, 0, 3, 0, 5}, kCols[6] = {0, 0, 0, 7, 0, 5};
#else
constexpr int kRows[6] = {0, 0, 0, 3, 0, 2}, kCols[6] = {0, 0, 0, 4, 0, 4};
#endif

// W columns of dy. x points at the first row of taps, in the first column that they read. Of its R
// rows first .. last - 1 exist, of its columns -x_col .. x_cols - x_col - 1.
template <int R, int KW, int S, int W>
FASTCONV_INLINE void add_tile(V (&acc)[R][KW], const DepthwiseWeightTile& s, const float* dy,
                              const float* x, int64_t first, int64_t last, int64_t x_col) {
  constexpr int kRead = (W - 1) * S + KW;
  const int64_t x_pitch = s.x_cols * kBlock, begin = -x_col, end = s.x_cols - x_col;
  V d[W];
#pragma GCC unroll 8
  for (int j = 0; j < W; ++j) d[j] = load(dy + j * kBlock);
#pragma GCC unroll 8
  for (int t = 0; t < R; ++t) {
    if (t < first || t >= last) continue;
#pragma GCC unroll 32
    for (int i = 0; i < kRead; ++i) {
      if (i < KW - 1 && i < begin) continue;
      if (i > kRead - KW && i >= end) continue;
      const V v = load(x + t * x_pitch + i * kBlock);
#pragma GCC unroll 8
      for (int u = 0; u < KW; ++u)
        if (i >= u && (i - u) % S == 0 && (i - u) / S < W)
          acc[t][u] = fma(d[(i - u) / S], v, acc[t][u]);
    }
  }
}

// The rows t0 .. t0 + R - 1 of the kernel.
template <int R, int KW, int S>
void rows_of_taps(const DepthwiseWeightTile& s, int64_t t0) {
  constexpr int kWide = kCols[KW];
  const int64_t x_pitch = s.x_cols * kBlock;
  V sums[R * KW][kParts];
  for (int part = 0; part < kParts; ++part) {
    V acc[R][KW];
    for (int t = 0; t < R; ++t)
      for (int u = 0; u < KW; ++u) acc[t][u] = zero();
    for (int64_t image = 0; image < s.images; ++image)
      for (int64_t row = 0; row < s.rows; ++row) {
        const int64_t x_row = s.x_row + row * S + t0;
        const float* dy = s.dy + image * s.dy_image + row * s.dy_row + part * kWidth;
        const float* x =
            s.x + image * s.x_image + x_row * x_pitch + s.x_col * kBlock + part * kWidth;
        int64_t col = 0;
        for (; col + kWide <= s.cols; col += kWide, dy += kWide * kBlock, x += kWide * S * kBlock) {
          if (s.prefetch && t0 == 0) {
#pragma GCC unroll 8
            for (int j = 0; j < kWide; ++j) prefetch(dy + s.dy_row + j * kBlock);
            for (int64_t i = 0; i < S; ++i)
#pragma GCC unroll 16
              for (int j = 0; j < kWide * S; ++j)
                prefetch(x + (s.KH + i) * x_pitch + (j + KW / 2) * kBlock);
          }
          add_tile<R, KW, S, kWide>(acc, s, dy, x, -x_row, s.x_rows - x_row, s.x_col + col * S);
        }
        for (; col < s.cols; ++col, dy += kBlock, x += S * kBlock)
          add_tile<R, KW, S, 1>(acc, s, dy, x, -x_row, s.x_rows - x_row, s.x_col + col * S);
      }
    for (int t = 0; t < R; ++t)
      for (int u = 0; u < KW; ++u) sums[t * KW + u][part] = acc[t][u];
  }
  float added[R * KW];
  sum_lanes(added, sums);
  float* dw = s.dw + t0 * KW;
  for (int i = 0; i < R * KW; ++i) dw[i] = s.accumulate ? dw[i] + added[i] : added[i];
}

using RowsOfTaps = void (*)(const DepthwiseWeightTile&, int64_t);
template <int KW, int S>
struct Table {
  RowsOfTaps at[6];
};
template <int KW, int S, int R>
struct Fill {
  static constexpr void fill(Table<KW, S>& table) {
    table.at[R] = rows_of_taps<R, KW, S>;
    Fill<KW, S, R - 1>::fill(table);
  }
};
template <int KW, int S>
struct Fill<KW, S, 0> {
  static constexpr void fill(Table<KW, S>&) {}
};
template <int KW, int S>
constexpr Table<KW, S> make_table() {
  Table<KW, S> table{};
  Fill<KW, S, kRows[KW]>::fill(table);
  return table;
}

template <int KW, int S>
void all_taps(const DepthwiseWeightTile& s) {
  static constexpr Table<KW, S> table = make_table<KW, S>();
  for (int64_t t = 0; t < s.KH; t += kRows[KW])
    table.at[s.KH - t < kRows[KW] ? s.KH - t : kRows[KW]](s, t);
}

}  // namespace

void depthwise_weight_tile(const DepthwiseWeightTile& s) {
  if (s.step == 1) return s.KW == 3 ? all_taps<3, 1>(s) : all_taps<5, 1>(s);
  s.KW == 3 ? all_taps<3, 2>(s) : all_taps<5, 2>(s);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
