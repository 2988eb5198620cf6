// The transforms of Winograd's F(4x4, 3x3), F(3x3, 4x4) and F(2x2, 5x5) (contract in
// cpu/kernels.h). The products in between run in the broadcast tile. In lane blocks a transform is
// nothing but additions of whole vectors.
//
//   y = A^T [ (G w G^T) * (B^T x B) ] A       w 3x3, x 6x6, y 4x4, or w 4x4, y 3x3, or w 5x5, y 2x2
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The gradient by weight
// is the adjoint: dw = G^T [ (B^T x B) * (A dy A^T) ] G.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd_winograd.h"

#include <math.h>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

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
struct GradientLine {  // A; M = 4, 3 or 2 outputs
  static constexpr int size = M;
  static FASTCONV_INLINE V at_zero(const V (&d)[M]) { return d[0]; }
  static FASTCONV_INLINE Points at(float p, const V (&d)[M]) {
    V even = d[0], odd = set1(p) * d[1];
    if constexpr (M >= 3) even = fma(set1(p * p), d[2], even);
    if constexpr (M == 4) odd = fma(set1(p * p * p), d[3], odd);
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

FASTCONV_INLINE void transform_output(const V (&m)[6], V (&o)[3]) {
  const V sum_a = m[1] + m[2], sum_b = m[3] + m[4];
  o[0] = m[0] + sum_a + sum_b;
  o[1] = fma(set1(a), m[1] - m[2], set1(b) * (m[3] - m[4]));
  o[2] = fma(set1(a2), sum_a, fma(set1(b2), sum_b, m[5]));
}

FASTCONV_INLINE void transform_output(const V (&m)[6], V (&o)[2]) {
  o[0] = m[0] + (m[1] + m[2]) + (m[3] + m[4]);
  o[1] = fma(set1(a), m[1] - m[2], fma(set1(b), m[3] - m[4], m[5]));
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
      if (kPrefetches) {
        const float* next =
            x + (((c + 1) * g.rows + tile.row) * g.cols + tile.col + Line::size - g.step) * kBlock;
        for (int i = 0; i < Line::size; ++i)
          for (int j = 0; j < g.step; ++j) prefetch(next + (i * g.cols + j) * kBlock);
      }
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

// From the points of a line to what each of its six pixels had in them: the transpose of B^T.
FASTCONV_INLINE void transform_input_adjoint(const V (&p)[6], V (&d)[6]) {
  const V sum_a = p[1] + p[2], diff_a = set1(a) * (p[1] - p[2]);
  const V sum_b = p[3] + p[4], diff_b = set1(b) * (p[3] - p[4]);
  d[0] = set1(a2 * b2) * p[0];
  d[1] = fnma(set1(b2), diff_a, fnma(set1(a2), diff_b, set1(a2 * b2) * p[5]));
  d[2] = zero() - fma(set1(a2 + b2), p[0], fma(set1(b2), sum_a, set1(a2) * sum_b));
  d[3] = fnma(set1(a2 + b2), p[5], diff_a + diff_b);
  d[4] = p[0] + sum_a + sum_b;
  d[5] = p[5];
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
  else if (g.step == 3)
    transform_tiles<GradientLine<3>>(v, v_point, v_k, dy, K, g);
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
  else if (g.step == 3)
    transform_outputs<3>(y, m, m_point, m_k, K, finish_of, g, streaming);
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
  else if (g.step == 3)
    transform_outputs<3>(y, m, m_point, m_k, K, finish_of, g, false);
  else
    transform_outputs<2>(y, m, m_point, m_k, K, finish_of, g, false);
}

void winograd_input_adjoint(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                            const float* start, const WinogradGrid& g) {
  const int64_t plane = g.rows * g.cols * kBlock;
  for (int64_t k = 0; k < K; ++k, y += plane) {
    for (int64_t i = 0; i < plane; i += kWidth) store(y + i, start ? set1(start[k]) : zero());
    TileWalk tile(g);
    for (int64_t t = 0; t < g.count; ++t, tile.next())
      for (int part = 0; part < kParts; ++part) {
        const float* in = m + k * m_k + t * kBlock + part * kWidth;
        V half[6][6];
#pragma GCC unroll 8
        for (int j = 0; j < 6; ++j) {
          V p[6], d[6];
          for (int i = 0; i < 6; ++i) p[i] = load(in + (i * kPoints + j) * m_point);
          transform_input_adjoint(p, d);
          for (int i = 0; i < 6; ++i) half[i][j] = d[i];
        }
        for (int i = 0; i < 6; ++i) {
          const int64_t row = tile.row + i;
          if (row < 0 || row >= g.rows) continue;
          V d[6];
          transform_input_adjoint(half[i], d);
          float* out = y + (row * g.cols + tile.col) * kBlock + part * kWidth;
#pragma GCC unroll 8
          for (int j = 0; j < 6; ++j)
            if (tile.col + j >= 0 && tile.col + j < g.cols)
              store(out + j * kBlock, load(out + j * kBlock) + d[j]);
        }
      }
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
