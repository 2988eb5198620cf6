// The gradients of a convolution followed by 2x2 max pooling (contracts: PooledWeightGradient and
// PooledInputGradient in cpu/tiles.h). Of the four outputs of a window only the maximum has a
// gradient, another one in each lane; only its products are computed, a quarter of the
// convolution's gradients. In plain loops, with (lower, right) the position of the maximum in the
// window:
//
//   for each window, k, c, t, u:
//     dw[k][c][t][u] += g * x[c][2 * row + lower + t][2 * col + right + u]
//     dx[c][2 * row + lower + t][2 * col + right + u] += g * w[k][c][t][u]
//
// By weight (weight_rows): the position selects, lane by lane, one of four vectors of x.
//
//     x[2*row+t]   | above |                     met = lower ? below : above     for a column,
//     x[2*row+t+1] | below |   two selects:      operand = right ? met : before  before: met of the
//                                                                                column to the left
//
//   The registers hold KT * R * S sums. Cost of a column of x: R + 1 loads, 2 * KT * R selects for
//   KT * R multiply-adds. The selects are the ceiling.
//
// By input (input_rows): `pick` looks up the weight that a pixel meets, one of four that lie side
// by side, by the position in each lane.
//
//     sum[c][0 .. R*(S+1))    R rows of the (S+1) x (S+1) patch of dx that a window reaches
//
//   Cost of a window and k: a load of g and of its picks, then one shuffle for each multiply-add.
//   The shuffle port is the ceiling. The two columns that the next window does not reach are added
//   to dx; the others stay in registers.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// Rows t .. t + R - 1 of the kernels from x[c] to the channels k .. k + KT - 1.
template <int KT, int R, int S>
void weight_rows(const PooledWeightGradient& s, int64_t k, int64_t c, int64_t t) {
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

// A whole kernel, R rows at a time while R remain.
template <int KT, int R, int S>
void weight_kernel(const PooledWeightGradient& s, int64_t k, int64_t c) {
  int64_t t = 0;
  for (; t + R <= S; t += R) weight_rows<KT, R, S>(s, k, c, t);
  for (; t < S; ++t) weight_rows<KT, 1, S>(s, k, c, t);
}

template <int S>
void weight_gradient(const PooledWeightGradient& s) {
  constexpr int R = S == 3 ? 3 : 2, KT = kWidth == kBlock ? 2 : 1;
  int64_t k = 0;
  for (; k + KT <= s.K; k += KT)
    for (int64_t c = 0; c < s.C; ++c) weight_kernel<KT, R, S>(s, k, c);
  for (; k < s.K; ++k)
    for (int64_t c = 0; c < s.C; ++c) weight_kernel<1, R, S>(s, k, c);
}

// For one row of windows: rows t .. t + R - 1 of their patches, of the channels c .. c + CT - 1.
// Sums of the columns that neighbouring windows share pass on in registers.
template <int R, int CT, int S>
void input_rows(const PooledInputGradient& s, int64_t c, int64_t t, int64_t row) {
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
void input_gradient(const PooledInputGradient& s, int64_t c) {
  for (int64_t t = 0; t <= S; t += R)
    for (int64_t row = 0; row < s.rows; ++row) input_rows<R, CT, S>(s, c, t, row);
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
  if (s.size == 3) return weight_gradient<3>(s);
  weight_gradient<5>(s);
}

void pooled_input_gradient(const PooledInputGradient& s) {
  constexpr bool wide = kWidth == kBlock;
  int64_t c = 0;
  if (s.size == 3) {
    for (; c < s.C; ++c) input_gradient<wide ? 4 : 2, 1, 3>(s, c);
    return;
  }
  for (; wide && c + 2 <= s.C; c += 2) input_gradient<2, wide ? 2 : 1, 5>(s, c);
  for (; c < s.C; ++c) input_gradient<2, 1, 5>(s, c);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
