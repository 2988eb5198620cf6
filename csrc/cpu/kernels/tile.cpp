// The broadcast tile: convolution forward and by input, linear layers (contract: TileSweep in
// cpu/kernels.h).
//
//   for each c, for each tap:      load WT vectors of x, spread KT weights, KT * WT multiply-adds
//
// KT * WT accumulators stay in registers over the whole sum. With 24 of them a step costs 4 loads
// and 6 broadcasts for 24 multiply-adds, which the load ports sustain beside the FMA pipes; the
// count of samples in the lanes makes every channel count (1, 6, 16, 20) run at full width. Offsets
// of taps come from a table, so strides, dilation and both passes are the same code.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_finish.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Widest tile for KT output channels: KT * WT accumulators + WT vectors of x + 1 weight must fit
// the registers (32 with AVX-512, else 16). One more spills: 2 x 11 ran at a quarter of the speed
// of 4 x 6.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxKT = 10;
constexpr int kMaxWT[kMaxKT + 1] = {0, 12, 9, 7, 6, 5, 4, 3, 3, 2, 2};
#else
constexpr int kMaxKT = 6;
constexpr int kMaxWT[kMaxKT + 1] = {0, 7, 4, 3, 3, 2, 2};
#endif
constexpr int kWidest = kMaxWT[1];

// body(k, j) for each accumulator of a tile, as straight code: a loop left over would keep all of
// them in memory.
template <int KT, int WT, class Body>
FASTCONV_INLINE void for_tile(const Body& body) {
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k)
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j) body(k, j);
}

// Of the last vector of the row the first `valid` floats (kWidth or fewer, down to none) count.
template <int KT, int WT>
FASTCONV_INLINE void load_tile(V (&acc)[KT][WT], const TileSweep& s, const float* y, int valid) {
  const int64_t y_k = s.y_k, y_col = s.y_col;
  if (valid == kWidth)
    return for_tile<KT, WT>([&](int k, int j) { acc[k][j] = load(y + k * y_k + j * y_col); });
  for_tile<KT, WT>([&](int k, int j) {
    const float* p = y + k * y_k + j * y_col;
    acc[k][j] = j < WT - 1 ? load(p) : load_partial(p, valid > 0 ? valid : 0);
  });
}

template <int KT, int WT>
FASTCONV_INLINE void store_tile(const TileSweep& s, float* y, V (&acc)[KT][WT], int64_t k0,
                                int valid) {
  const int64_t y_k = s.y_k, y_col = s.y_col;
  if (s.relu)  // NaN passes as second operand
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = max(zero(), acc[k][j]); });
  if (s.finish)
    for_tile<KT, WT>([&](int k, int j) {
      const int floats = j < WT - 1 ? kWidth : valid > 0 ? valid : 0;
      const float* plus = s.finish->plus;
      if (plus) plus += y + k * y_k + j * y_col - s.y;
      acc[k][j] = finished(acc[k][j], *s.finish, k0 + k, plus, floats);
    });
  if (valid < kWidth)
    return for_tile<KT, WT>([&](int k, int j) {
      float* p = y + k * y_k + j * y_col;
      if (j < WT - 1)
        store(p, acc[k][j]);
      else if (valid > 0)
        store_partial(p, acc[k][j], valid);
    });
  if (kParts == 1 && s.streaming)  // half a line at a time would be slow
    return for_tile<KT, WT>([&](int k, int j) { stream(y + k * y_k + j * y_col, acc[k][j]); });
  for_tile<KT, WT>([&](int k, int j) { store(y + k * y_k + j * y_col, acc[k][j]); });
}

// A pass over x. In the steps c with (c & mask) == phase it asks for `count` vectors, so many
// floats behind what the step begins with. Or, where w_step is given, for the rows of weights that
// lie w_offset further: without taps for their float c * w_step, with taps for what step c uses of
// each.
constexpr int64_t kMostAsked = 32;
struct Pass {
  int64_t count, mask, phase;
  int64_t offset[kMostAsked];
  int64_t w_offset, w_step;
  int in_row;  // see taps_in_row
};

// How many taps at a time read neighbouring vectors: 2, 3 or 5 where that is so for all of them,
// else 1.
int taps_in_row(const TileSweep& s) {
  if (s.x_col != kBlock) return 1;
  for (int n = 5; n > 1; n -= n > 3 ? 2 : 1) {
    bool all = s.taps % n == 0;
    for (int64_t t = 0; t < s.taps && all; ++t)
      all = t % n == 0 || s.x_tap[t] == s.x_tap[t - 1] + kBlock;
    if (all) return n;
  }
  return 1;
}

