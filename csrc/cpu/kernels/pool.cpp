// Max pooling (contracts: cpu/kernels.h). In lanes a vector is sixteen samples at one position; in
// plain images it is neighbouring outputs of a row, whose taps lie `stride` apart. Average pooling is
// in resample.cpp.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// A running maximum: the first NaN wins, else the first of the largest.
struct Maximum {
  V value, position;
  Mask nan;
};
FASTCONV_INLINE Maximum start(V v, float position) { return {v, set1(position), is_nan(v)}; }
FASTCONV_INLINE void consider(Maximum& best, V v, float position) {
  const Mask nan = is_nan(v);
  const Mask take = (v > best.value) | (nan & !best.nan);
  best.value = select(take, v, best.value);
  best.position = select(take, set1(position), best.position);
  best.nan = best.nan | nan;
}

// The taps k of one axis that lie inside [0, size): begin <= k < end.
struct Range {
  int64_t begin, end;
};
FASTCONV_INLINE Range taps_inside(int64_t at, int64_t taps, int64_t dilation, int64_t size) {
  Range r{0, taps};
  while (r.begin < r.end && at + r.begin * dilation < 0) ++r.begin;
  while (r.end > r.begin && at + (r.end - 1) * dilation >= size) --r.end;
  return r;
}

// Floats p[0], p[stride], p[2 * stride], ...: `valid` of them.
FASTCONV_INLINE V load_strided(const float* p, int64_t stride, int valid) {
  if (stride == 1) return load_first(p, valid);
  if (stride == 2 && valid == kWidth) return load_even(p);
  float lanes[kWidth] = {};
  for (int i = 0; i < valid; ++i) lanes[i] = p[i * stride];
  return load(lanes);
}

FASTCONV_INLINE void store_position(uint16_t* p, V position, int valid) {
  if (valid == kWidth) return store_u16(p, position);
  uint16_t lanes[kWidth];
  store_u16(lanes, position);
  memcpy(p, lanes, static_cast<size_t>(valid) * sizeof(uint16_t));
}

// The maximum over one window, for `valid` vectors' lanes. x: the pixel of tap (0, 0), which may lie
// outside the image. K: KH = KW = K and all taps inside, known to the compiler; or 0.
template <int K>
FASTCONV_INLINE Maximum window(const float* x, const PoolShape& s, Range kh, Range kw, int64_t stride,
                               int valid) {
  const int64_t row = s.DH * s.IW * s.unit, col = s.DW * s.unit;
  if constexpr (K > 0) {
    Maximum best = start(load_strided(x, stride, valid), 0.0f);
#pragma GCC unroll 16
    for (int k = 1; k < K * K; ++k)
      consider(best, load_strided(x + k / K * row + k % K * col, stride, valid),
               static_cast<float>(k));
    return best;
  }
  // Where no tap is inside, tap (0, 0) stands for the padding.
  if (kh.begin == kh.end || kw.begin == kw.end) return start(set1(-INFINITY), 0.0f);
  Maximum best = start(load_strided(x + kh.begin * row + kw.begin * col, stride, valid),
                       static_cast<float>(kh.begin * s.KW + kw.begin));
  for (int64_t i = kh.begin; i < kh.end; ++i)
    for (int64_t j = kw.begin + (i == kh.begin); j < kw.end; ++j)
      consider(best, load_strided(x + i * row + j * col, stride, valid),
               static_cast<float>(i * s.KW + j));
  return best;
}

template <int K>
void pool_row(float* y, uint16_t* argmax, const float* x, Range kh, const PoolShape& s, bool relu) {
  // The last output whose window does not reach beyond the right edge.
  const int64_t room = s.IW + s.PL - (s.KW - 1) * s.DW - 1;
  const int64_t last_inside = room < 0 ? -1 : room / s.SW;
  const bool rows_inside = kh.begin == 0 && kh.end == s.KH;
  for (int64_t ow = 0; ow < s.OW;) {
    const int64_t iw = ow * s.SW - s.PL;
    const bool inside = rows_inside && iw >= 0 && ow <= last_inside;
    const Range kw = inside ? Range{0, s.KW} : taps_inside(iw, s.KW, s.DW, s.IW);
    int64_t outputs = 1;
    int valid = kWidth;
    if (s.unit == 1) {
      // Neighbours go together while their windows have the same taps.
      if (iw >= 0 && ow <= last_inside) outputs = last_inside + 1 - ow;
      if (outputs > s.OW - ow) outputs = s.OW - ow;
      if (outputs > kWidth) outputs = kWidth;
      valid = static_cast<int>(outputs);
    }
    const int parts = s.unit == 1 ? 1 : kParts;
    for (int part = 0; part < parts; ++part) {
      const float* taps = x + iw * s.unit + part * kWidth;
      const int64_t stride = s.unit == 1 ? s.SW : 1;
      const Maximum best = inside ? window<K>(taps, s, kh, kw, stride, valid)
                                  : window<0>(taps, s, kh, kw, stride, valid);
      const int64_t to = ow * s.unit + part * kWidth;
      store_first(y + to, relu ? max(zero(), best.value) : best.value, valid);
      store_position(argmax + to, best.position, valid);
    }
    ow += outputs;
  }
}

