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

#include <math.h>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kPoints = 6;  // along one axis

constexpr float a = 0.75f, a2 = a * a, a3 = a2 * a;  // the points +-a and +-b
constexpr float b = 1.5f, b2 = b * b, b3 = b2 * b;
// The factors of G: one over the product of the distances from a point to the others.
constexpr float at_zero = 1 / (a2 * b2), at_a = 1 / (2 * a2 * (a2 - b2)),
                at_b = 1 / (2 * b2 * (b2 - a2));

// Six points of a line of pixels d, in four steps: at zero, at +-a, at +-b and at infinity. Each
// step needs but some of the pixels, so a tile that is transformed step by step along its columns
// stays in registers along its rows: 36 points at once would spill twice.
struct Points {
  V plus, minus;
};

struct InputLine {  // B^T
  static constexpr int size = 6;
  static FASTCONV_INLINE V at_zero(const V (&d)[6]) {
    return fma(set1(a2 * b2), d[0], fnma(set1(a2 + b2), d[2], d[4]));
  }
  static FASTCONV_INLINE Points at(float p, float other2, const V (&d)[6]) {
    const V even = fnma(set1(other2), d[2], d[4]);
    const V odd = set1(p) * fnma(set1(other2), d[1], d[3]);
    return {even + odd, even - odd};
  }
  static FASTCONV_INLINE Points at_a(const V (&d)[6]) { return at(a, b2, d); }
  static FASTCONV_INLINE Points at_b(const V (&d)[6]) { return at(b, a2, d); }
  static FASTCONV_INLINE V at_infinity(const V (&d)[6]) {
    return fma(set1(a2 * b2), d[1], fnma(set1(a2 + b2), d[3], d[5]));
  }
};

template <int M>
struct GradientLine {  // A; M = 4 or 2 outputs
  static constexpr int size = M;
  static FASTCONV_INLINE V at_zero(const V (&d)[M]) { return d[0]; }
  static FASTCONV_INLINE Points at(float p, const V (&d)[M]) {
    V even = d[0], odd = set1(p) * d[1];
    if constexpr (M == 4)
      even = fma(set1(p * p), d[2], even), odd = fma(set1(p * p * p), d[3], odd);
    return {even + odd, even - odd};
  }
  static FASTCONV_INLINE Points at_a(const V (&d)[M]) { return at(a, d); }
  static FASTCONV_INLINE Points at_b(const V (&d)[M]) { return at(b, d); }
  static FASTCONV_INLINE V at_infinity(const V (&d)[M]) { return d[M - 1]; }
};

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

// The first pixel of one tile after the other.
class TileWalk {
 public:
  FASTCONV_INLINE explicit TileWalk(const WinogradGrid& g)
      : row(g.row0 + g.first / g.tile_cols * g.step),
        col(g.col0 + g.first % g.tile_cols * g.step),
        begin_(g.col0),
        end_(g.col0 + g.tile_cols * g.step),
        step_(g.step) {}

  FASTCONV_INLINE void next() {
    col += step_;
    if (col == end_) col = begin_, row += step_;
  }

  int64_t row, col;

 private:
  int64_t begin_, end_, step_;
};

// size x size pixels of a tile: a vector each, `row` floats from one row to the next.
struct Patch {
  const float* at;
  int64_t row;
};

// The tile whose first pixel is (row, col). One that reaches over the edge is copied to `copy`,
// zeros outside.
template <int size>
FASTCONV_INLINE Patch patch_of(const float* plane, const WinogradGrid& g, int64_t row, int64_t col,
                               float* copy) {
  const float* p = plane + (row * g.cols + col) * kBlock;
  if (row >= 0 && col >= 0 && row + size <= g.rows && col + size <= g.cols)
    return {p, g.cols * kBlock};
  for (int i = 0; i < size; ++i) {
    const bool row_inside = row + i >= 0 && row + i < g.rows;
    for (int j = 0; j < size; ++j)
      for (int part = 0; part < kBlock; part += kWidth) {
        const bool inside = row_inside && col + j >= 0 && col + j < g.cols;
        store(copy + (i * size + j) * kBlock + part,
              inside ? load(p + (i * g.cols + j) * kBlock + part) : zero());
      }
  }
  return {copy, size * kBlock};
}

// A line of pixels to the points of row i of a tile.
template <class Line>
FASTCONV_INLINE void store_points(float* v, int64_t v_point, int i, const V (&d)[Line::size]) {
  float* out = v + i * kPoints * v_point;
  const Points at_a = Line::at_a(d), at_b = Line::at_b(d);
  store(out, Line::at_zero(d));
  store(out + v_point, at_a.plus);
  store(out + 2 * v_point, at_a.minus);
  store(out + 3 * v_point, at_b.plus);
  store(out + 4 * v_point, at_b.minus);
  store(out + 5 * v_point, Line::at_infinity(d));
}

