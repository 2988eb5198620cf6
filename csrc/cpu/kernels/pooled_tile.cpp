// A convolution and its 2x2 maxima in one tile (contract: PooledSweep in cpu/kernels.h): the
// broadcast tile of tile.cpp, whose columns are the four outputs of a window. They are compared
// where they are, in registers.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_maximum.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Four accumulators for each output channel, and beside them vectors of x and a weight.
#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxKT = 6, kAtOnce = 4;  // vectors of x
#else
constexpr int kMaxKT = 3, kAtOnce = 2;
#endif

template <class Best, int KT>
void window_tile(const PooledSweep& s, const float* x, const float* w, const float* bias, float* y,
                 uint16_t* argmax) {
  const int64_t x_c = s.x_c, x_row = s.x_row, x_col = s.x_col, w_k = s.w_k;
  for (int part = 0; part < kParts; ++part) {
    V sum[KT][4];
#pragma GCC unroll 16
    for (int k = 0; k < KT; ++k) {
      const V start = bias ? set1(bias[k]) : zero();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[k][i] = start;
    }
    const float *xp = x + part * kWidth, *wp = w;
    for (int64_t c = 0; c < s.C; ++c, xp += x_c, wp += s.w_c)
      for (int64_t t = 0; t < s.taps; ++t) {
        const float *from = xp + s.x_tap[t], *weight = wp + s.w_tap[t];
#pragma GCC unroll 2
        for (int first = 0; first < 4; first += kAtOnce) {
          if (kAtOnce < 4) weight = hidden(weight);  // spread once more, not kept in a register
          V v[kAtOnce];
#pragma GCC unroll 4
          for (int i = 0; i < kAtOnce; ++i)
            v[i] = load(from + (first + i) / 2 * x_row + (first + i) % 2 * x_col);
#pragma GCC unroll 16
          for (int k = 0; k < KT; ++k) {
            const V spread = set1(weight[k * w_k]);
#pragma GCC unroll 4
            for (int i = 0; i < kAtOnce; ++i)
              sum[k][first + i] = fma(spread, v[i], sum[k][first + i]);
          }
        }
      }
    const V floor = set1(s.relu ? 0.0f : -INFINITY);
#pragma GCC unroll 16
    for (int k = 0; k < KT; ++k) {
      const Best best = maximum_of<Best>(sum[k]);
      store(y + k * s.y_k + part * kWidth, max(floor, best.value));
      if constexpr (Best::placed) store_u16(argmax + k * s.y_k + part * kWidth, best.position);
    }
  }
}

template <class Best>
using WindowTile = void (*)(const PooledSweep&, const float*, const float*, const float*, float*,
                            uint16_t*);
template <class Best>
struct WindowTiles {
  WindowTile<Best> at[kMaxKT + 1];
};
template <class Best, int KT>
struct FillWindowTiles {
  static constexpr void fill(WindowTiles<Best>& tiles) {
    tiles.at[KT] = window_tile<Best, KT>;
    FillWindowTiles<Best, KT - 1>::fill(tiles);
  }
};
template <class Best>
struct FillWindowTiles<Best, 0> {
  static constexpr void fill(WindowTiles<Best>&) {}
};
template <class Best>
constexpr WindowTiles<Best> make_window_tiles() {
  WindowTiles<Best> tiles{};
  FillWindowTiles<Best, kMaxKT>::fill(tiles);
  return tiles;
}

template <class Best>
void sweep(const PooledSweep& s) {
  static constexpr WindowTiles<Best> kTiles = make_window_tiles<Best>();
  const int64_t k_tiles = ceil_div(s.K, kMaxKT);
  for (int64_t tile = 0, k = 0; tile < k_tiles; ++tile) {
    const int64_t kt = ceil_div(s.K - k, k_tiles - tile);
    const WindowTile<Best> run = kTiles.at[kt];
    const float *w = s.w + k * s.w_k, *bias = s.bias ? s.bias + k : nullptr;
    for (int64_t row = 0; row < s.rows; ++row) {
      const float* x = s.x + 2 * row * s.x_row;
      const int64_t y = k * s.y_k + row * s.y_row;
      for (int64_t col = 0; col < s.cols; ++col)
        run(s, x + 2 * col * s.x_col, w, bias, s.y + y + col * kBlock,
            Best::placed ? s.argmax + y + col * kBlock : nullptr);
    }
    k += kt;
  }
}

}  // namespace

void pooled_sweep(const PooledSweep& s) {
  if (s.argmax)
    sweep<PlacedMaximum>(s);
  else
    sweep<Maximum>(s);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
