// Gradients of a convolution behind which 2x2 maxima were taken (contracts: cpu/sweeps.h). Of four
// outputs one has a gradient, another one in each lane, and only its products are computed.
//
// By weight the four vectors of x that an output could have met become one: select by the row,
// then by the column of the maximum. By input the weight that a pixel meets is looked up by the
// position of the maximum: it is one of four, which lie side by side.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Rows t .. t + R - 1 of the kernels from x[c] to the channels k .. k + KT - 1. Columns of x come
// one after the other: of each, R vectors are selected for each channel, and with those of the
// column before they make the operands of one column of the kernel.
template <int KT, int R, int S>
void dot_rows(const PooledWeightGradient& s, int64_t k, int64_t c, int64_t t) {
  V acc[KT * R * S][kParts];
  const int64_t g_k = s.windows.g_k, at_k = s.windows.argmax_k;
  for (int part = 0; part < kParts; ++part) {
    V sum[KT][R][S];
#pragma GCC unroll 16
    for (int i = 0; i < KT; ++i)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int u = 0; u < S; ++u) sum[i][r][u] = zero();
    const float* g = s.windows.g + k * g_k + part * kWidth;
    const uint16_t* at = s.windows.argmax + k * at_k + part * kWidth;
    for (int64_t row = 0; row < s.windows.rows; ++row) {
      const float* x = s.x + c * s.x_c + (2 * row + t) * s.x_row + part * kWidth;
      for (int64_t col = 0; col < s.windows.cols; ++col) {
        Mask right[KT], lower[KT];
        V dy[KT], before[KT][R];
#pragma GCC unroll 16
        for (int i = 0; i < KT; ++i) {
          right[i] = has_bit<0>(at + i * at_k), lower[i] = has_bit<1>(at + i * at_k);
          dy[i] = load(g + i * g_k);
        }
#pragma GCC unroll 16
        for (int u = 0; u <= S; ++u) {
          V above = load(x + u * kBlock);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const V below = load(x + (r + 1) * s.x_row + u * kBlock);
#pragma GCC unroll 16
            for (int i = 0; i < KT; ++i) {
              const V met = select(lower[i], below, above);
              if (u > 0)
                sum[i][r][u - 1] =
                    fma(dy[i], select(right[i], met, before[i][r]), sum[i][r][u - 1]);
              before[i][r] = met;
            }
            above = below;
          }
        }
        g += kBlock, at += kBlock, x += 2 * kBlock;
      }
    }
    for (int i = 0; i < KT; ++i)
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < S; ++u) acc[(i * R + r) * S + u][part] = sum[i][r][u];
  }
  float sums[KT * R * S];
  sum_lanes(sums, acc);
  for (int i = 0; i < KT; ++i)
    for (int j = 0; j < R * S; ++j)
      s.dw[(k + i) * s.dw_k + c * S * S + t * S + j] = sums[i * R * S + j];
}

// As many rows at a time as registers take.
template <int KT, int R, int S>
void dot_kernel(const PooledWeightGradient& s, int64_t k, int64_t c) {
  int64_t t = 0;
  for (; t + R <= S; t += R) dot_rows<KT, R, S>(s, k, c, t);
  for (; t < S; ++t) dot_rows<KT, 1, S>(s, k, c, t);
}

template <int S>
void dot(const PooledWeightGradient& s) {
  constexpr int R = S == 3 ? 3 : 2, KT = kWidth == kBlock ? 2 : 1;
  int64_t k = 0;
  for (; k + KT <= s.K; k += KT)
    for (int64_t c = 0; c < s.C; ++c) dot_kernel<KT, R, S>(s, k, c);
  for (; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c) dot_kernel<1, R, S>(s, k, c);
}

// Of the windows of a row: rows t .. t + R - 1 of the patches of x[c] .. x[c + CT - 1] that they
// reach. Each window begins with what those before it left in the columns that they share.
template <int R, int CT, int S>
void spread_rows(const PooledInputGradient& s, int64_t c, int64_t t, int64_t row) {
  constexpr int T = S + 1;
  const int64_t w_c = s.w_c, w_k = s.w_k;
  for (int part = 0; part < kParts; ++part) {
    float* y = s.dx + c * s.dx_c + (2 * row + t) * s.dx_row + part * kWidth;
    V sum[CT][R * T];
    const auto add_columns = [&](int count) {
#pragma GCC unroll 16
      for (int i = 0; i < CT; ++i)
#pragma GCC unroll 16
        for (int j = 0; j < R * T; ++j)
          if (j % T < count) {
            float* to = y + i * s.dx_c + j / T * s.dx_row + j % T * kBlock;
            store(to, load(to) + sum[i][j]);
          }
    };
#pragma GCC unroll 16
    for (int i = 0; i < CT; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < R * T; ++j) sum[i][j] = zero();
    const PooledMaximum* at = s.maxima + row * s.cols * s.K;
    for (int64_t col = 0; col < s.cols; ++col, y += 2 * kBlock) {
      const float* w = s.w + c * w_c + t * T * 4;
      for (const PooledMaximum* end = at + s.K; at < end; ++at, w += w_k) {
        const Picks picks = load_picks(at->pick, part);
        const V dy = load(at->g + part * kWidth);
#pragma GCC unroll 16
        for (int i = 0; i < CT; ++i)
#pragma GCC unroll 16
          for (int j = 0; j < R * T; ++j)
            sum[i][j] = fma(dy, pick(w + i * w_c + j / 4 * 16, j % 4, picks), sum[i][j]);
      }
      add_columns(2);
#pragma GCC unroll 16
      for (int i = 0; i < CT; ++i)
#pragma GCC unroll 16
        for (int j = 0; j < R * T; ++j) sum[i][j] = j % T < T - 2 ? sum[i][j + 2] : zero();
    }
    add_columns(T - 2);
  }
}

template <int R, int CT, int S>
void spread(const PooledInputGradient& s, int64_t c) {
  for (int64_t t = 0; t <= S; t += R)
    for (int64_t row = 0; row < s.rows; ++row) spread_rows<R, CT, S>(s, c, t, row);
}

}  // namespace

void pooled_relu_mask(float* g, PooledMaximum* maxima, const float* dy, const float* y,
                      const uint16_t* argmax, int64_t K, int64_t windows) {
  for (int64_t k = 0; k < K; ++k)
    for (int64_t i = 0; i < windows; ++i, g += kBlock, dy += kBlock, argmax += kBlock) {
      for (int part = 0; part < kParts; ++part) {
        const int at = part * kWidth;
        const V gradient =
            y ? select(load(y + at) <= zero(), zero(), load(dy + at)) : load(dy + at);
        store(g + at, gradient);
        if (maxima) store(maxima[i * K + k].g + at, gradient);
      }
      if (maxima) store_picks(maxima[i * K + k].pick, argmax);
      if (y) y += kBlock;
    }
}

void pooled_weight_gradient(const PooledWeightGradient& s) {
  if (s.size == 3) return dot<3>(s);
  dot<5>(s);
}

void pooled_input_gradient(const PooledInputGradient& s) {
  constexpr bool wide = kWidth == kBlock;
  int64_t c = 0;
  if (s.size == 3) {
    for (; c < s.C; ++c) spread<wide ? 4 : 2, 1, 3>(s, c);
    return;
  }
  for (; wide && c + 2 <= s.C; c += 2) spread<2, wide ? 2 : 1, 5>(s, c);
  for (; c < s.C; ++c) spread<2, 1, 5>(s, c);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
