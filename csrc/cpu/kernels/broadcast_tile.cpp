// The broadcast tile: convolution forward and by input, linear layers (contract: BroadcastTile in
// cpu/tiles.h). In plain loops:
//
//   for k < K, row < rows, col < cols:
//     sum = start
//     for c < C, t < taps:  sum += w[k][c][t] * x[c][row][col][t]      x: a vector, w: a float
//     y[k][row][col] = act(sum)
//
// The register tile holds the sums of KT output channels and WT columns over the whole loop:
//
//                 x[0]     x[1]   ...  x[WT-1]      WT loads, each used KT times
//     w[0]     | sum      sum          sum     |
//     w[1]     | sum      sum          sum     |    KT broadcasts, each used WT times
//     ...      |                               |
//     w[KT-1]  | sum      sum          sum     |    KT * WT multiply-adds
//
// Cost of a step (one c, one tap): WT loads and KT broadcasts for KT * WT multiply-adds. With
// 6 x 4 that is 10 for 24; a core with two load ports and two FMA pipes is bound by the FMA pipes,
// so the ceiling is the CPU's peak. A single output channel (1 x WT) would be bound by the loads;
// add_rows shares them between taps.
//
// The tile is the micro-kernel of BLIS (Van Zee and van de Geijn, "BLIS: A Framework for Rapidly
// Instantiating BLAS Functionality", 2015) without packing: with samples in the lanes, x and w are
// read where they lie, and every channel count (1, 6, 16, 20) runs at full width. The offsets of
// taps come from a table, so strides, dilation and both passes are the same code.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_post_ops.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The widest tile for KT output channels: KT * WT sums + WT vectors of x + 1 weight must fit the
// registers (32 with AVX-512, else 16). One more spills.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxKT = 10;
constexpr int kMaxWT[kMaxKT + 1] = {0, 12, 9, 7, 6, 5, 4, 3, 3, 2, 2};
#else
constexpr int kMaxKT = 6;
constexpr int kMaxWT[kMaxKT + 1] = {0, 7, 4, 3, 3, 2, 2};
#endif
constexpr int kWidest = kMaxWT[1];

// body(k, j) for each sum of a tile, fully unrolled: a loop that remains would keep the sums in
// memory.
template <int KT, int WT, class Body>
FASTCONV_INLINE void for_tile(const Body& body) {
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k)
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j) body(k, j);
}

// The same with the address of each in y. `hidden` makes each row's address from the one before it,
// when it is needed: the compiler would compute all 24 addresses first, and spill them.
template <int KT, int WT, class Float, class Body>
FASTCONV_INLINE void for_addresses(Float* y, const BroadcastTile& s, const Body& body) {
  const int64_t y_k = s.y_k, y_col = s.y_col;
#pragma GCC unroll 16
  for (int k = 0; k < KT; ++k, y += y_k) {
    y = hidden(y);
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j) body(k, j, y + j * y_col);
  }
}

// `valid` (kWidth or fewer, or none) floats of the last vector of the row count.
template <int KT, int WT>
FASTCONV_INLINE void load_tile(V (&acc)[KT][WT], const BroadcastTile& s, const float* y,
                               int valid) {
  if (valid == kWidth)
    return for_addresses<KT, WT>(y, s, [&](int k, int j, const float* p) { acc[k][j] = load(p); });
  for_addresses<KT, WT>(y, s, [&](int k, int j, const float* p) {
    acc[k][j] = j < WT - 1 ? load(p) : load_partial(p, valid > 0 ? valid : 0);
  });
}

template <int KT, int WT>
FASTCONV_INLINE void store_tile(const BroadcastTile& s, float* y, V (&acc)[KT][WT], int valid) {
  if (s.relu) {
    const V floor = loaded(zero());  // made here, so that it takes no register from the sums
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = max(floor, acc[k][j]); });  // NaN passes
  }
  if (valid < kWidth)
    return for_addresses<KT, WT>(y, s, [&](int k, int j, float* p) {
      if (j < WT - 1)
        store(p, acc[k][j]);
      else if (valid > 0)
        store_partial(p, acc[k][j], valid);
    });
  constexpr bool whole_lines = WT % kParts == 0;  // non-temporal stores of half a line are slow
  if (whole_lines && s.streaming && (kParts == 1 || s.y_col == kWidth))
    return for_addresses<KT, WT>(y, s, [&](int k, int j, float* p) { stream(p, acc[k][j]); });
  for_addresses<KT, WT>(y, s, [&](int k, int j, float* p) { store(p, acc[k][j]); });
}

