// The broadcast tile: convolution forward and by input, linear layers (contract: BroadcastTile in
// cpu/sweeps.h).
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
#include "cpu/simd_post_ops.h"

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

// The same with the address of each in y. Rows are found one from the other when they are needed:
// the compiler would rather work out all 24 addresses at the beginning and keep them somewhere.
template <int KT, int WT, class Float, class Body>
FASTCONV_INLINE void for_places(Float* y, const BroadcastTile& s, const Body& body) {
  const int64_t y_k = s.y_k, y_col = s.y_col;
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k, y += y_k) {
    y = hidden(y);
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j) body(k, j, y + j * y_col);
  }
}

// Of the last vector of the row the first `valid` floats (kWidth or fewer, down to none) count.
template <int KT, int WT>
FASTCONV_INLINE void load_tile(V (&acc)[KT][WT], const BroadcastTile& s, const float* y,
                               int valid) {
  if (valid == kWidth)
    return for_places<KT, WT>(y, s, [&](int k, int j, const float* p) { acc[k][j] = load(p); });
  for_places<KT, WT>(y, s, [&](int k, int j, const float* p) {
    acc[k][j] = j < WT - 1 ? load(p) : load_partial(p, valid > 0 ? valid : 0);
  });
}

template <int KT, int WT>
FASTCONV_INLINE void store_tile(const BroadcastTile& s, float* y, V (&acc)[KT][WT], int valid) {
  if (s.relu) {
    const V floor = loaded(zero());  // not one that takes a register from the sum
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = max(floor, acc[k][j]); });  // NaN passes
  }
  if (valid < kWidth)
    return for_places<KT, WT>(y, s, [&](int k, int j, float* p) {
      if (j < WT - 1)
        store(p, acc[k][j]);
      else if (valid > 0)
        store_partial(p, acc[k][j], valid);
    });
  constexpr bool whole_lines = WT % kParts == 0;  // half a line at a time would be slow
  if (whole_lines && s.streaming && (kParts == 1 || s.y_col == kWidth))
    return for_places<KT, WT>(y, s, [&](int k, int j, float* p) { stream(p, acc[k][j]); });
  for_places<KT, WT>(y, s, [&](int k, int j, float* p) { store(p, acc[k][j]); });
}

// s.finish, of a tile that has just been stored.
void finish_tile(const BroadcastTile& s, float* y, int64_t k0, int64_t KT, int64_t WT, int valid) {
  const float* plus = s.finish->plus;
  for (int64_t k = 0; k < KT; ++k)
    for (int64_t j = 0; j < WT; ++j) {
      float* p = y + k * s.y_k + j * s.y_col;
      const int floats = j < WT - 1 ? kWidth : valid;
      if (floats <= 0) continue;
      store_first(p,
                  finished(load_first(p, floats), *s.finish, k0 + k,
                           plus ? plus + (p - s.y) : nullptr, floats),
                  floats);
    }
}

// The output channels k0 .. k0 + KT - 1: their weights, and what tiles of them ask for while they
// pass over x. Before each `every` steps that is `count` vectors, so many floats behind where x, or
// w, is then.
constexpr int64_t kMostAsked = 32;
struct Pass {
  const float *w, *bias;
  int64_t k0;
  int in_row;  // see taps_in_row
  bool prefetch_w;
  int64_t every, count;
  int64_t offset[kMostAsked];
};

// How many taps at a time read neighbouring vectors: 2, 3 or 5 where that is so for all of them,
// else 1.
int taps_in_row(const BroadcastTile& s) {
  if (s.x_col != kBlock) return 1;
  for (int n = 5; n > 1; n -= n > 3 ? 2 : 1) {
    bool all = s.taps % n == 0;
    for (int64_t t = 0; t < s.taps && all; ++t)
      all = t % n == 0 || s.x_tap[t] == s.x_tap[t - 1] + kBlock;
    if (all) return n;
  }
  return 1;
}

// A pass asks for its share of s.ahead: of the input channels that it passes over, for all vectors
// of one in so many. Neighbours together: then the CPU's own prefetcher, which looks for
// neighbours, helps. (Alone, in planes far apart, each holds one of the few buffers of outstanding
// lines for as long as memory takes.) Or it asks for the weights of the next tile: a line of each
// row every sixteen floats; with taps, of each row what step c uses.
FASTCONV_INLINE Pass make_pass(const BroadcastTile& s, const float* w, const float* bias,
                               int64_t k0, int64_t KT, int64_t width) {
  Pass pass;
  pass.w = w, pass.bias = bias, pass.k0 = k0;
  pass.in_row = KT == 1 ? taps_in_row(s) : 1;
  pass.every = s.C, pass.count = 0, pass.prefetch_w = false;
  if (!kPrefetches) return pass;
  if (s.prefetch_w) {
    const int64_t next = k0 + KT < s.K ? KT * s.w_k : s.w_group - k0 * s.w_k;
    pass.every = s.taps > 1 ? 1 : kBlock, pass.prefetch_w = true;
    for (; pass.count < KT; ++pass.count) pass.offset[pass.count] = next + pass.count * s.w_k;
    return pass;
  }
  const Prefetch& prefetch = s.prefetch;
  if (prefetch.offset == 0) return pass;
  const int64_t passes = ceil_div(s.K, KT);
  const int64_t cols = ((width - 1) * s.x_col + prefetch.more) / prefetch.col + 1;
  const int64_t first = prefetch.offset + (k0 / KT + passes * prefetch.part) * s.x_c;
  pass.every = passes * prefetch.parts;
  for (int64_t row = 0; row < prefetch.rows; ++row)
    for (int64_t col = 0; col < cols && pass.count < kMostAsked; ++col)
      pass.offset[pass.count++] = first + row * prefetch.row + col * prefetch.col;
  return pass;
}

