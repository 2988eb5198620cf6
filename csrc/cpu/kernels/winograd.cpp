// Winograd's convolution F(m x m, r x r): the transforms of images (contract: the winograd_ entries
// of cpu/kernels.h). A tile of m x m outputs costs n^2 = (m + r - 1)^2 multiplications instead of
// m^2 * r^2:
//
//   y = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A          * multiplies element by element
//
//   F(4x4, 3x3):   w 3x3,  x 6x6,  y 4x4:   36 multiplications for 144
//
// This file has B^T x B, A^T m A, and for the gradients their adjoints, A dy A^T and B m B^T;
// winograd_weight.cpp has those of G. The sum over c is a matrix product for each of the n^2
// points, which the broadcast tile computes. By weight:  dw = G^T [ (B^T x B) * (A dy A^T) ] G.
//
// A tile in lane blocks: each pixel is a vector, so a transform is additions of whole vectors.
//
//     6 columns of x  --B^T, each column-->  one row of points  --B, along it-->  6 points of v
//
// One or two rows of points are made at a time: they stay in registers, and the next ones load the
// columns again. All 36 points at once would spill.
//
// Cost of a 6 x 6 tile of x: at most 144 loads from L1, 36 stores, some 170 additions and
// multiply-adds. K output channels share it, so it is small beside their 36 * K multiply-adds.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The points are in
// simd_winograd.h.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd_winograd.h"

#include <math.h>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// A line is the polynomial whose coefficients are the pixels d. Its values: at zero (with six
// points only), at +-a, at +-b, at infinity.
struct PlusMinus {  // at +p and at -p
  V plus, minus;
};

template <int n>
struct InputLine {  // B^T
  using P = At<n>;
  static constexpr int points = n, size = n, z = P::zero;
  static constexpr float a2b2 = P::a2 * P::b2, sum2 = P::a2 + P::b2;

  static FASTCONV_INLINE V at_zero(const V (&d)[n]) {
    return fma(set1(a2b2), d[0], fnma(set1(sum2), d[2], d[4]));
  }
  static FASTCONV_INLINE PlusMinus at(float p, float other2, const V (&d)[n]) {
    const V even = fnma(set1(other2), d[1 + z], d[3 + z]);
    const V odd = set1(p) * fnma(set1(other2), d[z], d[2 + z]);
    return {even + odd, even - odd};
  }
  static FASTCONV_INLINE PlusMinus at_a(const V (&d)[n]) { return at(P::a, P::b2, d); }
  static FASTCONV_INLINE PlusMinus at_b(const V (&d)[n]) { return at(P::b, P::a2, d); }
  static FASTCONV_INLINE V at_infinity(const V (&d)[n]) {
    return fma(set1(a2b2), d[z], fnma(set1(sum2), d[2 + z], d[4 + z]));
  }
};

template <int n, int M>
struct GradientLine {  // A; M = 4, 3 or 2 outputs
  using P = At<n>;
  static constexpr int points = n, size = M;

  static FASTCONV_INLINE V at_zero(const V (&d)[M]) { return d[0]; }
  static FASTCONV_INLINE PlusMinus at(float p, const V (&d)[M]) {
    V even = d[0], odd = set1(p) * d[1];
    if constexpr (M >= 3) even = fma(set1(p * p), d[2], even);
    if constexpr (M == 4) odd = fma(set1(p * p * p), d[3], odd);
    return {even + odd, even - odd};
  }
  static FASTCONV_INLINE PlusMinus at_a(const V (&d)[M]) { return at(P::a, d); }
  static FASTCONV_INLINE PlusMinus at_b(const V (&d)[M]) { return at(P::b, d); }
  static FASTCONV_INLINE V at_infinity(const V (&d)[M]) { return d[M - 1]; }
};

