// Gradients of a convolution behind which 2x2 maxima were taken (contracts: cpu/kernels.h). Of four
// outputs one has a gradient, another one in each lane, and only its products are computed.
//
// By weight the four vectors of x that an output could have met become one: select by the column,
// then by the row of the maximum. By input the weight that a pixel meets is looked up by the
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
void dot_rows(const PooledDot& s, int64_t k, int64_t c, int64_t t) {
  V acc[KT * R * S][kParts];
  const int64_t windows = s.windows.rows * s.windows.cols * kBlock;
  for (int part = 0; part < kParts; ++part) {
    V sum[KT][R][S];
#pragma GCC unroll 16
    for (int i = 0; i < KT; ++i)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int u = 0; u < S; ++u) sum[i][r][u] = zero();
    const float* g = s.windows.g + k * windows + part * kWidth;
    const uint16_t* at = s.windows.argmax + k * windows + part * kWidth;
    for (int64_t row = 0; row < s.windows.rows; ++row) {
      const float* x = s.x + c * s.x_c + (2 * row + t) * s.x_row + part * kWidth;
      for (int64_t col = 0; col < s.windows.cols; ++col) {
        Mask right[KT], lower[KT];
        V dy[KT], before[KT][R];
#pragma GCC unroll 16
        for (int i = 0; i < KT; ++i) {
          right[i] = has_bit<0>(at + i * windows), lower[i] = has_bit<1>(at + i * windows);
          dy[i] = load(g + i * windows);
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
void dot_kernel(const PooledDot& s, int64_t k, int64_t c) {
  int64_t t = 0;
  for (; t + R <= S; t += R) dot_rows<KT, R, S>(s, k, c, t);
  for (; t < S; ++t) dot_rows<KT, 1, S>(s, k, c, t);
}

template <int S>
void dot(const PooledDot& s) {
#if defined(FASTCONV_ISA_AVX512)
  constexpr int R = S == 3 ? 3 : 2;
  int64_t k = 0;
  for (; k + 2 <= s.K; k += 2)
    for (int64_t c = 0; c < s.C; ++c) dot_kernel<2, R, S>(s, k, c);
  for (; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c) dot_kernel<1, R, S>(s, k, c);
#else
  for (int64_t k = 0; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c) dot_kernel<1, 1, S>(s, k, c);
#endif
}

// Rows t .. t + R - 1 of the patches of x[c] that the windows col .. col + WT - 1 of a row reach.
template <int R, int WT, int S>
void spread_rows(const PooledSpread& s, const float* w, int64_t c, int64_t t, int64_t row,
                 int64_t col) {
  constexpr int T = S + 1;
  const int64_t windows = s.windows.rows * s.windows.cols * kBlock;
  const int64_t first = (row * s.windows.cols + col) * kBlock;
  const int64_t w_k = s.w_k;
  for (int part = 0; part < kParts; ++part) {
    V sum[WT][R][T];
#pragma GCC unroll 16
    for (int j = 0; j < WT; ++j)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int u = 0; u < T; ++u) sum[j][r][u] = zero();
    const float* g = s.windows.g + first + part * kWidth;
    const uint32_t* at = s.position + first + part * kWidth;
    const float* fours = w + part * kWidth;
    for (int64_t k = 0; k < s.K; ++k, g += windows, at += windows, fours += w_k) {
      U position[WT];
      V dy[WT];
#pragma GCC unroll 16
      for (int j = 0; j < WT; ++j) {
        position[j] = load(at + j * kBlock);
        dy[j] = load(g + j * kBlock);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int u = 0; u < T; ++u) {
          const V met = load(fours + (r * T + u) * kBlock);
#pragma GCC unroll 16
          for (int j = 0; j < WT; ++j) sum[j][r][u] = fma(dy[j], one_of(met, position[j]), sum[j][r][u]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* y = s.dx + c * s.dx_c + (2 * row + t + r) * s.dx_row + 2 * col * kBlock + part * kWidth;
#pragma GCC unroll 32
      for (int u = 0; u < T + 2 * (WT - 1); ++u) {
        V total = load(y + u * kBlock);
#pragma GCC unroll 16
        for (int j = 0; j < WT; ++j)
          if (u - 2 * j >= 0 && u - 2 * j < T) total = total + sum[j][r][u - 2 * j];
        store(y + u * kBlock, total);
      }
    }
  }
}

template <int WT, int S, int R>
void spread(const PooledSpread& s) {
  constexpr int T = S + 1;
  for (int64_t c = 0; c < s.C; ++c)
    for (int64_t t = 0; t < T; t += R) {
      const float* w = s.w + c * s.w_c + t * T * kBlock;
      for (int64_t row = 0; row < s.windows.rows; ++row) {
        int64_t col = 0;
        for (; col + WT <= s.windows.cols; col += WT) spread_rows<R, WT, S>(s, w, c, t, row, col);
        for (; col < s.windows.cols; ++col) spread_rows<R, 1, S>(s, w, c, t, row, col);
      }
    }
}

}  // namespace

void pooled_dot(const PooledDot& s) {
  if (s.size == 3) return dot<3>(s);
  dot<5>(s);
}

void pooled_spread(const PooledSpread& s) {
  constexpr bool wide = kWidth == kBlock;
  if (s.size == 3) return spread<wide ? 3 : 1, 3, 2>(s);
  spread<wide ? 2 : 1, 5, 2>(s);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
