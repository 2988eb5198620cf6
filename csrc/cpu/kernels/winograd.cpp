// The transforms of Winograd's F(4x4, 3x3) and F(2x2, 5x5) (contract in cpu/kernels.h). The
// products in between run in the broadcast tile and the dot tile. In lane blocks a transform is
// nothing but additions of whole vectors.
//
//   y = A^T [ (G w G^T) * (B^T x B) ] A       w 3x3, x 6x6, y 4x4, or w 5x5, x 6x6, y 2x2
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The gradient by weight
// is the adjoint: dw = G^T [ (B^T x B) * (A dy A^T) ] G.
//
// The polynomials are evaluated at 0, +-3/4, +-3/2 and infinity instead of the usual 0, +-1, +-2:
// the largest error over 64 channels falls from 1.6e-4 to 3.5e-5, and all their powers are exact in
// float32.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kPoints = 6;  // along one axis

constexpr float a = 0.75f, a2 = a * a, a3 = a2 * a;  // the points +-a and +-b
constexpr float b = 1.5f, b2 = b * b, b3 = b2 * b;
// The factors of G: one over the product of the distances from a point to the others.
constexpr float at_zero = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)),
                at_b = 1 / (2 * b2 * (b2 - a2));

FASTCONV_INLINE void transform_input(const V (&d)[6], V (&o)[6]) {  // B^T
  const V even_a = fnma(set1(b2), d[2], d[4]), odd_a = set1(a) * fnma(set1(b2), d[1], d[3]);
  const V even_b = fnma(set1(a2), d[2], d[4]), odd_b = set1(b) * fnma(set1(a2), d[1], d[3]);
  o[0] = fma(set1(a2 * b2), d[0], fnma(set1(a2 + b2), d[2], d[4]));
  o[1] = even_a + odd_a;
  o[2] = even_a - odd_a;
  o[3] = even_b + odd_b;
  o[4] = even_b - odd_b;
  o[5] = fma(set1(a2 * b2), d[1], fnma(set1(a2 + b2), d[3], d[5]));
}

// The transforms of tiles of M outputs and kernels of R taps, M + R - 1 = 6, by their number.
FASTCONV_INLINE void transform_output(const V (&m)[6], V (&o)[4]) {  // A^T
  const V sum_a = m[1] + m[2], diff_a = m[1] - m[2], sum_b = m[3] + m[4], diff_b = m[3] - m[4];
  o[0] = m[0] + sum_a + sum_b;
  o[1] = fma(set1(a), diff_a, set1(b) * diff_b);
  o[2] = fma(set1(a2), sum_a, set1(b2) * sum_b);
  o[3] = fma(set1(a3), diff_a, fma(set1(b3), diff_b, m[5]));
}

FASTCONV_INLINE void transform_output(const V (&m)[6], V (&o)[2]) {
  o[0] = m[0] + (m[1] + m[2]) + (m[3] + m[4]);
  o[1] = fma(set1(a), m[1] - m[2], fma(set1(b), m[3] - m[4], m[5]));
}

// Points +-a and +-b from the even and the odd part of a polynomial there.
FASTCONV_INLINE void set_points(V (&o)[6], V even_a, V odd_a, V even_b, V odd_b) {
  o[1] = even_a + odd_a;
  o[2] = even_a - odd_a;
  o[3] = even_b + odd_b;
  o[4] = even_b - odd_b;
}

FASTCONV_INLINE void transform_dy(const V (&d)[4], V (&o)[6]) {  // A
  set_points(o, fma(set1(a2), d[2], d[0]), fma(set1(a3), d[3], set1(a) * d[1]),
             fma(set1(b2), d[2], d[0]), fma(set1(b3), d[3], set1(b) * d[1]));
  o[0] = d[0];
  o[5] = d[3];
}

FASTCONV_INLINE void transform_dy(const V (&d)[2], V (&o)[6]) {
  set_points(o, d[0], set1(a) * d[1], d[0], set1(b) * d[1]);
  o[0] = d[0];
  o[5] = d[1];
}

FASTCONV_INLINE void transform_weight(const V (&w)[3], V (&o)[6]) {  // G
  set_points(o, set1(at_a) * fma(set1(a2), w[2], w[0]), set1(at_a * a) * w[1],
             set1(at_b) * fma(set1(b2), w[2], w[0]), set1(at_b * b) * w[1]);
  o[0] = set1(at_zero) * w[0];
  o[5] = w[2];
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
  if constexpr (R == 5) {
    o[3] = fma(set1(a3), diff_a, set1(b3) * diff_b);
    o[4] = fma(set1(a2 * a2), sum_a, set1(b2 * b2) * sum_b);
  }
  o[R - 1] = o[R - 1] + u[5];
}

// Tile `index` of the grid as size x size vectors, zeros outside the image.
template <int size>
FASTCONV_INLINE void load_patch(V (&patch)[size][size], const float* plane, const WinogradGrid& g,
                                int64_t index, int part) {
  const int64_t row = g.row0 + index / g.tile_cols * g.step;
  const int64_t col = g.col0 + index % g.tile_cols * g.step;
  const float* p = plane + (row * g.cols + col) * kBlock + part * kWidth;
  if (row >= 0 && col >= 0 && row + size <= g.rows && col + size <= g.cols) {
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) patch[i][j] = load(p + (i * g.cols + j) * kBlock);
    return;
  }
  const auto inside = [](int64_t at, int64_t end) { return at < 0 ? 0 : at < end ? at : end; };
  const int64_t first_row = inside(-row, size), last_row = inside(g.rows - row, size);
  const int64_t first_col = inside(-col, size), last_col = inside(g.cols - col, size);
  for (int i = 0; i < size; ++i)
    for (int j = 0; j < size; ++j) patch[i][j] = zero();
  for (int64_t i = first_row; i < last_row; ++i)
    for (int64_t j = first_col; j < last_col; ++j)
      patch[i][j] = load(p + (i * g.cols + j) * kBlock);
}