// From the points of a line to M outputs.
template <int n, int M>
FASTCONV_INLINE void transform_output(const V (&m)[n], V (&o)[M]) {  // A^T
  using P = At<n>;
  constexpr int z = P::zero;
  const V sum_a = m[z] + m[z + 1], diff_a = m[z] - m[z + 1];
  const V sum_b = m[z + 2] + m[z + 3], diff_b = m[z + 2] - m[z + 3];
  // Output i is p_a * of_a + p_b * of_b; the last one also has the point at infinity.
  const auto output = [&](int i, float p_a, const V& of_a, float p_b, const V& of_b) {
    o[i] = fma(set1(p_a), of_a, i == M - 1 ? fma(set1(p_b), of_b, m[n - 1]) : set1(p_b) * of_b);
  };
  o[0] = z == 1 ? m[0] + sum_a + sum_b : sum_a + sum_b;
  output(1, P::a, diff_a, P::b, diff_b);
  if constexpr (M >= 3) output(2, P::a2, sum_a, P::b2, sum_b);
  if constexpr (M == 4) output(3, P::a3, diff_a, P::b3, diff_b);
}

// From the points of a line to its pixels: B, the adjoint of B^T.
template <int n>
FASTCONV_INLINE void transform_input_adjoint(const V (&p)[n], V (&d)[n]) {
  using P = At<n>;
  using Line = InputLine<n>;
  constexpr int z = P::zero;
  const V sum_a = p[z] + p[z + 1], diff_a = set1(P::a) * (p[z] - p[z + 1]);
  const V sum_b = p[z + 2] + p[z + 3], diff_b = set1(P::b) * (p[z + 2] - p[z + 3]);
  const V infinity = p[n - 1];
  d[z] = fnma(set1(P::b2), diff_a, fnma(set1(P::a2), diff_b, set1(Line::a2b2) * infinity));
  d[1 + z] = fnma(set1(P::b2), sum_a, zero() - set1(P::a2) * sum_b);
  d[2 + z] = fnma(set1(Line::sum2), infinity, diff_a + diff_b);
  d[3 + z] = sum_a + sum_b;
  d[4 + z] = infinity;
  if constexpr (z == 1) {
    d[0] = set1(Line::a2b2) * p[0];
    d[2] = fnma(set1(Line::sum2), p[0], d[2]);
    d[4] = p[0] + d[4];
  }
}

FASTCONV_INLINE int64_t step_of(const WinogradGrid& g) { return g.points + 1 - g.taps; }

// Walks over the tiles of a grid: (row, col) is the first pixel of the current one.
class TileWalk {
 public:
  FASTCONV_INLINE explicit TileWalk(const WinogradGrid& g)
      : begin_(g.col0), step_(step_of(g) * g.stride), end_(g.col0 + g.tile_cols * step_) {
    row = g.row0 + g.first / g.tile_cols * step_;
    col = g.col0 + g.first % g.tile_cols * step_;
  }

  FASTCONV_INLINE void next() {
    col += step_;
    if (col == end_) col = begin_, row += step_;
  }

  int64_t row, col;

 private:
  int64_t begin_, step_, end_;
};

// The size x size pixels of a tile, a vector each: `row` floats from one row to the next, `col`
// from one column to the next.
struct Patch {
  const float* at;
  int64_t row, col;
};

// The tile whose first pixel is (row, col). A tile that reaches over the edge is copied to `copy`,
// with zeros outside.
template <int size, bool dense>
FASTCONV_INLINE Patch patch_of(const float* plane, const WinogradGrid& g, int64_t row, int64_t col,
                               float* copy) {
  const float* p = plane + (row * g.cols + col) * kBlock;
  const int64_t s = dense ? 1 : g.stride, reach = (size - 1) * s;
  const bool inside = row >= 0 && col >= 0 && row + reach < g.rows && col + reach < g.cols;
  if (inside) return {p, s * g.cols * kBlock, s * kBlock};
  const Mask none = first_lanes(0), all = first_lanes(kWidth);
  Mask inside_image[size];  // of each column
  for (int j = 0; j < size; ++j)
    inside_image[j] = col + j * s >= 0 && col + j * s < g.cols ? all : none;
  for (int i = 0; i < size; ++i) {
    const bool row_inside = row + i * s >= 0 && row + i * s < g.rows;
    const float* from = p + i * s * g.cols * kBlock;
    for (int j = 0; j < size; ++j, from += s * kBlock)
      for (int part = 0; part < kBlock; part += kWidth)
        store(copy + (i * size + j) * kBlock + part,
              load_masked(from + part, row_inside ? inside_image[j] : none));
  }
  return {copy, size * kBlock, kBlock};
}