// Calls steps(n) for n steps at a time, all C of them, and asks in between.
template <class Steps>
FASTCONV_INLINE void for_steps(const BroadcastTile& s, const Pass& pass, const float* x,
                               const Steps& steps) {
  const int64_t every = pass.every, count = pass.count;
  const float* asked = pass.prefetch_w ? pass.w : x;
  const int64_t asked_step = every * (pass.prefetch_w ? s.w_c : s.x_c);
  for (int64_t c = s.C; c > 0; c -= every, asked += asked_step) {
    for (int64_t i = 0; i < count; ++i) prefetch(asked + pass.offset[i]);
    steps(c < every ? c : every);
  }
}

// The weights of KT output channels. Three share a pointer: an address may have a register added to
// it once, or twice, for nothing. The fewer instructions beside the multiply-adds, the better where
// two threads share a core.
template <int KT>
struct WeightRows {
  static constexpr int kPointers = (KT + 2) / 3;
  const float* at[kPointers];

  FASTCONV_INLINE WeightRows(const float* w, int64_t w_k) {
    for (int i = 0; i < kPointers; ++i) at[i] = hidden(w + 3 * i * w_k);
  }
  FASTCONV_INLINE void advance(int64_t floats) {
    for (int i = 0; i < kPointers; ++i) at[i] += floats;
  }
};

// acc[k][j] += w[k] * x[j * x_col]
template <int KT, int WT>
FASTCONV_INLINE void add_product(V (&acc)[KT][WT], const float* x, int64_t x_col,
                                 const WeightRows<KT>& w, int64_t w_row) {
  const int64_t w_k = hidden(w_row);
  V xv[WT];
#pragma GCC unroll 16
  for (int j = 0; j < WT; ++j) xv[j] = loaded(load(x + j * x_col));
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k) {
    const V wv = set1(w.at[k / 3][k % 3 * w_k]);
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j) acc[k][j] = fma(wv, xv[j], acc[k][j]);
  }
}

template <int KT, int WT>
FASTCONV_INLINE void add_taps(V (&acc)[KT][WT], const BroadcastTile& s, const Pass& pass,
                              const float* x, int64_t x_col) {
  const int64_t x_c = s.x_c, w_k = s.w_k, w_c = s.w_c, taps = s.taps;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  const float* w = pass.w;
  for_steps(s, pass, x, [&](int64_t n) {
    for (; n > 0; --n, x += x_c, w += w_c)
      for (int64_t t = 0; t < taps; ++t)
        add_product(acc, x + x_tap[t], x_col, WeightRows<KT>(w + w_tap[t], w_k), w_k);
  });
}

// The sum itself.
template <int KT, int WT>
FASTCONV_INLINE void add_products(V (&acc)[KT][WT], const BroadcastTile& s, const Pass& pass,
                                  const float* x) {
  if (s.x_col != kWidth) return add_taps(acc, s, pass, x, s.x_col);
  if (s.taps != 1) return add_taps(acc, s, pass, x, kWidth);
  const int64_t x_c = s.x_c, w_k = s.w_k, w_c = s.w_c;
  const float* xt = x + s.x_tap[0];
  WeightRows<KT> w(pass.w + s.w_tap[0], w_k);
  for_steps(s, pass, x, [&](int64_t n) {
    for (; n > 0; --n, xt += x_c, w.advance(w_c)) add_product(acc, xt, kWidth, w, w_k);
  });
}

// The same sum for one output channel, where n taps at a time read neighbours: a vector is loaded
// once for all of them. Else the load ports set the pace, 12 multiply-adds for 13 loads.
template <int n, int WT>
FASTCONV_INLINE void add_rows(V (&acc)[1][WT], const BroadcastTile& s, const Pass& pass,
                              const float* x) {
  const int64_t x_c = s.x_c, w_c = s.w_c, taps = s.taps;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  const float* w = pass.w;
  for_steps(s, pass, x, [&](int64_t steps) {
    for (; steps > 0; --steps, x += x_c, w += w_c)
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
  });
}

template <int KT, int WT>
FASTCONV_INLINE void add_up(V (&acc)[KT][WT], const BroadcastTile& s, const Pass& pass,
                            const float* x) {
  if constexpr (KT == 1) {
    if (pass.in_row == 2) return add_rows<2>(acc, s, pass, x);
    if (pass.in_row == 3) return add_rows<3>(acc, s, pass, x);
    if (pass.in_row == 5) return add_rows<5>(acc, s, pass, x);
  }
  add_products(acc, s, pass, x);
}