template <class Line>
FASTCONV_INLINE void transform_patch(float* v, int64_t v_point, const Patch& patch) {
  constexpr int size = Line::size;
  const auto column = [&](int j, V(&d)[size]) {
    for (int i = 0; i < size; ++i) d[i] = load(patch.at + i * patch.row + j * kBlock);
  };
  V d[size], one[size], other[size];
#pragma GCC unroll 8
  for (int j = 0; j < size; ++j) column(j, d), one[j] = Line::at_zero(d);
  store_points<Line>(v, v_point, 0, one);
#pragma GCC unroll 8
  for (int j = 0; j < size; ++j) {
    column(j, d);
    const Points p = Line::at_a(d);
    one[j] = p.plus, other[j] = p.minus;
  }
  store_points<Line>(v, v_point, 1, one);
  store_points<Line>(v, v_point, 2, other);
#pragma GCC unroll 8
  for (int j = 0; j < size; ++j) {
    column(j, d);
    const Points p = Line::at_b(d);
    one[j] = p.plus, other[j] = p.minus;
  }
  store_points<Line>(v, v_point, 3, one);
  store_points<Line>(v, v_point, 4, other);
#pragma GCC unroll 8
  for (int j = 0; j < size; ++j) column(j, d), one[j] = Line::at_infinity(d);
  store_points<Line>(v, v_point, 5, one);
}

// Each tile of each channel: size x size pixels, transformed along both axes into 6 x 6 points.
template <class Line>
void transform_tiles(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                     const WinogradGrid& g) {
  for (int64_t c = 0; c < C; ++c) {
    TileWalk tile(g);
    for (int64_t t = 0; t < g.count; ++t, tile.next()) {
      float copy[Line::size * Line::size * kBlock];
      const Patch patch =
          patch_of<Line::size>(x + c * g.rows * g.cols * kBlock, g, tile.row, tile.col, copy);
      for (int part = 0; part < kBlock; part += kWidth)
        transform_patch<Line>(v + c * v_c + t * kBlock + part, v_point,
                              {patch.at + part, patch.row});
    }
  }
}

// finish_of(k, part) is the function that makes an output of its sum, for a vector of channel k.
template <int M, class FinishOf>
void transform_outputs(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                       const FinishOf& finish_of, const WinogradGrid& g, bool streaming) {
  const bool past_caches = kParts == 1 && streaming;  // half a line at a time would be slow
  for (int64_t k = 0; k < K; ++k) {
    TileWalk tile(g);
    for (int64_t t = 0; t < g.count; ++t, tile.next())
      for (int part = 0; part < kParts; ++part) {
        const float* in = m + k * m_k + t * kBlock + part * kWidth;
        float* out = y + ((k * g.rows + tile.row) * g.cols + tile.col) * kBlock + part * kWidth;
        const int64_t rows = g.rows - tile.row, cols = g.cols - tile.col;
        const auto finish = finish_of(k, part);
        V half[M][6];
#pragma GCC unroll 8
        for (int j = 0; j < 6; ++j) {
          V d[6], o[M];
          for (int i = 0; i < 6; ++i) d[i] = load(in + (i * kPoints + j) * m_point);
          transform_output(d, o);
          for (int i = 0; i < M; ++i) half[i][j] = o[i];
        }
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
          V o[M];
          transform_output(half[i], o);
#pragma GCC unroll 8
          for (int j = 0; j < M; ++j) {
            if (i >= rows || j >= cols) continue;
            float* to = out + (i * g.cols + j) * kBlock;
            const V result = finish(o[j]);
            if (past_caches)
              stream(to, result);
            else
              store(to, result);
          }
        }
      }
  }
  if (streaming) stream_fence();
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
  transform_tiles<InputLine>(v, v_point, v_c, x, C, g);
}

void winograd_dy(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                 const WinogradGrid& g) {
  if (g.step == 4)
    transform_tiles<GradientLine<4>>(v, v_point, v_k, dy, K, g);
  else
    transform_tiles<GradientLine<2>>(v, v_point, v_k, dy, K, g);
}

void winograd_output(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                     const float* bias, bool relu, const WinogradGrid& g, bool streaming) {
  const V floor = set1(relu ? 0.0f : -INFINITY);
  const auto finish_of = [=](int64_t k, int) {
    const V shift = bias ? set1(bias[k]) : zero();
    return [=](V sum) { return max(floor, sum + shift); };  // NaN passes as second operand
  };
  if (g.step == 4)
    transform_outputs<4>(y, m, m_point, m_k, K, finish_of, g, streaming);
  else
    transform_outputs<2>(y, m, m_point, m_k, K, finish_of, g, streaming);
}

void winograd_output_channels(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                              const float* scale, const float* shift, float low, float high,
                              const WinogradGrid& g) {
  const auto finish_of = [=](int64_t k, int part) {
    const int64_t at = k * kBlock + part * kWidth;
    const V a = load(scale + at), b = load(shift + at);
    return [=](V sum) { return min(set1(high), max(set1(low), fma(sum, a, b))); };
  };
  if (g.step == 4)
    transform_outputs<4>(y, m, m_point, m_k, K, finish_of, g, false);
  else
    transform_outputs<2>(y, m, m_point, m_k, K, finish_of, g, false);
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