// Transforms a line and stores it as row i of a tile's points.
template <class Line>
FASTCONV_INLINE void store_points(float* v, int64_t v_point, int i, const V (&d)[Line::size]) {
  constexpr int z = Line::points - 5;
  const Strided<float> out(v + i * Line::points * v_point, v_point);
  const PlusMinus at_a = Line::at_a(d), at_b = Line::at_b(d);
  if constexpr (z == 1) store(out[0], Line::at_zero(d));
  store(out[z], at_a.plus);
  store(out[z + 1], at_a.minus);
  store(out[z + 2], at_b.plus);
  store(out[z + 3], at_b.minus);
  store(out[z + 4], Line::at_infinity(d));
}

template <class Line, bool dense>
FASTCONV_INLINE void transform_patch(float* v, int64_t v_point, const Patch& patch) {
  constexpr int size = Line::size, z = Line::points - 5;
  // Loads all columns again for each row of points, at addresses made anew.
  const auto for_columns = [&](const auto& step) {
    const Strided<const float> rows(patch.at, patch.row);
    const int64_t col = dense ? kBlock : patch.col;
#pragma GCC unroll 8
    for (int j = 0; j < size; ++j) {
      V d[size];
      for (int i = 0; i < size; ++i) d[i] = load(rows[i] + j * col);
      step(j, d);
    }
  };
  V one[size], other[size];
  const auto put = [&](int j, PlusMinus p) { one[j] = p.plus, other[j] = p.minus; };
  if constexpr (z == 1) {
    for_columns([&](int j, const V(&d)[size]) { one[j] = Line::at_zero(d); });
    store_points<Line>(v, v_point, 0, one);
  }
  for_columns([&](int j, const V(&d)[size]) { put(j, Line::at_a(d)); });
  store_points<Line>(v, v_point, z, one);
  store_points<Line>(v, v_point, z + 1, other);
  for_columns([&](int j, const V(&d)[size]) { put(j, Line::at_b(d)); });
  store_points<Line>(v, v_point, z + 2, one);
  store_points<Line>(v, v_point, z + 3, other);
  for_columns([&](int j, const V(&d)[size]) { one[j] = Line::at_infinity(d); });
  store_points<Line>(v, v_point, z + 4, one);
}

// Transforms size x size pixels for each tile of each channel. dense: the stride is 1.
template <class Line, bool dense = true>
void transform_tiles(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                     const WinogradGrid& g) {
  const int64_t step = step_of(g), stride = dense ? 1 : g.stride;
  for (int64_t c = 0; c < C; ++c) {
    TileWalk tile(g);
    for (int64_t t = 0; t < g.count; ++t, tile.next()) {
      float copy[Line::size * Line::size * kBlock];
      const Patch patch = patch_of<Line::size, dense>(x + c * g.rows * g.cols * kBlock, g, tile.row,
                                                      tile.col, copy);
      if (kPrefetches) {
        const float* next =
            x + (((c + 1) * g.rows + tile.row) * g.cols + tile.col + (Line::size - step) * stride) *
                    kBlock;
        for (int i = 0; i < Line::size; ++i)
          for (int j = 0; j < step; ++j) prefetch(next + (i * g.cols + j) * stride * kBlock);
      }
      for (int part = 0; part < kBlock; part += kWidth)
        transform_patch<Line, dense>(v + c * v_c + t * kBlock + part, v_point,
                                     {patch.at + part, patch.row, patch.col});
    }
  }
}

// Adds 0 * a to `sum`, which stays 0 while every value is finite and becomes NaN with the first
// that is not.
FASTCONV_INLINE V watch(V sum, V a) { return fma(a, zero(), sum); }

// The same for a line. Not exact: half the instructions, by adding products of neighbours. That sum
// also overflows with finite values of 1e19 and more.
template <bool exact, int M>
FASTCONV_INLINE V watch_line(V sum, const V (&o)[M]) {
  for (int j = 0; j < M && exact; ++j) sum = watch(sum, o[j]);
  for (int j = 0; j < M && !exact; j += 2) sum = fma(o[j], o[j + 1 < M ? j + 1 : j], sum);
  return sum;
}