// The pass of the output channels k0 .. k0 + KT - 1 asks for its share of s.ahead: for some
// vectors, or, where there are many passes, now and then for every second or fourth step of one.
// (Requests in a row are more than memory serves meanwhile; in every pass, they cost more than they
// bring.)
FASTCONV_INLINE Pass make_pass(const TileSweep& s, int64_t k0, int64_t KT, int64_t width) {
  Pass pass;
  pass.count = pass.mask = pass.phase = pass.w_offset = pass.w_step = 0;
  pass.in_row = KT == 1 ? taps_in_row(s) : 1;
  if (s.asks_for_w) {
    pass.w_offset = k0 + KT < s.K ? KT * s.w_k : s.w_group - k0 * s.w_k;
    pass.w_step = ceil_div(KT * s.w_k, s.C);
  }
  const Ahead& ahead = s.ahead;
  if (ahead.offset == 0) return pass;
  const int64_t cols = ((width - 1) * s.x_col + ahead.more) / ahead.col + 1;
  const int64_t vectors = ahead.rows * cols, passes = ceil_div(s.K, KT) * ahead.parts;
  const int64_t index = k0 / KT + ceil_div(s.K, KT) * ahead.part;
  const int64_t every = passes >= 4 * vectors ? 4 : passes >= 2 * vectors ? 2 : 1;
  const int64_t begin = index * vectors * every / passes,
                end = (index + 1) * vectors * every / passes;
  pass.mask = every - 1, pass.phase = begin & pass.mask;
  for (int64_t i = begin; i < end && pass.count < kMostAsked; ++i) {
    const int64_t vector = i / every;
    pass.offset[pass.count++] =
        ahead.offset + vector / cols * ahead.row + vector % cols * ahead.col;
  }
  return pass;
}

// What a step asks for: so many vectors of x, or weights, linearly or for each row. Each is a loop
// of its own: one instruction more costs 3 %.
enum class Asks { none, one, many, weights, rows };

// The sum itself.
template <Asks asks, int KT, int WT>
FASTCONV_INLINE void add_products(V (&acc)[KT][WT], const TileSweep& s, const float* x,
                                  const float* w, const Pass& pass) {
  const int64_t x_c = s.x_c, x_col = s.x_col, w_k = s.w_k, w_c = s.w_c, taps = s.taps, C = s.C;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  const int64_t mask = pass.mask, phase = pass.phase;
  const int64_t offset = asks == Asks::one ? pass.offset[0] : 0;
  const int64_t w_step = pass.w_step;
  const float* w_asked = w + pass.w_offset;
  for (int64_t c = 0; c < C; ++c, x += x_c, w += w_c) {
    if (asks == Asks::weights)
      prefetch(w_asked), w_asked += w_step;
    else if (asks == Asks::rows)
      for (int k = 0; k < KT; ++k) prefetch(w + pass.w_offset + k * w_k);
    else if (asks == Asks::one)
      prefetch(x + ((c & mask) == phase ? offset : 0));
    else if (asks == Asks::many)
      for (int64_t i = 0; i < pass.count; ++i) prefetch(x + pass.offset[i]);
    for (int64_t t = 0; t < taps; ++t) {
      const float *xt = x + x_tap[t], *wt = w + w_tap[t];
      V xv[WT];
#pragma GCC unroll 16
      for (int j = 0; j < WT; ++j) xv[j] = load(xt + j * x_col);
#pragma GCC unroll 16
      for (int k = 0; k < KT; ++k) {
        const V wv = set1(wt[k * w_k]);
#pragma GCC unroll 16
        for (int j = 0; j < WT; ++j) acc[k][j] = fma(wv, xv[j], acc[k][j]);
      }
    }
  }
}

// The same sum for one output channel, where n taps at a time read neighbours: a vector is loaded
// once for all of them. Else the load ports set the pace, 12 multiply-adds for 13 loads.
template <int n, int WT>
FASTCONV_INLINE void add_rows(V (&acc)[1][WT], const TileSweep& s, const float* x, const float* w,
                              const Pass& pass) {
  const int64_t x_c = s.x_c, w_c = s.w_c, taps = s.taps, C = s.C;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  for (int64_t c = 0; c < C; ++c, x += x_c, w += w_c) {
    for (int64_t i = 0; i < pass.count; ++i) prefetch(x + pass.offset[i]);
    for (int64_t t = 0; t < taps; t += n) {
      const float* row = x + x_tap[t];
      V xv[WT + n - 1];
#pragma GCC unroll 16
      for (int j = 0; j < WT - 1; ++j) xv[j] = load(row + j * kBlock);
#pragma GCC unroll 5
      for (int i = 0; i < n; ++i) {
        xv[WT - 1 + i] = load(row + (WT - 1 + i) * kBlock);
        const V wv = set1(w[w_tap[t + i]]);
#pragma GCC unroll 16
        for (int j = 0; j < WT; ++j) acc[0][j] = fma(wv, xv[i + j], acc[0][j]);
      }
    }
  }
}

