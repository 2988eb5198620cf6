// Max pooling (contract: cpu/kernels.h); average pooling is in resample.cpp. In plain loops, with
// ih = oh * SH - PT + kh * DH and iw = ow * SW - PL + kw * DW:
//
//   for oh < OH, ow < OW:
//     y[oh][ow] = max of x[ih][iw] over the kh, kw inside the image
//     argmax[oh][ow] = kh * KW + kw of that maximum
//
// A vector holds
//
//   in lanes:  sixteen samples at one position         each tap is one load
//   plain:     kWidth neighbouring outputs of a row    taps lie SW apart: loads, evens and odds
//
// Cost of a window: KH * KW loads and maxima, one store (two with argmax), so memory is the
// ceiling. Windows of 2x2 and 3x3 inside the image are unrolled, and one test finds any NaN in
// them.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"
#include "cpu/simd_maximum.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The taps k of one axis that lie inside [0, size): begin <= k < end.
struct Range {
  int64_t begin, end;
  FASTCONV_INLINE bool is_empty() const { return begin == end; }
};
FASTCONV_INLINE Range taps_inside(int64_t at, int64_t taps, int64_t dilation, int64_t size) {
  Range r{0, taps};
  while (r.begin < r.end && at + r.begin * dilation < 0) ++r.begin;
  while (r.end > r.begin && at + (r.end - 1) * dilation >= size) --r.end;
  return r;
}

// Floats p[0], p[stride], p[2 * stride], ...: n of them, then zeros.
FASTCONV_INLINE V load_strided(const float* p, int64_t stride, int n) {
  if (stride == 1) return load_first(p, n);
  if (stride == 2) return load_even(p, n);
  float lanes[kWidth] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i * stride];
  return load(lanes);
}

FASTCONV_INLINE void store_position(uint16_t* p, V position, int n) {
  if (n == kWidth) return store_u16(p, position);
  uint16_t lanes[kWidth];
  store_u16(lanes, position);
  memcpy(p, lanes, static_cast<size_t>(n) * sizeof(uint16_t));
}

// The maximum over the taps kh x kw of a window; tap(i, j) loads one. K > 0: the window is K x K,
// all of it inside the image. K = 0: any window.
template <class Best, int K, class Tap>
FASTCONV_INLINE Best window(const PoolWindow& s, Range kh, Range kw, const Tap& tap) {
  if constexpr (K > 0) {
    V v[K * K];
#pragma GCC unroll 16
    for (int k = 0; k < K * K; ++k) v[k] = tap(k / K, k % K);
    return maximum_of<Best>(v);
  }
  // No tap inside: position 0, of the padding.
  if (kh.is_empty() || kw.is_empty()) return Best::start(set1(-INFINITY), 0.0f);
  Best best = Best::start(tap(kh.begin, kw.begin), static_cast<float>(kh.begin * s.KW + kw.begin));
  for (int64_t i = kh.begin; i < kh.end; ++i)
    for (int64_t j = kw.begin + (i == kh.begin); j < kw.end; ++j)
      best.consider(tap(i, j), static_cast<float>(i * s.KW + j));
  return best;
}

// One row of one plane. x: the row of tap kh = 0 of its windows, which may lie outside the image.
struct Row {
  float* y;
  uint16_t* argmax;  // for MaximumWithIndex
  const float* x;
  Range kh;
  float floor;  // 0 for relu, else -inf
};

// Outputs ow .. ow + count - 1, whose windows all have the same taps.
template <class Best, int K, bool in_lanes>
FASTCONV_INLINE void pool_span(const Row& row, int64_t ow, int64_t count, Range kw,
                               const PoolWindow& s) {
  constexpr int64_t unit = in_lanes ? kBlock : 1;
  const int64_t down = s.DH * s.IW * unit, right = s.DW * unit, step = s.SW * unit;
  const float* x = row.x + (ow * s.SW - s.PL) * unit;
  float* y = row.y + ow * unit;
  const V floor = set1(row.kh.is_empty() || kw.is_empty() ? -INFINITY : row.floor);
  const auto put = [&](int64_t to, int n, const Best& best) {
    store_first(y + to, max(floor, best.value), n);
    if constexpr (Best::with_index) store_position(row.argmax + ow * unit + to, best.position, n);
  };
  if constexpr (in_lanes) {
    for (int64_t i = 0; i < count; ++i, x += step)
      for (int part = 0; part < kParts; ++part)
        put(i * kBlock + part * kWidth, kWidth,
            window<Best, K>(s, row.kh, kw, [&](int64_t kh, int64_t k) {
              return load(x + kh * down + k * right + part * kWidth);
            }));
  } else if (K == 2 && s.SW == 2 && s.DW == 1) {
    // Both columns of a window from the same loads.
    for_vectors(count, [&](int64_t i, int n) {
      const float *upper = x + 2 * i, *lower = upper + down;
      const int left = n < kWidth / 2 ? 2 * n : kWidth, rest = 2 * n - left;
      const V a = load_first(upper, left), b = load_partial(upper + kWidth, rest);
      const V c = load_first(lower, left), d = load_partial(lower + kWidth, rest);
      const V taps[4] = {evens(a, b), odds(a, b), evens(c, d), odds(c, d)};
      put(i, n,
          window<Best, K>(s, row.kh, kw, [&](int64_t kh, int64_t k) { return taps[2 * kh + k]; }));
    });
  } else {
    for_vectors(count, [&](int64_t i, int n) {
      put(i, n, window<Best, K>(s, row.kh, kw, [&](int64_t kh, int64_t k) {
            return load_strided(x + i * s.SW + kh * down + k * right, s.SW, n);
          }));
    });
  }
}