// Applies s.post_ops to a tile that has just been stored.
void apply_post_ops(const BroadcastTile& s, float* y, int64_t k0, int64_t KT, int64_t WT,
                    int valid) {
  const float* plus = s.post_ops->plus;
  for (int64_t k = 0; k < KT; ++k)
    for (int64_t j = 0; j < WT; ++j) {
      float* p = y + k * s.y_k + j * s.y_col;
      const int floats = j < WT - 1 ? kWidth : valid;
      if (floats <= 0) continue;
      store_first(p,
                  with_post_ops(load_first(p, floats), *s.post_ops, k0 + k,
                                plus ? plus + (p - s.y) : nullptr, floats),
                  floats);
    }
}

// A panel: the output channels k0 .. k0 + KT - 1. Their weights, and what their tiles prefetch:
// before each `every` steps `count` lines, at these offsets from the current x (or w).
constexpr int64_t kMaxPrefetches = 32;
struct Panel {
  const float *w, *bias;
  int64_t k0;
  int in_row;  // see taps_in_row
  bool prefetch_w;
  int64_t every, count;
  int64_t offset[kMaxPrefetches];
};

// How many taps in a row read neighbouring vectors: 5, 3 or 2 if all taps come in such rows,
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

// Two things can be prefetched. With prefetch_w, the weights of the next panel: a line of each row
// every sixteen channels; with several taps, what step c will use of each row. Otherwise this
// panel's part of s.prefetch: each K-tile prefetches one input channel in `every`, all its vectors
// together. Neighbouring lines also wake the hardware prefetcher; lines from planes far apart would
// each hold a line fill buffer for the whole latency of memory.
FASTCONV_INLINE Panel make_panel(const BroadcastTile& s, const float* w, const float* bias,
                                 int64_t k0, int64_t KT, int64_t width) {
  Panel panel;
  panel.w = w, panel.bias = bias, panel.k0 = k0;
  panel.in_row = KT == 1 ? taps_in_row(s) : 1;
  panel.every = s.C, panel.count = 0, panel.prefetch_w = false;
  if (!kPrefetches) return panel;
  if (s.prefetch_w) {
    const int64_t next = k0 + KT < s.K ? KT * s.w_k : s.w_group - k0 * s.w_k;
    panel.every = s.taps > 1 ? 1 : kBlock, panel.prefetch_w = true;
    for (; panel.count < KT; ++panel.count) panel.offset[panel.count] = next + panel.count * s.w_k;
    return panel;
  }
  const Prefetch& prefetch = s.prefetch;
  if (prefetch.offset == 0) return panel;
  const int64_t panels = ceil_div(s.K, KT);
  const int64_t cols = ((width - 1) * s.x_col + prefetch.more) / prefetch.col + 1;
  const int64_t first = prefetch.offset + (k0 / KT + panels * prefetch.part) * s.x_c;
  panel.every = panels * prefetch.parts;
  for (int64_t row = 0; row < prefetch.rows; ++row)
    for (int64_t col = 0; col < cols && panel.count < kMaxPrefetches; ++col)
      panel.offset[panel.count++] = first + row * prefetch.row + col * prefetch.col;
  return panel;
}

// Calls steps(n) for all C steps, n at a time, and prefetches in between.
template <class Steps>
FASTCONV_INLINE void for_steps(const BroadcastTile& s, const Panel& panel, const float* x,
                               const Steps& steps) {
  const int64_t every = panel.every, count = panel.count;
  const float* at = panel.prefetch_w ? panel.w : x;
  const int64_t at_step = every * (panel.prefetch_w ? s.w_c : s.x_c);
  for (int64_t c = s.C; c > 0; c -= every, at += at_step) {
    for (int64_t i = 0; i < count; ++i) prefetch(at + panel.offset[i]);
    steps(c < every ? c : every);
  }
}

// The weights of KT output channels. Three rows share a pointer, because an x86 address can be
// base, base + index or base + 2 * index at no cost. Fewer instructions beside the multiply-adds
// pay where two threads share a core.
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
FASTCONV_INLINE void add_taps(V (&acc)[KT][WT], const BroadcastTile& s, const Panel& panel,
                              const float* x, int64_t x_col) {
  const int64_t x_c = s.x_c, w_k = s.w_k, w_c = s.w_c, taps = s.taps;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  const float* w = panel.w;
  for_steps(s, panel, x, [&](int64_t n) {
    for (; n > 0; --n, x += x_c, w += w_c)
      for (int64_t t = 0; t < taps; ++t)
        add_product(acc, x + x_tap[t], x_col, WeightRows<KT>(w + w_tap[t], w_k), w_k);
  });
}