// One tile, whose last vector has `valid` floats that count. A function of its own for each KT and
// WT: the loops around it would take registers from the sum.
template <int KT, int WT>
void tile(const BroadcastTile& s, const Pass& pass, const float* x, float* y, int valid) {
  V acc[KT][WT];
  if (s.accumulate)
    load_tile(acc, s, y, valid);
  else if (pass.bias)
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = set1(pass.bias[k]); });
  else
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = zero(); });
  add_up(acc, s, pass, x);
  store_tile(s, y, acc, valid);
  if (s.finish) finish_tile(s, y, pass.k0, KT, WT, valid);
}

using Tile = void (*)(const BroadcastTile&, const Pass&, const float*, float*, int);

// tile<KT, WT> as a table: [KT][WT].
struct Tiles {
  Tile at[kMaxKT + 1][kWidest + 1];
};

template <int KT, int WT>
struct FillWidths {
  static constexpr void fill(Tiles& tiles) {
    tiles.at[KT][WT] = tile<KT, WT>;
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
    // Narrow vectors: tall tiles are two wide, a whole line. A lower one must repay reading more.
    const int64_t margin = kParts > 1 ? cost / 50 : 0;
    if (cost + margin < best_cost) best_cost = cost, best = kt;
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

// Narrow vectors: the parts of a lane block are columns of their own where neighbouring columns are
// neighbours in memory, or where there is one row, which becomes a column then. Else each part is
// swept by itself, and reads of every line but its own part.
BroadcastTile in_vectors(const BroadcastTile& given) {
  BroadcastTile s = given;
  if (kParts == 1 || s.K == 1) return s;  // one output channel: see taps_in_row
  if (s.x_col == kBlock && s.y_col == kBlock) {
    const int parts = (s.tail + kWidth - 1) / kWidth;  // of the last block
    s.cols = (s.cols - 1) * kParts + parts;
    s.tail -= (parts - 1) * kWidth;
  } else if (s.rows == 1 && s.tail == kBlock) {
    s.rows = s.cols, s.x_row = s.x_col, s.y_row = s.y_col;
    s.cols = kParts, s.tail = kWidth;
  } else {
    return s;
  }
  s.x_col = s.y_col = kWidth;
  return s;
}

int parts_of(const BroadcastTile& s) { return s.x_col == kWidth ? 1 : kParts; }

// `tiles` neighbouring tiles of one row; the last one may end in a partial vector.
void row_of_tiles(Tile tile, int width, const BroadcastTile& s, const Pass& pass, const float* x,
                  float* y, int64_t tiles, bool last_is_partial) {
  for (int64_t i = 0; i < tiles; ++i, x += width * s.x_col, y += width * s.y_col) {
    const bool partial = last_is_partial && i == tiles - 1;
    for (int part = 0; part < parts_of(s); ++part) {
      const int rest = s.tail - part * kWidth;
      const int valid = partial && rest < kWidth ? rest : kWidth;
      if (valid <= 0 && width == 1) continue;
      tile(s, pass, x + part * kWidth, y + part * kWidth, valid);
    }
  }
}

void sweep_rows(const BroadcastTile& s, const Columns& columns, int kt, const float* x,
                const float* w, float* y, const float* bias, int64_t k0) {
  const int wide = columns.wide;
  const Pass pass = make_pass(s, w, bias, k0, kt, wide);
  const auto wide_tiles = [&](const float* from, float* to) {
    row_of_tiles(kTiles.at[kt][wide], wide, s, pass, from, to, columns.wide_tiles,
                 s.tail < parts_of(s) * kWidth);
  };
  if (columns.narrow_tiles == 0) {
    for (int64_t row = 0; row < s.rows; ++row) wide_tiles(x + row * s.x_row, y + row * s.y_row);
    return;
  }
  const Pass narrow_pass = make_pass(s, w, bias, k0, kt, wide - 1);
  const int64_t done = columns.narrow_tiles * (wide - 1);
  for (int64_t row = 0; row < s.rows; ++row, x += s.x_row, y += s.y_row) {
    row_of_tiles(kTiles.at[kt][wide - 1], wide - 1, s, narrow_pass, x, y, columns.narrow_tiles,
                 false);
    wide_tiles(x + done * s.x_col, y + done * s.y_col);
  }
}

// For a few images a weight is used for a few vectors: reading them from afar is worth beginning
// early, a tile ahead where that is not too much for L2 (1x1, 160 -> 960, 7 x 7: from 207 to 174 us
// with weights in L3).
void prefetch_rows(const float* w, int64_t rows, const BroadcastTile& s) {
  const int64_t bytes = rows * s.w_k * static_cast<int64_t>(sizeof(float));
  const char* p = reinterpret_cast<const char*>(w);
  if (bytes > 32 * 1024) return;
  for (int64_t at = 0; at < bytes; at += 64) prefetch(p + at);
}

}  // namespace

void broadcast_tile(const BroadcastTile& given) {
  const BroadcastTile s = in_vectors(given);
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