template <int KT, int WT>
FASTCONV_INLINE void add_up(V (&acc)[KT][WT], const TileSweep& s, const float* x, const float* w,
                            const Pass& pass) {
  if constexpr (KT == 1) {
    if (pass.in_row == 2) return add_rows<2>(acc, s, x, w, pass);
    if (pass.in_row == 3) return add_rows<3>(acc, s, x, w, pass);
    if (pass.in_row == 5) return add_rows<5>(acc, s, x, w, pass);
  }
  if (kPrefetches && pass.w_step > 0)
    return s.taps > 1 ? add_products<Asks::rows>(acc, s, x, w, pass)
                      : add_products<Asks::weights>(acc, s, x, w, pass);
  if (!kPrefetches || pass.count == 0) return add_products<Asks::none>(acc, s, x, w, pass);
  if (pass.count == 1) return add_products<Asks::one>(acc, s, x, w, pass);
  add_products<Asks::many>(acc, s, x, w, pass);
}

// `tiles` neighbouring tiles of one row. x, w, y, bias point at the first one, of output channel
// k0.
template <int KT, int WT>
FASTCONV_INLINE void row_of_tiles(const TileSweep& s, const float* x, const float* w, float* y,
                                  const float* bias, int64_t k0, int64_t tiles,
                                  bool last_is_partial, const Pass& pass) {
  for (int64_t tile = 0; tile < tiles; ++tile, x += WT * s.x_col, y += WT * s.y_col) {
    const bool partial = last_is_partial && tile == tiles - 1;
    for (int part = 0; part < kParts; ++part) {
      const int rest = s.tail - part * kWidth;
      const int valid = partial && rest < kWidth ? rest : kWidth;
      if (valid <= 0 && WT == 1) continue;
      V acc[KT][WT];
      if (s.accumulate)
        load_tile(acc, s, y + part * kWidth, valid);
      else if (bias)
        for_tile<KT, WT>([&](int k, int j) { acc[k][j] = set1(bias[k]); });
      else
        for_tile<KT, WT>([&](int k, int j) { acc[k][j] = zero(); });
      add_up(acc, s, x + part * kWidth, w, pass);
      store_tile(s, y + part * kWidth, acc, k0, valid);
    }
  }
}

template <int KT, int WT>
void rows_of_tiles(const TileSweep& s, const float* x, const float* w, float* y, const float* bias,
                   int64_t k0, int64_t rows, int64_t tiles, bool last_is_partial,
                   const Pass& pass) {
  for (int64_t row = 0; row < rows; ++row)
    row_of_tiles<KT, WT>(s, x + row * s.x_row, w, y + row * s.y_row, bias, k0, tiles,
                         last_is_partial, pass);
}

using RowsOfTiles = void (*)(const TileSweep&, const float*, const float*, float*, const float*,
                             int64_t, int64_t, int64_t, bool, const Pass&);

// rows_of_tiles<KT, WT> as a table: [KT][WT].
struct Tiles {
  RowsOfTiles at[kMaxKT + 1][kWidest + 1];
};