// The same for n floats, whole vectors. Four sums hide the latency of additions.
FASTCONV_INLINE V watch_floats(const float* p, int64_t n) {
  V sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 8 * kWidth <= n; i += 8 * kWidth)
    for (int j = 0; j < 8; j += 2)
      sums[j / 2] = fma(load(p + i + j * kWidth), load(p + i + (j + 1) * kWidth), sums[j / 2]);
  for (; i < n; i += kWidth) sums[0] = watch(sums[0], load(p + i));
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

FASTCONV_INLINE bool stayed_finite(V sum) { return !any(is_nan(watch(zero(), sum))); }

// One channel. post_ops_of(part) returns the function from a sum to an output. marks: stores sums
// that are not finite as NaN, which no ReLU hides. Returns whether all sums are finite; without
// marks, false means perhaps.
template <int n, int M, bool marks, class PostOpsOf>
FASTCONV_INLINE bool transform_channel(float* y, const float* m, int64_t m_point,
                                       const PostOpsOf& post_ops_of, const WinogradGrid& g,
                                       bool non_temporal) {
  TileWalk tile(g);
  V watched = zero();
  for (int64_t t = 0; t < g.count; ++t, tile.next())
    for (int part = 0; part < kParts; ++part) {
      const float* in = m + t * kBlock + part * kWidth;
      float* out = y + (tile.row * g.cols + tile.col) * kBlock + part * kWidth;
      const int64_t down = g.stride * g.cols * kBlock, right = g.stride * kBlock;
      const auto inside = [&](int i, int j) {
        const int64_t row = tile.row + i * g.stride, col = tile.col + j * g.stride;
        return row >= 0 && row < g.rows && col >= 0 && col < g.cols;
      };
      const bool whole = g.stride == 1 && inside(0, 0) && inside(M - 1, M - 1);
      const auto post_ops = post_ops_of(part);
      const auto put = [&](float* to, V sum) {
        V value = post_ops(sum);
        if constexpr (marks) value = select(is_nan(watch(zero(), sum)), set1(NAN), value);
        if (non_temporal)
          stream(to, value);
        else
          store(to, value);
      };
      V half[M][n];
#pragma GCC unroll 8
      for (int j = 0; j < n; ++j) {
        const Strided<const float> points(in + j * m_point, n * m_point);
        V d[n], o[M];
        for (int i = 0; i < n; ++i) d[i] = load(points[i]);
        transform_output(d, o);
        for (int i = 0; i < M; ++i) half[i][j] = o[i];
      }
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        V o[M];
        transform_output(half[i], o);
        float* row = out + i * down;
        watched = watch_line<marks>(watched, o);
        if (whole) {
#pragma GCC unroll 8
          for (int j = 0; j < M; ++j) put(row + j * kBlock, o[j]);
        } else {
#pragma GCC unroll 8
          for (int j = 0; j < M; ++j)
            if (inside(i, j)) put(row + j * right, o[j]);
        }
      }
    }
  return stayed_finite(watched);
}

// post_ops_of(k, part): as above, for channel k. The exact pass runs only for a channel that the
// quick one suspects.
template <int n, int M, class PostOpsOf>
bool transform_outputs(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                       const PostOpsOf& post_ops_of, const WinogradGrid& g, bool streaming) {
  const bool non_temporal = kParts == 1 && streaming;  // stores of half a line would be slow
  bool finite = true;
  for (int64_t k = 0; k < K; ++k) {
    const auto post_ops = [&](int part) { return post_ops_of(k, part); };
    float* to = y + k * g.rows * g.cols * kBlock;
    const float* from = m + k * m_k;
    if (transform_channel<n, M, false>(to, from, m_point, post_ops, g, non_temporal)) continue;
    finite &= transform_channel<n, M, true>(to, from, m_point, post_ops, g, non_temporal);
  }
  if (streaming) stream_fence();
  return finite;
}

template <class PostOpsOf>
bool outputs_by_taps(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                     const PostOpsOf& post_ops_of, const WinogradGrid& g, bool streaming) {
  const auto transform = g.taps == 2     ? transform_outputs<5, 4, PostOpsOf>
                         : g.taps == 4   ? transform_outputs<6, 3, PostOpsOf>
                         : g.taps == 5   ? transform_outputs<6, 2, PostOpsOf>
                         : g.points == 5 ? transform_outputs<5, 3, PostOpsOf>
                                         : transform_outputs<6, 4, PostOpsOf>;
  return transform(y, m, m_point, m_k, K, post_ops_of, g, streaming);
}