// Each tile of each channel: size x size pixels, transformed along both axes into 6 x 6 points.
template <int size, void (*transform)(const V (&)[size], V (&)[6])>
void transform_tiles(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                     const WinogradGrid& g) {
  for (int64_t c = 0; c < C; ++c)
    for (int64_t t = 0; t < g.count; ++t)
      for (int part = 0; part < kParts; ++part) {
        V patch[size][size], half[6][size];
        load_patch(patch, x + c * g.rows * g.cols * kBlock, g, g.first + t, part);
        for (int j = 0; j < size; ++j) {
          V d[size], o[6];
          for (int i = 0; i < size; ++i) d[i] = patch[i][j];
          transform(d, o);
          for (int i = 0; i < 6; ++i) half[i][j] = o[i];
        }
        float* out = v + c * v_c + t * kBlock + part * kWidth;
        for (int i = 0; i < 6; ++i) {
          V o[6];
          transform(half[i], o);
          for (int j = 0; j < 6; ++j) store(out + (i * kPoints + j) * v_point, o[j]);
        }
      }
}

template <int M, class Bias>
void transform_outputs(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                       const Bias& bias, bool relu, const WinogradGrid& g) {
  for (int64_t k = 0; k < K; ++k)
    for (int64_t t = 0; t < g.count; ++t)
      for (int part = 0; part < kParts; ++part) {
        const float* in = m + k * m_k + t * kBlock + part * kWidth;
        V half[M][6];
        for (int j = 0; j < 6; ++j) {
          V d[6], o[M];
          for (int i = 0; i < 6; ++i) d[i] = load(in + (i * kPoints + j) * m_point);
          transform_output(d, o);
          for (int i = 0; i < M; ++i) half[i][j] = o[i];
        }
        const int64_t row = g.row0 + (g.first + t) / g.tile_cols * M;
        const int64_t col = g.col0 + (g.first + t) % g.tile_cols * M;
        float* out = y + ((k * g.rows + row) * g.cols + col) * kBlock + part * kWidth;
        const V shift = bias(k, part);
        for (int i = 0; i < M && row + i < g.rows; ++i) {
          V o[M];
          transform_output(half[i], o);
          for (int j = 0; j < M && col + j < g.cols; ++j) {
            const V value = o[j] + shift;
            store(out + (i * g.cols + j) * kBlock, relu ? max(zero(), value) : value);
          }
        }
      }
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
void transform_weights(float* u, int64_t u_point, const float* w, int pairs, bool turned) {
  constexpr int kTaps = R * R;
  float lanes[kTaps * kBlock];  // the taps of sixteen channel pairs, side by side
  to_lanes(lanes, w, kTaps, kTaps, pairs);
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
  to_plain(dw, lanes, kTaps, kTaps, pairs);
}

}  // namespace

void winograd_input(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                    const WinogradGrid& g) {
  transform_tiles<6, transform_input>(v, v_point, v_c, x, C, g);
}

void winograd_dy(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                 const WinogradGrid& g) {
  if (g.step == 4)
    transform_tiles<4, transform_dy>(v, v_point, v_k, dy, K, g);
  else
    transform_tiles<2, transform_dy>(v, v_point, v_k, dy, K, g);
}

void winograd_output(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                     const float* bias, bool relu, const WinogradGrid& g) {
  const auto of_channel = [=](int64_t k, int) { return bias ? set1(bias[k]) : zero(); };
  if (g.step == 4)
    transform_outputs<4>(y, m, m_point, m_k, K, of_channel, relu, g);
  else
    transform_outputs<2>(y, m, m_point, m_k, K, of_channel, relu, g);
}

void winograd_output_channels(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                              const float* bias, bool relu, const WinogradGrid& g) {
  const auto of_lanes = [=](int64_t k, int part) {
    return load(bias + k * kBlock + part * kWidth);
  };
  if (g.step == 4)
    transform_outputs<4>(y, m, m_point, m_k, K, of_lanes, relu, g);
  else
    transform_outputs<2>(y, m, m_point, m_k, K, of_lanes, relu, g);
}

void winograd_weight(float* u, int64_t u_point, const float* w, int pairs, int taps, bool turned) {
  if (taps == 3)
    transform_weights<3>(u, u_point, w, pairs, turned);
  else
    transform_weights<5>(u, u_point, w, pairs, turned);
}

void winograd_weight_channels(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C,
                              int taps) {
  if (taps == 3)
    transform_weight_lanes<3>(u, u_point, u_c, w, C);
  else
    transform_weight_lanes<5>(u, u_point, u_c, w, C);
}

void winograd_dw(float* dw, const float* u, int64_t u_point, int pairs, int taps) {
  if (taps == 3)
    transform_weight_gradients<3>(dw, u, u_point, pairs);
  else
    transform_weight_gradients<5>(dw, u, u_point, pairs);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