// The outputs of a row whose windows lie inside the image.
FASTCONV_INLINE Range windows_inside(const PoolWindow& s) {
  // The left edge of the last window that ends inside the image is room - PL.
  const int64_t room = s.IW + s.PL - (s.KW - 1) * s.DW - 1;
  Range r{(s.PL + s.SW - 1) / s.SW, room < 0 ? 0 : room / s.SW + 1};
  if (r.begin > s.OW) r.begin = s.OW;
  if (r.end > s.OW) r.end = s.OW;
  if (r.end < r.begin) r.end = r.begin;
  return r;
}

// One row of outputs: windows over the left or right edge one by one, those between together.
template <class Best, int K, bool in_lanes>
void pool_row(const Row& row, Range inside, const PoolWindow& s) {
  const auto edge = [&](int64_t ow) {
    pool_span<Best, 0, in_lanes>(row, ow, 1, taps_inside(ow * s.SW - s.PL, s.KW, s.DW, s.IW), s);
  };
  const Range all{0, s.KW};
  for (int64_t ow = 0; ow < inside.begin; ++ow) edge(ow);
  if (row.kh.begin == 0 && row.kh.end == s.KH)
    pool_span<Best, K, in_lanes>(row, inside.begin, inside.end - inside.begin, all, s);
  else
    pool_span<Best, 0, in_lanes>(row, inside.begin, inside.end - inside.begin, all, s);
  for (int64_t ow = inside.end; ow < s.OW; ++ow) edge(ow);
}

template <class Best, int K, bool in_lanes>
void pool_planes(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolWindow& s,
                 bool relu) {
  constexpr int64_t unit = in_lanes ? kBlock : 1;
  const float floor = relu ? 0.0f : -INFINITY;
  const Range inside = windows_inside(s);
  for (int64_t plane = 0; plane < planes; ++plane, x += s.IH * s.IW * unit)
    for (int64_t oh = 0; oh < s.OH; ++oh, y += s.OW * unit) {
      const int64_t ih = oh * s.SH - s.PT;
      const Row row{y, argmax, x + ih * s.IW * unit, taps_inside(ih, s.KH, s.DH, s.IH), floor};
      pool_row<Best, K, in_lanes>(row, inside, s);
      if constexpr (Best::with_index) argmax += s.OW * unit;
    }
}

template <class Best, bool in_lanes>
void pool(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolWindow& s,
          bool relu) {
  if (s.KH == 2 && s.KW == 2) return pool_planes<Best, 2, in_lanes>(y, argmax, x, planes, s, relu);
  if (s.KH == 3 && s.KW == 3) return pool_planes<Best, 3, in_lanes>(y, argmax, x, planes, s, relu);
  pool_planes<Best, 0, in_lanes>(y, argmax, x, planes, s, relu);
}

// add(window, position) for each window that reaches pixel (ih, iw). The weights of its row and
// column add up to the position in the window, which argmax holds if the pixel was the maximum.
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

void max_pool(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolWindow& s,
              bool relu) {
  const bool in_lanes = s.unit == kBlock;
  const auto run = argmax ? in_lanes ? pool<MaximumWithIndex, true> : pool<MaximumWithIndex, false>
                   : in_lanes ? pool<Maximum, true>
                              : pool<Maximum, false>;
  run(y, argmax, x, planes, s, relu);
}

void max_pool_backward_plain(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                             int64_t planes, const PoolWindow& s) {
  for (int64_t plane = 0; plane < planes; ++plane, dx += s.IH * s.IW) {
    memset(dx, 0, static_cast<size_t>(s.IH * s.IW) * sizeof(float));
    for (int64_t oh = 0; oh < s.OH; ++oh)
      for (int64_t ow = 0; ow < s.OW; ++ow, ++dy, ++argmax) {
        const uint32_t position = *argmax, KW = static_cast<uint32_t>(s.KW);
        const int64_t ih = oh * s.SH - s.PT + position / KW * s.DH;
        const int64_t iw = ow * s.SW - s.PL + position % KW * s.DW;
        const bool flows = !(y && *y <= 0.0f);
        if (y) ++y;
        // A window without a tap inside may point outside the image.
        if (flows && ih >= 0 && ih < s.IH && iw >= 0 && iw < s.IW) dx[ih * s.IW + iw] += *dy;
      }
  }
}

void max_pool_backward(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                       int64_t planes, const Resample& m) {
  const int64_t out_plane = m.in_rows * m.in_cols * kBlock;  // the map leads from dy to dx
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t ih = 0; ih < m.out_rows; ++ih)
      for (int64_t iw = 0; iw < m.out_cols; ++iw, dx += kBlock)
        for (int part = 0; part < kParts; ++part) {
          V sum = zero();
          for_windows(m, ih, iw, [&](int64_t window, float position) {
            const int64_t at = window * kBlock + part * kWidth;
            const Mask mine = load_u16(argmax + at) == set1(position);
            sum = sum + select(mine, gradient_in_lanes(dy, y, at), zero());
          });
          store(dx + part * kWidth, sum);
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
      // Columns (and below, rows) that no window reaches.
      for (const float* end = dx + row; to < end; to += kWidth)
        store(to, zero()), store(to + row, zero());
    }
    for (const float* end = dx + (IH - 2 * OH) * row; dx < end; dx += kWidth) store(dx, zero());
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
