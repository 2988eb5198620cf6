// The transforms of the weights, and of their gradients, for Winograd's algorithm (contract in
// cpu/kernels.h; the equations are in winograd.cpp).
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd_winograd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The factors of G: one over the product of the distances from a point to the others.
constexpr float at_zero = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)),
                at_b = 1 / (2 * b2 * (b2 - a2));

// Points +-a and +-b from the even and the odd part of a polynomial there.
FASTCONV_INLINE void set_points(V (&o)[6], V even_a, V odd_a, V even_b, V odd_b) {
  o[1] = even_a + odd_a;
  o[2] = even_a - odd_a;
  o[3] = even_b + odd_b;
  o[4] = even_b - odd_b;
}

FASTCONV_INLINE void transform_weight(const V (&w)[3], V (&o)[6]) {  // G
  set_points(o, set1(at_a) * fma(set1(a2), w[2], w[0]), set1(at_a * a) * w[1],
             set1(at_b) * fma(set1(b2), w[2], w[0]), set1(at_b * b) * w[1]);
  o[0] = set1(at_zero) * w[0];
  o[5] = w[2];
}

FASTCONV_INLINE void transform_weight(const V (&w)[4], V (&o)[6]) {
  set_points(o, set1(at_a) * fma(set1(a2), w[2], w[0]), set1(at_a * a) * fma(set1(a2), w[3], w[1]),
             set1(at_b) * fma(set1(b2), w[2], w[0]), set1(at_b * b) * fma(set1(b2), w[3], w[1]));
  o[0] = set1(at_zero) * w[0];
  o[5] = w[3];
}

FASTCONV_INLINE void transform_weight(const V (&w)[5], V (&o)[6]) {
  set_points(o, set1(at_a) * fma(set1(a2), fma(set1(a2), w[4], w[2]), w[0]),
             set1(at_a * a) * fma(set1(a2), w[3], w[1]),
             set1(at_b) * fma(set1(b2), fma(set1(b2), w[4], w[2]), w[0]),
             set1(at_b * b) * fma(set1(b2), w[3], w[1]));
  o[0] = set1(at_zero) * w[0];
  o[5] = w[4];
}

template <int R>
FASTCONV_INLINE void transform_dw(const V (&u)[6], V (&o)[R]) {  // G^T
  const V sum_a = set1(at_a) * (u[1] + u[2]), diff_a = set1(at_a) * (u[1] - u[2]);
  const V sum_b = set1(at_b) * (u[3] + u[4]), diff_b = set1(at_b) * (u[3] - u[4]);
  o[0] = fma(set1(at_zero), u[0], sum_a + sum_b);
  o[1] = fma(set1(a), diff_a, set1(b) * diff_b);
  o[2] = fma(set1(a2), sum_a, set1(b2) * sum_b);
  if constexpr (R >= 4) o[3] = fma(set1(a3), diff_a, set1(b3) * diff_b);
  if constexpr (R == 5) o[4] = fma(set1(a2 * a2), sum_a, set1(b2 * b2) * sum_b);
  o[R - 1] = o[R - 1] + u[5];
}

// What is left of sixteen pairs for the vector `part`; none or all of it as a rule.
FASTCONV_INLINE int pairs_in(int pairs, int part) {
  const int rest = pairs - part * kWidth;
  return rest < kWidth ? rest : kWidth;
}

// One vector of the lanes of a block of kernels, w: [R * R][16]; `valid` of them are stored.
template <int R>
FASTCONV_INLINE void transform_kernels(float* u, int64_t u_point, const float* w, int valid,
                                       bool turned) {
  V half[6][R];
  for (int j = 0; j < R; ++j) {
    V taps[R], o[6];
    for (int i = 0; i < R; ++i) {
      const int tap = turned ? R * R - 1 - (i * R + j) : i * R + j;
      taps[i] = load(w + tap * kBlock);
    }
    transform_weight(taps, o);
    for (int i = 0; i < 6; ++i) half[i][j] = o[i];
  }
  for (int i = 0; i < 6; ++i) {
    V o[6];
    transform_weight(half[i], o);
    for (int j = 0; j < 6; ++j) {
      float* p = u + (i * kPoints + j) * u_point;
      if (valid == kWidth)
        store(p, o[j]);
      else
        store_partial(p, o[j], valid);
    }
  }
}

template <int R>
void transform_weights(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                       bool turned, int64_t w_ahead) {
  constexpr int kTaps = R * R;
  for (int i = 0; i < pairs; ++i) prefetch(w + w_ahead + i * w_pair);
  float lanes[kTaps * kBlock];  // the taps of sixteen channel pairs, side by side
  to_lanes(lanes, w, kTaps, w_pair, pairs);
  for (int part = 0; part < kParts && pairs_in(pairs, part) > 0; ++part)
    transform_kernels<R>(u + part * kWidth, u_point, lanes + part * kWidth, pairs_in(pairs, part),
                         turned);
}

template <int R>
void transform_weight_lanes(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C) {
  for (int64_t c = 0; c < C; ++c)
    for (int part = 0; part < kParts; ++part)
      transform_kernels<R>(u + c * u_c + part * kWidth, u_point,
                           w + c * R * R * kBlock + part * kWidth, kWidth, false);
}

template <int R>
void transform_weight_gradients(float* dw, const float* u, int64_t u_point, int pairs) {
  constexpr int kTaps = R * R;
  float lanes[kTaps * kBlock];
  for (int i = 0; i < kPoints * kPoints; ++i) prefetch(u + i * u_point + 8 * kBlock);
  for (int part = 0; part < kParts && pairs_in(pairs, part) > 0; ++part) {
    const int valid = pairs_in(pairs, part);
    V half[R][6];
    for (int j = 0; j < 6; ++j) {
      V d[6], o[R];
      for (int i = 0; i < 6; ++i)
        d[i] = load_partial(u + (i * kPoints + j) * u_point + part * kWidth, valid);
      transform_dw<R>(d, o);
      for (int i = 0; i < R; ++i) half[i][j] = o[i];
    }
    for (int i = 0; i < R; ++i) {
      V o[R];
      transform_dw<R>(half[i], o);
      for (int j = 0; j < R; ++j) store(lanes + (i * R + j) * kBlock + part * kWidth, o[j]);
    }
  }
  to_plain(dw, kTaps, lanes, kBlock, kTaps, pairs);
}

}  // namespace

void winograd_weight(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs, int taps,
                     bool turned, int64_t w_ahead) {
  if (taps == 3)
    transform_weights<3>(u, u_point, w, w_pair, pairs, turned, w_ahead);
  else if (taps == 4)
    transform_weights<4>(u, u_point, w, w_pair, pairs, turned, w_ahead);
  else
    transform_weights<5>(u, u_point, w, w_pair, pairs, turned, w_ahead);
}

void winograd_weight_channels(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C,
                              int taps) {
  if (taps == 3)
    transform_weight_lanes<3>(u, u_point, u_c, w, C);
  else if (taps == 4)
    transform_weight_lanes<4>(u, u_point, u_c, w, C);
  else
    transform_weight_lanes<5>(u, u_point, u_c, w, C);
}

void winograd_dw(float* dw, const float* u, int64_t u_point, int pairs, int taps) {
  if (taps == 3)
    transform_weight_gradients<3>(dw, u, u_point, pairs);
  else if (taps == 4)
    transform_weight_gradients<4>(dw, u, u_point, pairs);
  else
    transform_weight_gradients<5>(dw, u, u_point, pairs);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