template <int KT, int WT>
struct FillWidths {
  static constexpr void fill(Tiles& tiles) {
    tiles.at[KT][WT] = rows_of_tiles<KT, WT>;
    FillWidths<KT, WT - 1>::fill(tiles);
  }
};
template <int KT>
struct FillWidths<KT, 0> {
  static constexpr void fill(Tiles&) {}
};
template <int KT>
struct FillTiles {
  static constexpr void fill(Tiles& tiles) {
    FillWidths<KT, kMaxWT[KT]>::fill(tiles);
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
constexpr Tiles kTiles = make_tiles();  // a constant: no AVX code may run before dispatch

// The KT that cuts K x cols into the cheapest tiles. Cycles for one step of the sum: loads and
// multiply-adds overlap, loop control (about two cycles) does not. In quarters of a cycle.
int best_kt(int64_t K, int64_t cols) {
  int best = 1;
  int64_t best_cost = INT64_MAX;
  for (int kt = static_cast<int>(K < kMaxKT ? K : kMaxKT); kt >= 1; --kt) {
    const int64_t k_tiles = ceil_div(K, kt), col_tiles = ceil_div(cols, kMaxWT[kt]);
    const int64_t fmas = 4 * K * cols, broadcasts = 2 * K * col_tiles, loads = 4 * cols * k_tiles;
    const int64_t work = fmas > broadcasts + loads ? fmas : broadcasts + loads;
    const int64_t cost = work + (broadcasts + loads) / 8 + 8 * k_tiles * col_tiles;
    if (cost < best_cost) best_cost = cost, best = kt;
    if (kt <= 4 && K > kMaxKT) break;  // wide layers never want the flat tiles
  }
  return best;
}

// A row of `cols` vectors in tiles of width `wide` and, before them, `wide` - 1.
struct Columns {
  int64_t narrow_tiles, wide_tiles;
  int wide;
};

Columns cut_columns(int64_t cols, int kt) {
  const int64_t tiles = ceil_div(cols, kMaxWT[kt]), wide = ceil_div(cols, tiles);
  const int64_t narrow_tiles = tiles * wide - cols;
  return {narrow_tiles, tiles - narrow_tiles, static_cast<int>(wide)};
}

void sweep_rows(const TileSweep& s, const Columns& columns, int kt, const float* x, const float* w,
                float* y, const float* bias, int64_t k0) {
  const RowsOfTiles wide = kTiles.at[kt][columns.wide];
  const Pass wide_pass = make_pass(s, k0, kt, columns.wide);
  const bool partial = s.tail < kBlock;
  if (columns.narrow_tiles == 0) {
    wide(s, x, w, y, bias, k0, s.rows, columns.wide_tiles, partial, wide_pass);
    return;
  }
  const Pass narrow_pass = make_pass(s, k0, kt, columns.wide - 1);
  const RowsOfTiles narrow = kTiles.at[kt][columns.wide - 1];
  const int64_t done = columns.narrow_tiles * (columns.wide - 1);
  for (int64_t row = 0; row < s.rows; ++row, x += s.x_row, y += s.y_row) {
    narrow(s, x, w, y, bias, k0, 1, columns.narrow_tiles, false, narrow_pass);
    wide(s, x + done * s.x_col, w, y + done * s.y_col, bias, k0, 1, columns.wide_tiles, partial,
         wide_pass);
  }
}

// For a few images a weight is used for a few vectors: reading them from afar is worth beginning
// early, a tile ahead where that is not too much for L2 (1x1, 160 -> 960, 7 x 7: from 207 to 174 us
// with weights in L3).
void prefetch_rows(const float* w, int64_t rows, const TileSweep& s) {
  const int64_t bytes = rows * s.w_k * static_cast<int64_t>(sizeof(float));
  const char* p = reinterpret_cast<const char*>(w);
  if (bytes > 32 * 1024) return;
  for (int64_t at = 0; at < bytes; at += 64) prefetch(p + at);
}

}  // namespace

void tile_sweep(const TileSweep& s) {
  // Both cuts are even: K = 16 in tiles of at most 6 is 6 + 5 + 5, not 6 + 6 + 4. Tall tiles first.
  const int64_t k_tiles = ceil_div(s.K, best_kt(s.K, s.cols));
  const int tall = static_cast<int>(ceil_div(s.K, k_tiles));
  const int64_t tall_tiles = s.K - k_tiles * (tall - 1);
  const Columns tall_columns = cut_columns(s.cols, tall);
  const Columns low_columns = tall_tiles < k_tiles ? cut_columns(s.cols, tall - 1) : tall_columns;
  for (int64_t group = 0; group < s.groups; ++group) {
    const float *x = s.x + group * s.x_group, *w = s.w + group * s.w_group;
    const float* bias = s.bias ? s.bias + group * s.K : nullptr;
    float* y = s.y + group * s.y_group;
    int64_t k = 0;
    for (int64_t tile = 0; tile < k_tiles; ++tile) {
      const bool is_tall = tile < tall_tiles;
      const int kt = is_tall ? tall : tall - 1;
      if (s.finish && tile + 1 < k_tiles) prefetch_rows(w + kt * s.w_k, kt, s);
      sweep_rows(s, is_tall ? tall_columns : low_columns, kt, x, w, y, bias, k);
      k += kt;
      w += kt * s.w_k;
      y += kt * s.y_k;
      if (bias) bias += kt;
    }
  }
  if (s.streaming) stream_fence();
}

}  // namespace fastconv::cpu::FASTCONV_ISA