// winograd_input_adjoint for n points along an axis.
template <int n>
bool add_tiles(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
               const float* start, const WinogradGrid& g, bool last) {
  const int64_t plane = g.rows * g.cols * kBlock;
  V watched = zero();
  for (int64_t k = 0; k < K; ++k, y += plane) {
    for (int64_t i = 0; i < plane && g.first == 0; i += kWidth)
      store(y + i, start ? set1(start[k]) : zero());
    TileWalk tile(g);
    for (int64_t t = 0; t < g.count; ++t, tile.next()) {
      const bool whole = tile.col >= 0 && tile.col + n <= g.cols;
      for (int part = 0; part < kParts; ++part) {
        const float* in = m + k * m_k + t * kBlock + part * kWidth;
        V half[n][n];
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) {
          const Strided<const float> points(in + j * m_point, n * m_point);
          V p[n], d[n];
          for (int i = 0; i < n; ++i) p[i] = load(points[i]);
          transform_input_adjoint(p, d);
          for (int i = 0; i < n; ++i) half[i][j] = d[i];
        }
        float* out = y + (tile.row * g.cols + tile.col) * kBlock + part * kWidth;
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i, out += g.cols * kBlock) {
          if (tile.row + i < 0 || tile.row + i >= g.rows) continue;
          V d[n];
          transform_input_adjoint(half[i], d);
#pragma GCC unroll 8
          for (int j = 0; j < n; ++j)
            if (whole || (tile.col + j >= 0 && tile.col + j < g.cols))
              store(out + j * kBlock, load(out + j * kBlock) + d[j]);
        }
      }
    }
    if (last) watched = watched + watch_floats(y, plane);
  }
  return stayed_finite(watched);
}

}  // namespace

void winograd_input(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                    const WinogradGrid& g) {
  const auto transform =
      g.stride == 1
          ? (g.points == 5 ? transform_tiles<InputLine<5>> : transform_tiles<InputLine<6>>)
      : g.points == 5 ? transform_tiles<InputLine<5>, false>
                      : transform_tiles<InputLine<6>, false>;
  transform(v, v_point, v_c, x, C, g);
}

void winograd_dy(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                 const WinogradGrid& g) {
  const auto transform = g.taps == 2     ? transform_tiles<GradientLine<5, 4>>
                         : g.taps == 4   ? transform_tiles<GradientLine<6, 3>>
                         : g.taps == 5   ? transform_tiles<GradientLine<6, 2>>
                         : g.points == 5 ? transform_tiles<GradientLine<5, 3>>
                                         : transform_tiles<GradientLine<6, 4>>;
  transform(v, v_point, v_k, dy, K, g);
}

bool winograd_output(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                     const float* bias, bool relu, const WinogradGrid& g, bool streaming) {
  const V floor = set1(relu ? 0.0f : -INFINITY);
  const auto post_ops_of = [=](int64_t k, int) {
    const V shift = bias ? set1(bias[k]) : zero();
    return [=](V sum) { return max(floor, sum + shift); };  // NaN passes as second operand
  };
  return outputs_by_taps(y, m, m_point, m_k, K, post_ops_of, g, streaming);
}

bool winograd_output_channels(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                              const float* scale, const float* shift, float low, float high,
                              const WinogradGrid& g) {
  const auto post_ops_of = [=](int64_t k, int part) {
    const int64_t at = k * kBlock + part * kWidth;
    const V a = load(scale + at), b = load(shift + at);
    return [=](V sum) { return min(set1(high), max(set1(low), fma(sum, a, b))); };
  };
  return outputs_by_taps(y, m, m_point, m_k, K, post_ops_of, g, false);
}

bool winograd_input_adjoint(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                            const float* start, const WinogradGrid& g, bool last) {
  return (g.points == 5 ? add_tiles<5> : add_tiles<6>)(y, m, m_point, m_k, K, start, g, last);
}

}  // namespace fastconv::cpu::FASTCONV_ISA
