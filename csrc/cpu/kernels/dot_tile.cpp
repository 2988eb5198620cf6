// The dot tile: convolution by weight, linear layers for a small batch (contract: DotTile in
// cpu/tiles.h). In plain loops:
//
//   for k < K, j < J:
//     sum = 0                                                          a vector
//     for image, row, col:  sum += a[k][image][row][col] * b[j][image][row][col]
//     out[k][j] = start + the sum of the lanes of `sum`
//
// The register tile holds KT * JT sums over all images, rows and columns:
//
//                 b[0]     b[1]   ...  b[JT-1]      JT loads, each used KT times
//     a[0]     | sum      sum          sum     |
//     ...      |                               |    KT loads, each used JT times
//     a[KT-1]  | sum      sum          sum     |    KT * JT multiply-adds
//
// Cost of a step (one column): KT + JT loads, no broadcast, for KT * JT multiply-adds; with 6 x 4
// that is 10 for 24, so the FMA pipes are the ceiling. The lanes are summed once for each output,
// at the end: long rows make that free, short ones do not. Outer products as in the micro-kernel of
// BLIS, with the sum also running along the lanes.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// KT * JT sums + JT vectors of b + 1 of a must fit the registers (32 with AVX-512, else 16).
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxKT = 6;
constexpr int kMaxJT[kMaxKT + 1] = {0, 12, 9, 7, 6, 5, 4};
#else
constexpr int kMaxKT = 4;
constexpr int kMaxJT[kMaxKT + 1] = {0, 7, 4, 3, 3};
#endif
constexpr int kWidest = kMaxJT[1];

// The rows first .. last - 1 of a that a tile prefetches at a + a_prefetch. The tiles over the same
// a share them.
struct PrefetchedRows {
  int64_t first, last;
};

template <bool prefetches, int KT, int JT>
void dot_tile(const DotTile& s, const float* a, const int64_t* b_j, float* out,
              const PrefetchedRows& rows) {
  V acc[KT * JT][kParts];
  const int64_t a_k = s.a_k, a_col = s.a_col, b_col = s.b_col;
  const int64_t whole = s.tail < kBlock ? s.cols - 1 : s.cols;
  for (int part = 0; part < kParts; ++part) {
    V sum[KT][JT];
    for (int k = 0; k < KT; ++k)
      for (int j = 0; j < JT; ++j) sum[k][j] = zero();
    const float* b[JT];
    for (int j = 0; j < JT; ++j) b[j] = s.b + b_j[j] + part * kWidth;
    for (int64_t image = 0; image < s.images; ++image)
      for (int64_t row = 0; row < s.rows; ++row) {
        const float* ap = a + part * kWidth + image * s.a_image + row * s.a_row;
        int64_t offset = image * s.b_image + row * s.b_row;
        for (int64_t col = 0; col < whole; ++col, ap += a_col, offset += b_col) {
          for (int64_t k = rows.first; prefetches && k < rows.last; ++k)
            prefetch(ap + s.a_prefetch + k * a_k);
          V bv[JT];
#pragma GCC unroll 16
          for (int j = 0; j < JT; ++j) bv[j] = load(b[j] + offset);
#pragma GCC unroll 16
          for (int k = 0; k < KT; ++k) {
            const V av = load(ap + k * a_k);
#pragma GCC unroll 16
            for (int j = 0; j < JT; ++j) sum[k][j] = fma(av, bv[j], sum[k][j]);
          }
        }
        const int rest = s.tail - part * kWidth, valid = rest < kWidth ? rest : kWidth;
        if (whole < s.cols && valid > 0)
          for (int k = 0; k < KT; ++k)
            for (int j = 0; j < JT; ++j)
              sum[k][j] = fma(load_partial(ap + k * a_k, valid), load_partial(b[j] + offset, valid),
                              sum[k][j]);
      }
    for (int k = 0; k < KT; ++k)
      for (int j = 0; j < JT; ++j) acc[k * JT + j][part] = sum[k][j];
  }
  float sums[KT * JT];
  sum_lanes(sums, acc);
  for (int k = 0; k < KT; ++k)
    for (int j = 0; j < JT; ++j) {
      float* o = out + k * s.out_k + j * s.out_j;
      *o = s.accumulate ? *o + sums[k * JT + j] : sums[k * JT + j];
    }
}

using MicroTile = void (*)(const DotTile&, const float*, const int64_t*, float*,
                           const PrefetchedRows&);
struct Tiles {
  MicroTile at[kMaxKT + 1][kWidest + 1], prefetching[kMaxKT + 1][kWidest + 1];
};
template <int KT, int JT>
struct FillWidths {
  static constexpr void fill(Tiles& tiles) {
    tiles.at[KT][JT] = dot_tile<false, KT, JT>;
    tiles.prefetching[KT][JT] = dot_tile<kPrefetches, KT, JT>;
    FillWidths<KT, JT - 1>::fill(tiles);
  }
};
template <int KT>
struct FillWidths<KT, 0> {
  static constexpr void fill(Tiles&) {}
};
template <int KT>
struct FillTiles {
  static constexpr void fill(Tiles& tiles) {
    FillWidths<KT, kMaxJT[KT]>::fill(tiles);
    FillTiles<KT - 1>::fill(tiles);
  }
};
template <>
struct FillTiles<0> {
  static constexpr void fill(Tiles&) {}
};
constexpr Tiles make_tiles() {
  Tiles tiles{};
  FillTiles<kMaxKT>::fill(tiles);
  return tiles;
}
constexpr Tiles kTiles = make_tiles();

}  // namespace

void dot_tile(const DotTile& s) {
  // The tallest tile that K fills, then even splits of both sides.
  const int max_kt = static_cast<int>(s.K < kMaxKT ? s.K : kMaxKT);
  const int64_t k_tiles = ceil_div(s.K, max_kt);
  for (int64_t k_tile = 0, k = 0; k_tile < k_tiles; ++k_tile) {
    const int kt = static_cast<int>(ceil_div(s.K - k, k_tiles - k_tile));
    const int64_t j_tiles = ceil_div(s.J, kMaxJT[kt]);
    for (int64_t j_tile = 0, j = 0; j_tile < j_tiles; ++j_tile) {
      const int jt = static_cast<int>(ceil_div(s.J - j, j_tiles - j_tile));
      const MicroTile tile = s.a_prefetch == 0 ? kTiles.at[kt][jt] : kTiles.prefetching[kt][jt];
      tile(s, s.a + k * s.a_k, s.b_j + j, s.out + k * s.out_k + j * s.out_j,
           {kt * j_tile / j_tiles, kt * (j_tile + 1) / j_tiles});
      j += jt;
    }
    k += kt;
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
