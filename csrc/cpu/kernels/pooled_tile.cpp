// Convolution and 2x2 max pooling in one tile (contract: PooledTile in cpu/tiles.h). In plain
// loops:
//
//   for k < K, row, col:                                              a window
//     for lower, right < 2:
//       sum[2 * lower + right] = start + sum_{c, t} w[k][c][t] *
//                                x[c][2 * row + lower][2 * col + right][t]
//     y[k][row][col] = act(max of the four sums)
//
// The register tile is that of broadcast_tile.cpp. Its columns are the four outputs of a window, so
// the maximum is taken in registers and the convolution's output never reaches memory:
//
//                 x[0][0]  x[0][1]  x[1][0]  x[1][1]
//     w[0]     | sum[0]   sum[1]   sum[2]   sum[3] |  --max-->  y[0], argmax[0]
//     ...      |                                   |
//     w[KT-1]  | sum[0]   sum[1]   sum[2]   sum[3] |  --max-->  y[KT-1], argmax[KT-1]
//
// In a plain image the columns are two vectors of each of two rows of outputs; evens and odds bring
// the four outputs of a window into one lane.
//
// Cost of a step (one c, one tap): 4 loads and KT broadcasts for 4 * KT multiply-adds, 10 for 24
// with KT = 6; the FMA pipes are the ceiling. Three comparisons a window come on top.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"
#include "cpu/simd_maximum.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// 4 * KT sums, kAtOnce vectors of x and a weight must fit the registers.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxKT = 6, kAtOnce = 4;  // vectors of x
#else
constexpr int kMaxKT = 3, kAtOnce = 2;
#endif

// sum[k][i], in lanes: output i = 2 * lower + right of a window. In plain images: vector `right` of
// the output row `lower`. next_col: floats from vector 0 to vector 1.
template <int KT>
FASTCONV_INLINE void add_products(V (&sum)[KT][4], const PooledTile& s, const float* x,
                                  const float* w, const float* bias, int64_t next_col) {
  const int64_t x_c = s.x_c, x_row = s.x_row, w_k = s.w_k;
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k) {
    const V start = bias ? set1(bias[k]) : zero();
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[k][i] = start;
  }
  for (int64_t c = 0; c < s.C; ++c, x += x_c, w += s.w_c)
    for (int64_t t = 0; t < s.taps; ++t) {
      const float *from = x + s.x_tap[t], *weight = w + s.w_tap[t];
#pragma GCC unroll 2
      for (int first = 0; first < 4; first += kAtOnce) {
        if (kAtOnce < 4) weight = hidden(weight);  // broadcasts again: no register to keep it
        V v[kAtOnce];
#pragma GCC unroll 4
        for (int i = 0; i < kAtOnce; ++i)
          v[i] = load(from + (first + i) / 2 * x_row + (first + i) % 2 * next_col);
#pragma GCC unroll 16
        for (int k = 0; k < KT; ++k) {
          const V wv = set1(weight[k * w_k]);
#pragma GCC unroll 4
          for (int i = 0; i < kAtOnce; ++i) sum[k][first + i] = fma(wv, v[i], sum[k][first + i]);
        }
      }
    }
}

// One window, in lanes.
template <class Best, int KT>
void window_tile(const PooledTile& s, const float* x, const float* w, const float* bias, float* y,
                 uint16_t* argmax, int) {
  const V floor = set1(s.relu ? 0.0f : -INFINITY);
  for (int part = 0; part < kParts; ++part) {
    V sum[KT][4];
    add_products<KT>(sum, s, x + part * kWidth, w, bias, s.x_col);
#pragma GCC unroll 16
    for (int k = 0; k < KT; ++k) {
      const Best best = maximum_of<Best>(sum[k]);
      store(y + k * s.y_k + part * kWidth, max(floor, best.value));
      if constexpr (Best::with_index) store_u16(argmax + k * s.y_k + part * kWidth, best.position);
    }
  }
}

// kWidth windows of a row of a plain image, of which the first `valid` count.
template <class Best, int KT>
void row_tile(const PooledTile& s, const float* x, const float* w, const float* bias, float* y,
              uint16_t*, int valid) {
  V sum[KT][4];
  add_products<KT>(sum, s, x, w, bias, kWidth);
  const V floor = set1(s.relu ? 0.0f : -INFINITY);
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k) {
    const V outputs[4] = {evens(sum[k][0], sum[k][1]), odds(sum[k][0], sum[k][1]),
                          evens(sum[k][2], sum[k][3]), odds(sum[k][2], sum[k][3])};
    const Best best = maximum_of<Best>(outputs);
    store_first(y + k * s.y_k, max(floor, best.value), valid);
  }
}

using MicroTile = void (*)(const PooledTile&, const float*, const float*, const float*, float*,
                           uint16_t*, int);
struct PooledTiles {
  MicroTile with_indices[kMaxKT + 1], lanes[kMaxKT + 1], plain[kMaxKT + 1];
};
template <int KT>
struct FillPooledTiles {
  static constexpr void fill(PooledTiles& tiles) {
    tiles.with_indices[KT] = window_tile<MaximumWithIndex, KT>;
    tiles.lanes[KT] = window_tile<Maximum, KT>;
    tiles.plain[KT] = row_tile<Maximum, KT>;
    FillPooledTiles<KT - 1>::fill(tiles);
  }
};
template <>
struct FillPooledTiles<0> {
  static constexpr void fill(PooledTiles&) {}
};
constexpr PooledTiles make_pooled_tiles() {
  PooledTiles tiles{};
  FillPooledTiles<kMaxKT>::fill(tiles);
  return tiles;
}
constexpr PooledTiles kTiles = make_pooled_tiles();

// Loops over tiles of `windows` windows, which advance x by x_step floats and y by y_step.
void for_tiles(const PooledTile& s, const MicroTile (&tiles)[kMaxKT + 1], int64_t windows,
               int64_t x_step, int64_t y_step) {
  const int64_t k_tiles = ceil_div(s.K, kMaxKT);
  for (int64_t tile = 0, k = 0; tile < k_tiles; ++tile) {
    const int64_t kt = ceil_div(s.K - k, k_tiles - tile);
    const float *w = s.w + k * s.w_k, *bias = s.bias ? s.bias + k : nullptr;
    for (int64_t row = 0; row < s.rows; ++row) {
      const float* x = s.x + 2 * row * s.x_row;
      int64_t y = k * s.y_k + row * s.y_row;
      for (int64_t col = 0; col < s.cols; col += windows, x += x_step, y += y_step) {
        const int64_t rest = s.cols - col;
        tiles[kt](s, x, w, bias, s.y + y, s.argmax ? s.argmax + y : nullptr,
                  static_cast<int>(rest < windows ? rest : windows));
      }
    }
    k += kt;
  }
}

}  // namespace

void pooled_tile(const PooledTile& s) {
  for_tiles(s, s.argmax ? kTiles.with_indices : kTiles.lanes, 1, 2 * s.x_col, kBlock);
}

void pooled_tile_plain(const PooledTile& s) {
  for_tiles(s, kTiles.plain, kWidth, 2 * kWidth, kWidth);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
