// Winograd's convolution: the transforms of weights and of their gradients (contract:
// cpu/kernels.h; the equations and sources: winograd.cpp).
//
//   u = G w G^T          r x r taps to n x n points, forward and by input
//   dw = G^T u G         the adjoint, for the gradient by weight
//
// Sixteen pairs of channels are transformed together. Their taps are transposed into lane blocks
// first, so that a transform is again additions of whole vectors:
//
//     16 kernels [r * r]  --transpose-->  r x r vectors  --G along columns, then rows-->  n x n
//
// Cost of sixteen 3 x 3 kernels, n = 6: 9 loads, 36 stores, some 100 additions and multiplications
// and a 16 x 9 transpose. Reading w from memory is the ceiling, hence the prefetch.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd_winograd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The factors of G: one over the product of the distances from a point to the others. Without the
// point 0 those of +a and -a have opposite signs.
template <int n>
struct Factors {
  using P = At<n>;
  static constexpr float zero = 1 / (P::a2 * P::b2);
  static constexpr float a = 1 / (2 * (n == 6 ? P::a2 : P::a) * (P::a2 - P::b2));
  static constexpr float b = 1 / (2 * (n == 6 ? P::b2 : P::b) * (P::b2 - P::a2));
};

template <int R, int n>
FASTCONV_INLINE void transform_weight(const V (&w)[R], V (&o)[n]) {  // G
  constexpr int z = At<n>::zero;
  using P = At<n>;
  using F = Factors<n>;
  // The even and the odd part of the polynomial at a point.
  const auto even_at = [&](float p2) {
    if constexpr (R == 5) return fma(set1(p2), fma(set1(p2), w[4], w[2]), w[0]);
    if constexpr (R >= 3) return fma(set1(p2), w[2], w[0]);
    return w[0];
  };
  const auto odd_at = [&](float p2) {
    if constexpr (R >= 4) return fma(set1(p2), w[3], w[1]);
    return w[1];
  };
  const V even_a = set1(F::a) * even_at(P::a2), odd_a = set1(F::a * P::a) * odd_at(P::a2);
  const V even_b = set1(F::b) * even_at(P::b2), odd_b = set1(F::b * P::b) * odd_at(P::b2);
  if constexpr (n == 6) o[0] = set1(F::zero) * w[0];
  o[z] = even_a + odd_a;
  o[z + 1] = n == 6 ? even_a - odd_a : odd_a - even_a;
  o[z + 2] = even_b + odd_b;
  o[z + 3] = n == 6 ? even_b - odd_b : odd_b - even_b;
  o[n - 1] = w[R - 1];
}

template <int R, int n>
FASTCONV_INLINE void transform_dw(const V (&u)[n], V (&o)[R]) {  // G^T
  constexpr int z = At<n>::zero;
  using P = At<n>;
  using F = Factors<n>;
  const V plus_a = u[z] + u[z + 1], minus_a = u[z] - u[z + 1];
  const V plus_b = u[z + 2] + u[z + 3], minus_b = u[z + 2] - u[z + 3];
  const V even_a = set1(F::a) * (n == 6 ? plus_a : minus_a);
  const V odd_a = set1(F::a) * (n == 6 ? minus_a : plus_a);
  const V even_b = set1(F::b) * (n == 6 ? plus_b : minus_b);
  const V odd_b = set1(F::b) * (n == 6 ? minus_b : plus_b);
  o[0] = n == 6 ? fma(set1(F::zero), u[0], even_a + even_b) : even_a + even_b;
  o[1] = fma(set1(P::a), odd_a, set1(P::b) * odd_b);
  if constexpr (R >= 3) o[2] = fma(set1(P::a2), even_a, set1(P::b2) * even_b);
  if constexpr (R >= 4) o[3] = fma(set1(P::a3), odd_a, set1(P::b3) * odd_b);
  if constexpr (R == 5) o[4] = fma(set1(P::a2 * P::a2), even_a, set1(P::b2 * P::b2) * even_b);
  o[R - 1] = o[R - 1] + u[n - 1];
}

// How many lanes of vector `part` hold pairs; 0 or less: none.
FASTCONV_INLINE int pairs_in(int pairs, int part) {
  const int rest = pairs - part * kWidth;
  return rest < kWidth ? rest : kWidth;
}

// One vector of lanes of a block of kernels, w: [R * R][16]; stores `valid` of them.
template <int R, int n>
FASTCONV_INLINE void transform_kernels(float* u, int64_t u_point, const float* w, int valid,
                                       bool flipped) {
  V half[n][R];
#pragma GCC unroll 8
  for (int j = 0; j < R; ++j) {
    V taps[R], o[n];
    for (int i = 0; i < R; ++i) {
      const int tap = flipped ? R * R - 1 - (i * R + j) : i * R + j;
      taps[i] = load(w + tap * kBlock);
    }
    transform_weight<R, n>(taps, o);
    for (int i = 0; i < n; ++i) half[i][j] = o[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) {
    V o[n];
    transform_weight<R, n>(half[i], o);
    const Strided<float> points(u + i * n * u_point, u_point);
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
      if (valid == kWidth)
        store(points[j], o[j]);
      else
        store_partial(points[j], o[j], valid);
    }
  }
}