// The sum over c and taps.
template <int KT, int WT>
FASTCONV_INLINE void add_products(V (&acc)[KT][WT], const BroadcastTile& s, const Panel& panel,
                                  const float* x) {
  if (s.x_col != kWidth) return add_taps(acc, s, panel, x, s.x_col);
  if (s.taps != 1) return add_taps(acc, s, panel, x, kWidth);
  const int64_t x_c = s.x_c, w_k = s.w_k, w_c = s.w_c;
  const float* xt = x + s.x_tap[0];
  WeightRows<KT> w(panel.w + s.w_tap[0], w_k);
  for_steps(s, panel, x, [&](int64_t n) {
    for (; n > 0; --n, xt += x_c, w.advance(w_c)) add_product(acc, xt, kWidth, w, w_k);
  });
}

// The same for one output channel when n taps in a row read neighbouring vectors: WT + n - 1 loads
// serve n * WT multiply-adds. Tap by tap it would be 13 loads for 12 multiply-adds.
template <int n, int WT>
FASTCONV_INLINE void add_rows(V (&acc)[1][WT], const BroadcastTile& s, const Panel& panel,
                              const float* x) {
  const int64_t x_c = s.x_c, w_c = s.w_c, taps = s.taps;
  const int64_t *x_tap = s.x_tap, *w_tap = s.w_tap;
  const float* w = panel.w;
  for_steps(s, panel, x, [&](int64_t steps) {
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
FASTCONV_INLINE void add_up(V (&acc)[KT][WT], const BroadcastTile& s, const Panel& panel,
                            const float* x) {
  if constexpr (KT == 1) {
    if (panel.in_row == 2) return add_rows<2>(acc, s, panel, x);
    if (panel.in_row == 3) return add_rows<3>(acc, s, panel, x);
    if (panel.in_row == 5) return add_rows<5>(acc, s, panel, x);
  }
  add_products(acc, s, panel, x);
}

// The micro-kernel: one tile, `valid` floats of its last vector. A function of its own for each KT
// and WT: inlined, the loops around it would take registers from the sums.
template <int KT, int WT>
void tile(const BroadcastTile& s, const Panel& panel, const float* x, float* y, int valid) {
  V acc[KT][WT];
  if (s.accumulate)
    load_tile(acc, s, y, valid);
  else if (panel.bias)
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = set1(panel.bias[k]); });
  else
    for_tile<KT, WT>([&](int k, int j) { acc[k][j] = zero(); });
  add_up(acc, s, panel, x);
  store_tile(s, y, acc, valid);
  if (s.post_ops) apply_post_ops(s, y, panel.k0, KT, WT, valid);
}

using Tile = void (*)(const BroadcastTile&, const Panel&, const float*, float*, int);

// at[KT][WT] is tile<KT, WT>.
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

// The KT that splits K x cols into the cheapest tiles. The cost is that of one step, in quarters of
// a cycle: multiply-adds and loads overlap, loop control (about two cycles a tile) does not.
int best_kt(int64_t K, int64_t cols) {
  int best = 1;
  int64_t best_cost = INT64_MAX;
  for (int kt = static_cast<int>(K < kMaxKT ? K : kMaxKT); kt >= 1; --kt) {
    const int64_t k_tiles = ceil_div(K, kt), col_tiles = ceil_div(cols, kMaxWT[kt]);
    const int64_t fmas = 4 * K * cols, broadcasts = 2 * K * col_tiles, loads = 4 * cols * k_tiles;
    const int64_t work = fmas > broadcasts + loads ? fmas : broadcasts + loads;
    const int64_t cost = work + (broadcasts + loads) / 8 + 8 * k_tiles * col_tiles;
    // On AVX2 tall tiles are two wide, a whole line. A lower tile reads x more often and must repay
    // it.
    const int64_t margin = kParts > 1 ? cost / 50 : 0;
    if (cost + margin < best_cost) best_cost = cost, best = kt;
    if (kt <= 4 && K > kMaxKT) break;  // flat tiles never suit wide layers
  }
  return best;
}

// A row of `cols` vectors as tiles of width `wide` - 1, then of width `wide`.
struct Columns {
  int64_t narrow_tiles, wide_tiles;
  int wide;
};

Columns split_columns(int64_t cols, int kt) {
  const int64_t tiles = ceil_div(cols, kMaxWT[kt]), wide = ceil_div(cols, tiles);
  const int64_t narrow_tiles = tiles * wide - cols;
  return {narrow_tiles, tiles - narrow_tiles, static_cast<int>(wide)};
}

// On AVX2 a lane block is two vectors. Makes both of them columns where neighbouring columns are
// neighbours in memory, and where there is a single row, whose columns become rows. Otherwise the
// tiles run once for each half (parts_of) and read half of every line each time.
BroadcastTile in_vectors(const BroadcastTile& given) {
  BroadcastTile s = given;
  if (kParts == 1 || s.K == 1) return s;  // K = 1: keeps taps_in_row
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

// `tiles` neighbouring tiles of one row; the last may end in a partial vector.
void row_of_tiles(Tile tile, int width, const BroadcastTile& s, const Panel& panel, const float* x,
                  float* y, int64_t tiles, bool last_is_partial) {
  for (int64_t i = 0; i < tiles; ++i, x += width * s.x_col, y += width * s.y_col) {
    const bool partial = last_is_partial && i == tiles - 1;
    for (int part = 0; part < parts_of(s); ++part) {
      const int rest = s.tail - part * kWidth;
      const int valid = partial && rest < kWidth ? rest : kWidth;
      if (valid <= 0 && width == 1) continue;
      tile(s, panel, x + part * kWidth, y + part * kWidth, valid);
    }
  }
}

// The macro-kernel: all rows of one panel.
void macro_kernel(const BroadcastTile& s, const Columns& columns, int kt, const float* x,
                  const float* w, float* y, const float* bias, int64_t k0) {
  const int wide = columns.wide;
  const Panel panel = make_panel(s, w, bias, k0, kt, wide);
  const auto wide_tiles = [&](const float* from, float* to) {
    row_of_tiles(kTiles.at[kt][wide], wide, s, panel, from, to, columns.wide_tiles,
                 s.tail < parts_of(s) * kWidth);
  };
  if (columns.narrow_tiles == 0) {
    for (int64_t row = 0; row < s.rows; ++row) wide_tiles(x + row * s.x_row, y + row * s.y_row);
    return;
  }
  const Panel narrow_panel = make_panel(s, w, bias, k0, kt, wide - 1);
  const int64_t done = columns.narrow_tiles * (wide - 1);
  for (int64_t row = 0; row < s.rows; ++row, x += s.x_row, y += s.y_row) {
    row_of_tiles(kTiles.at[kt][wide - 1], wide - 1, s, narrow_panel, x, y, columns.narrow_tiles,
                 false);
    wide_tiles(x + done * s.x_col, y + done * s.y_col);
  }
}

// With a small batch each weight serves only a few vectors, so reading weights from L3 dominates:
// prefetches those of the next panel where they take little of L2.
void prefetch_weights(const float* w, int64_t rows, const BroadcastTile& s) {
  const int64_t bytes = rows * s.w_k * static_cast<int64_t>(sizeof(float));
  const char* p = reinterpret_cast<const char*>(w);
  if (bytes > 32 * 1024) return;
  for (int64_t at = 0; at < bytes; at += 64) prefetch(p + at);
}

}  // namespace

void broadcast_tile(const BroadcastTile& given) {
  const BroadcastTile s = in_vectors(given);
  // Both splits are even: K = 16 in tiles of at most 6 is 6 + 5 + 5, not 6 + 6 + 4. Tall tiles
  // first.
  const int64_t k_tiles = ceil_div(s.K, best_kt(s.K, s.cols));
  const int tall = static_cast<int>(ceil_div(s.K, k_tiles));
  const int64_t tall_tiles = s.K - k_tiles * (tall - 1);
  const Columns tall_columns = split_columns(s.cols, tall);
  const Columns low_columns = tall_tiles < k_tiles ? split_columns(s.cols, tall - 1) : tall_columns;
  for (int64_t group = 0; group < s.groups; ++group) {
    const float *x = s.x + group * s.x_group, *w = s.w + group * s.w_group;
    const float* bias = s.bias ? s.bias + group * s.K : nullptr;
    float* y = s.y + group * s.y_group;
    int64_t k = 0;
    for (int64_t tile = 0; tile < k_tiles; ++tile) {
      const bool is_tall = tile < tall_tiles;
      const int kt = is_tall ? tall : tall - 1;
      if (s.post_ops && tile + 1 < k_tiles) prefetch_weights(w + kt * s.w_k, kt, s);
      macro_kernel(s, is_tall ? tall_columns : low_columns, kt, x, w, y, bias, k);
      k += kt;
      w += kt * s.w_k;
      y += kt * s.y_k;
      if (bias) bias += kt;
    }
  }
  if (s.streaming) stream_fence();
}

}  // namespace fastconv::cpu::FASTCONV_ISA
