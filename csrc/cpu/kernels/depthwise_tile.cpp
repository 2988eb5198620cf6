// Depthwise convolution in lane blocks, plane by plane (contract: DepthwiseTile in cpu/tiles.h). In
// plain loops, for stride 1:
//
//   for row, col:
//     sum = start
//     for t < KH, u < KW:  sum += w[t][u] * x[row + t][col + u]        x: a vector, w: a float
//     y[row][col] = act(sum)
//
// The register tile holds two rows of WT outputs, and the weights of the two rows of taps at work:
//
//     y[row]    | sum  sum  ..  sum |      one row of x adds to y[row]   by the weights w[t]
//     y[row+1]  | sum  sum  ..  sum |                    and to y[row+1] by the weights w[t-1]
//
//     x[row+t]    v0 v1 v2 .. v(WT+KW-2)   each loaded once, used up to 2 * KW times
//
// Cost of a row of x: WT + KW - 1 loads and 2 * KW broadcasts for 2 * KW * WT multiply-adds: 16 for
// 48 with 3 x 3 taps and WT = 8, so the FMA pipes are the ceiling while x is in cache, and memory
// after that. The broadcast tile would load a vector for every tap, and compute padded rows and
// columns; here an edge is a row or column that is left out.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The widest tile: 2 * WT sums, 2 * KW weights and a vector of x must fit the registers.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxWT = 8;
#else
constexpr int kMaxWT = 4;
#endif

// Two rows of outputs, or the last one alone.
struct RowPair {
  const DepthwiseTile& args;
  const DepthwiseAxis &rows, &cols;
  const float *x, *w;  // of the plane; w at tap (0, 0)
  V start;
  int64_t x_row, first, last;  // reads rows x_row + first .. x_row + last - 1 of x
  bool both;
};

// Adds a row of x to the upper outputs with the weights w0, and to the lower ones with w1. x points
// at the first column that the tile reads; columns first .. last - 1 from there exist.
template <int KW, int S, int WT, bool upper, bool lower>
FASTCONV_INLINE void add_row(V (&acc)[2][WT], const float* x, const float* w0, const float* w1,
                             int64_t w_step, int64_t first, int64_t last) {
  constexpr int kCols = (WT - 1) * S + KW;
  V w[2][KW];
#pragma GCC unroll 8
  for (int u = 0; u < KW; ++u) {
    if (upper) w[0][u] = set1(w0[u * w_step]);
    if (lower) w[1][u] = set1(w1[u * w_step]);
  }
#pragma GCC unroll 32
  for (int j = 0; j < kCols; ++j) {
    if (j < KW - 1 && j < first) continue;
    if (j > kCols - KW && j >= last) continue;
    const V v = load(x + j * kBlock);
#pragma GCC unroll 8
    for (int u = 0; u < KW; ++u) {
      const int col = (j - u) / S;
      if (j < u || (j - u) % S != 0 || col >= WT) continue;
      if (upper) acc[0][col] = fma(w[0][u], v, acc[0][col]);
      if (lower) acc[1][col] = fma(w[1][u], v, acc[1][col]);
    }
  }
}

template <int WT>
FASTCONV_INLINE void store_row(const DepthwiseTile& s, float* y, V (&acc)[WT]) {
  if (s.relu)  // NaN passes as second operand
    for (int j = 0; j < WT; ++j) acc[j] = max(zero(), acc[j]);
  const int64_t y_col = s.y_step * kBlock;
  if (kParts == 1 && s.streaming) {  // non-temporal stores of half a line are slow
#pragma GCC unroll 8
    for (int j = 0; j < WT; ++j) stream(y + j * y_col, acc[j]);
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < WT; ++j) store(y + j * y_col, acc[j]);
  }
}

// `tiles` tiles of a pair of rows, from output column col on. y: the pair's first output.
template <int KW, int S, int WT>
void row_of_tiles(const RowPair& pair, float* y, int64_t col, int64_t tiles) {
  const DepthwiseTile& s = pair.args;
  const int64_t KH = pair.rows.taps, w_row = pair.rows.w_step, w_col = pair.cols.w_step;
  const int64_t x_pitch = s.x_cols * kBlock, y_below = s.y_step * s.y_row;
  for (; tiles > 0; --tiles, col += WT) {
    const int64_t x_col = pair.cols.x_first + col * S;
    const float* x = pair.x + pair.x_row * x_pitch + x_col * kBlock;
    if (s.prefetch)
      for (int64_t i = 0; i < 2 * S; ++i)
#pragma GCC unroll 16
        for (int j = 0; j < WT * S; ++j)
          prefetch(x + (KH + S + i) * x_pitch + (j + KW / 2) * kBlock);
    for (int part = 0; part < kParts; ++part) {
      V acc[2][WT];
      for (int j = 0; j < WT; ++j) acc[0][j] = acc[1][j] = pair.start;
      for (int64_t i = pair.first; i < pair.last; ++i) {
        const float *xi = x + i * x_pitch + part * kWidth, *w0 = pair.w + i * w_row;
        const float* w1 = w0 - S * w_row;
        if (i < S || !pair.both)
          add_row<KW, S, WT, true, false>(acc, xi, w0, w1, w_col, -x_col, s.x_cols - x_col);
        else if (i < KH)
          add_row<KW, S, WT, true, true>(acc, xi, w0, w1, w_col, -x_col, s.x_cols - x_col);
        else
          add_row<KW, S, WT, false, true>(acc, xi, w0, w1, w_col, -x_col, s.x_cols - x_col);
      }
      float* to = y + col * s.y_step * kBlock + part * kWidth;
      store_row<WT>(s, to, acc[0]);
      if (pair.both) store_row<WT>(s, to + y_below, acc[1]);
    }
  }
}