// body(index in r x r, index in the kernel) for each tap of a phase that is inside the kernel.
// flipped: rotated by 180 degrees, except that with r = 2 a single tap stays the first.
template <class Body>
FASTCONV_INLINE void for_taps(const WinogradTaps& taps, bool flipped, const Body& body) {
  const int64_t r = ceil_div(taps.size, taps.stride);
  const int64_t rows = ceil_div(taps.size - taps.row, taps.stride);
  const int64_t cols = ceil_div(taps.size - taps.col, taps.stride);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      body(flipped ? ((r == 2 ? rows : r) - 1 - i) * r + (r == 2 ? cols : r) - 1 - j : i * r + j,
           (i * taps.stride + taps.row) * taps.size + j * taps.stride + taps.col);
}

template <int R, int n>
void transform_weights(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                       const WinogradTaps& taps, bool flipped, int64_t w_prefetch) {
  constexpr int kTaps = R * R;
  for (int i = 0; i < pairs; ++i) prefetch(w + w_prefetch + i * w_pair);
  float lanes[kTaps * kBlock];  // [tap][pair]
  if (taps.stride == 1) {
    to_lanes(lanes, w, kTaps, w_pair, pairs);
  } else {
    for (int i = 0; i < kTaps * kBlock; i += kWidth) store(lanes + i, zero());
    for_taps(taps, flipped, [&](int64_t tap, int64_t place) {
      for (int i = 0; i < pairs; ++i) lanes[tap * kBlock + i] = w[i * w_pair + place];
    });
  }
  for (int part = 0; part < kParts && pairs_in(pairs, part) > 0; ++part)
    transform_kernels<R, n>(u + part * kWidth, u_point, lanes + part * kWidth,
                            pairs_in(pairs, part), flipped && taps.stride == 1);
}

template <int R>
void transform_weight_lanes(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C) {
  for (int64_t c = 0; c < C; ++c)
    for (int part = 0; part < kParts; ++part)
      transform_kernels<R, 6>(u + c * u_c + part * kWidth, u_point,
                              w + c * R * R * kBlock + part * kWidth, kWidth, false);
}

template <int R, int n>
bool transform_weight_gradients(float* dw, int64_t dw_pair, const float* u, int64_t u_point,
                                int pairs, const WinogradTaps& taps) {
  constexpr int kTaps = R * R;
  float lanes[kTaps * kBlock];
  for (int i = 0; i < n * n; ++i) prefetch(u + i * u_point + 8 * kBlock);
  V watched = zero();
  for (int part = 0; part < kParts && pairs_in(pairs, part) > 0; ++part) {
    const int valid = pairs_in(pairs, part);
    V half[R][n];
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
      const Strided<const float> points(u + j * u_point + part * kWidth, n * u_point);
      V d[n], o[R];
      for (int i = 0; i < n; ++i) d[i] = load_partial(points[i], valid);
      transform_dw<R, n>(d, o);
      for (int i = 0; i < R; ++i) half[i][j] = o[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      V o[R];
      transform_dw<R, n>(half[i], o);
      for (int j = 0; j < R; ++j) {
        store(lanes + (i * R + j) * kBlock + part * kWidth, o[j]);
        watched = fma(o[j], zero(), watched);  // NaN once one is not finite
      }
    }
  }
  if (taps.stride == 1)
    to_plain(dw, dw_pair, lanes, kBlock, kTaps, pairs);
  else
    for_taps(taps, false, [&](int64_t tap, int64_t place) {
      for (int i = 0; i < pairs; ++i) dw[i * dw_pair + place] = lanes[tap * kBlock + i];
    });
  return !any(is_nan(watched));
}

}  // namespace

void winograd_weight(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                     const WinogradTaps& taps, bool flipped, int64_t w_prefetch) {
  const int64_t r = ceil_div(taps.size, taps.stride);
  const auto transform = r == 2             ? transform_weights<2, 5>
                         : r == 4           ? transform_weights<4, 6>
                         : r == 5           ? transform_weights<5, 6>
                         : taps.points == 5 ? transform_weights<3, 5>
                                            : transform_weights<3, 6>;
  transform(u, u_point, w, w_pair, pairs, taps, flipped, w_prefetch);
}

void winograd_weight_channels(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C,
                              int taps) {
  const auto transform = taps == 3   ? transform_weight_lanes<3>
                         : taps == 4 ? transform_weight_lanes<4>
                                     : transform_weight_lanes<5>;
  transform(u, u_point, u_c, w, C);
}

bool winograd_dw(float* dw, int64_t dw_pair, const float* u, int64_t u_point, int pairs,
                 const WinogradTaps& taps) {
  const int64_t r = ceil_div(taps.size, taps.stride);
  const auto transform = r == 2             ? transform_weight_gradients<2, 5>
                         : r == 4           ? transform_weight_gradients<4, 6>
                         : r == 5           ? transform_weight_gradients<5, 6>
                         : taps.points == 5 ? transform_weight_gradients<3, 5>
                                            : transform_weight_gradients<3, 6>;
  return transform(dw, dw_pair, u, u_point, pairs, taps);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