template <int K>
void pool_planes(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolShape& s,
                 bool relu) {
  for (int64_t plane = 0; plane < planes; ++plane, x += s.IH * s.IW * s.unit)
    for (int64_t oh = 0; oh < s.OH; ++oh) {
      const int64_t ih = oh * s.SH - s.PT;
      pool_row<K>(y, argmax, x + ih * s.IW * s.unit, taps_inside(ih, s.KH, s.DH, s.IH), s, relu);
      y += s.OW * s.unit;
      argmax += s.OW * s.unit;
    }
}

// The gradient of one pixel from the windows [begin, end) of its row and of its column. A weight is a
// share of the position in the window; their sum is what argmax holds if the pixel was the maximum.
template <class Add>
FASTCONV_INLINE void for_windows(const Resample& m, int64_t ih, int64_t iw, const Add& add) {
  for (int64_t r = m.rows.begin[ih]; r < m.rows.begin[ih + 1]; ++r)
    for (int64_t c = m.cols.begin[iw]; c < m.cols.begin[iw + 1]; ++c)
      add(m.rows.index[r] * m.in_cols + m.cols.index[c], m.rows.weight[r] + m.cols.weight[c]);
}

FASTCONV_INLINE V gradient_in_lanes(const float* dy, const float* y, int64_t at) {
  const V g = load(dy + at);
  return y ? select(load(y + at) <= zero(), zero(), g) : g;
}

}  // namespace

void max_pool(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolShape& s,
              bool relu) {
  if (s.KH == 2 && s.KW == 2) return pool_planes<2>(y, argmax, x, planes, s, relu);
  if (s.KH == 3 && s.KW == 3) return pool_planes<3>(y, argmax, x, planes, s, relu);
  pool_planes<0>(y, argmax, x, planes, s, relu);
}

void max_pool_backward(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                       int64_t planes, const Resample& m) {
  const int64_t out_plane = m.in_rows * m.in_cols * m.unit;  // the map leads from dy to dx
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t ih = 0; ih < m.out_rows; ++ih)
      for (int64_t iw = 0; iw < m.out_cols; ++iw, dx += m.unit) {
        if (m.unit == 1) {
          float sum = 0.0f;
          for_windows(m, ih, iw, [&](int64_t window, float position) {
            if (static_cast<float>(argmax[window]) == position && !(y && y[window] <= 0.0f))
              sum += dy[window];
          });
          *dx = sum;
          continue;
        }
        for (int part = 0; part < kParts; ++part) {
          V sum = zero();
          for_windows(m, ih, iw, [&](int64_t window, float position) {
            const int64_t at = window * kBlock + part * kWidth;
            const Mask mine = load_u16(argmax + at) == set1(position);
            sum = sum + select(mine, gradient_in_lanes(dy, y, at), zero());
          });
          store(dx + part * kWidth, sum);
        }
      }
    dy += out_plane;
    argmax += out_plane;
    if (y) y += out_plane;
  }
}

void max_pool_backward_2x2(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                           int64_t planes, const Resample& m) {
  const int64_t OH = m.in_rows, OW = m.in_cols, IH = m.out_rows, IW = m.out_cols, row = IW * kBlock;
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t oh = 0; oh < OH; ++oh, dx += 2 * row) {
      float* to = dx;
      for (int64_t ow = 0; ow < OW; ++ow, to += 2 * kBlock) {
        const int64_t from = ((plane * OH + oh) * OW + ow) * kBlock;
        for (int part = 0; part < kParts; ++part) {
          const V g = gradient_in_lanes(dy, y, from + part * kWidth);
          const V position = load_u16(argmax + from + part * kWidth);
          for (int k = 0; k < 4; ++k)
            store(to + k / 2 * row + k % 2 * kBlock + part * kWidth,
                  select(position == set1(static_cast<float>(k)), g, zero()));
        }
      }
      if (2 * OW < IW) {  // a column that no window reaches
        const size_t rest = static_cast<size_t>(IW - 2 * OW) * kBlock * sizeof(float);
        memset(to, 0, rest);
        memset(to + row, 0, rest);
      }
    }
    const int64_t rest = (IH - 2 * OH) * row;
    memset(dx, 0, static_cast<size_t>(rest) * sizeof(float));
    dx += rest;
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