using RowOfTiles = void (*)(const RowPair&, float*, int64_t, int64_t);
struct Widths {
  RowOfTiles at[kMaxWT + 1];
};
template <int KW, int S, int WT>
struct Fill {
  static constexpr void fill(Widths& widths) {
    widths.at[WT] = row_of_tiles<KW, S, WT>;
    Fill<KW, S, WT - 1>::fill(widths);
  }
};
template <int KW, int S>
struct Fill<KW, S, 0> {
  static constexpr void fill(Widths&) {}
};
template <int KW, int S>
constexpr Widths make_widths() {
  Widths widths{};
  Fill<KW, S, kMaxWT>::fill(widths);
  return widths;
}
constexpr Widths k1x1 = make_widths<1, 1>(), k2x1 = make_widths<2, 1>(), k3x1 = make_widths<3, 1>(),
                 k5x1 = make_widths<5, 1>(), k3x2 = make_widths<3, 2>(), k5x2 = make_widths<5, 2>();

const Widths& widths_for(int64_t taps, int64_t step) {
  if (step == 2) return taps == 3 ? k3x2 : k5x2;
  return taps == 1 ? k1x1 : taps == 2 ? k2x1 : taps == 3 ? k3x1 : k5x1;
}

// The columns of a phase as tiles of `width`, then of `width` - 1. An even split: 14 columns are
// 7 + 7, not 8 + 6.
struct Columns {
  RowOfTiles wide, narrow;
  int64_t width, wide_tiles, narrow_tiles;
};

Columns split_columns(const DepthwiseAxis& cols, int64_t step) {
  const Widths& widths = widths_for(cols.taps, step);
  const int64_t tiles = ceil_div(cols.count, kMaxWT), width = ceil_div(cols.count, tiles);
  const int64_t narrow_tiles = tiles * width - cols.count;
  return {widths.at[width], widths.at[width - 1], width, tiles - narrow_tiles, narrow_tiles};
}

}  // namespace

void depthwise_tile(const DepthwiseTile& s) {
  Columns columns[kDepthwisePhases];
  for (int64_t j = 0; j < s.col_phases; ++j) columns[j] = split_columns(s.cols[j], s.x_step);
  int64_t most = 0;
  for (int64_t i = 0; i < s.row_phases; ++i) most = s.rows[i].count > most ? s.rows[i].count : most;
  const float *x = s.x, *w = s.w;
  float* y = s.y;
  for (int64_t plane = 0; plane < s.planes; ++plane) {
    const V start = s.bias ? set1(s.bias[plane]) : zero();
    for (int64_t row = 0; row < most; row += 2)
      for (int64_t i = 0; i < s.row_phases; ++i) {
        const DepthwiseAxis& rows = s.rows[i];
        if (row >= rows.count) continue;
        const bool both = row + 1 < rows.count;
        const int64_t x_row = rows.x_first + row * s.x_step;
        const int64_t read = rows.taps + (both ? s.x_step : 0);
        const int64_t first = x_row < 0 ? -x_row : 0;
        const int64_t last = x_row + read > s.x_rows ? s.x_rows - x_row : read;
        float* row_of_y = y + (rows.y_first + row * s.y_step) * s.y_row;
        for (int64_t j = 0; j < s.col_phases; ++j) {
          const DepthwiseAxis& cols = s.cols[j];
          const Columns& tiles = columns[j];
          const RowPair pair{s,     rows,  cols,  x,    w + rows.w_first + cols.w_first,
                             start, x_row, first, last, both};
          float* to = row_of_y + cols.y_first * kBlock;
          tiles.wide(pair, to, 0, tiles.wide_tiles);
          if (tiles.narrow_tiles > 0)
            tiles.narrow(pair, to, tiles.wide_tiles * tiles.width, tiles.narrow_tiles);
        }
      }
    x += s.x_rows * s.x_cols * kBlock, w += s.w_plane, y += s.y_plane;
  }
  if (s.streaming) stream_fence();
}

}  // namespace fastconv::cpu::FASTCONV_ISA
