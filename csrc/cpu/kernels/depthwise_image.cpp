// Depthwise convolution of one plain image: sixteen (or kWidth) neighbouring pixels of a row in a
// vector (contract: DepthwiseImage in cpu/kernels.h). In plain loops:
//
//   for oh < OH, ow < OW:
//     sum = bias
//     for kh < KH, kw < KW:  sum += w[kh][kw] * x[oh * SH + kh * DH - PT][ow * SW + kw * DW - PL]
//     y[oh][ow] = post_ops(sum)
//
// The register tile holds one vector of each of R output rows:
//
//     for each kw:                       x[ih]    load --> y[oh]      sum
//       load (R - 1) * SH + KH rows      x[ih+1]  load --> y[oh+1]    sum    KH broadcasts,
//       KH * R multiply-adds             ...                ..               R * KH multiply-adds
//
// Cost of a column of taps: R + KH - 1 loads for R * KH multiply-adds (9 for 21 with R = 7, KH = 3,
// stride 1). A loaded row serves up to KH outputs, which matters: a load that crosses a cache
// line counts twice, and of AVX-512's loads fifteen in sixteen do.
//
// Where the geometry allows, x is read in place and lanes outside the image are masked. Otherwise
// the rows are copied first, with zeros around them, into scratch that stays in L1; a stride comes
// apart on the way, so that loads are of neighbouring floats again.
#include "cpu/kernels.h"
#include "cpu/kernels/functions.h"
#include "cpu/simd.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

#if defined(FASTCONV_ISA_AVX512)
constexpr int kMaxRows = 7;  // ImageNet's maps are of 7, 14, 28, 56 and 112 rows
#elif defined(FASTCONV_ISA_AVX2)
constexpr int kMaxRows = 4;
#else
constexpr int kMaxRows = 2;
#endif

// Stores at least n zeros, up to kWidth - 1 more.
FASTCONV_INLINE void store_zeros(float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) store(p + i, zero());
}

// Copies row ih of x as `phases` rows of `pitch` floats: phase b holds the pixels j * SW + b - PL,
// zeros outside the image. Overwrites up to kWidth - 1 floats after the last row.
void copy_row(float* out, const float* x, int64_t ih, const DepthwiseImage& d) {
  const PoolWindow& s = d.window;
  if (ih < 0 || ih >= s.IH) return store_zeros(out, d.phases * d.pitch);
  const float* row = x + ih * s.IW;
  for (int64_t b = 0; b < d.phases; ++b, out += d.pitch) {
    const int64_t shift = b - s.PL;
    int64_t first = shift >= 0 ? 0 : ceil_div(-shift, s.SW);
    if (first > d.pitch) first = d.pitch;
    int64_t last = shift < s.IW ? ceil_div(s.IW - shift, s.SW) : 0;
    last = last < first ? first : last < d.pitch ? last : d.pitch;
    const float* in = row + first * s.SW + shift;
    float* to = out + first;
    const int64_t n = last - first;
    store_zeros(out, first);
    if (s.SW <= 2) {
      for_vectors(n, [&](int64_t i, int valid) {
        store(to + i, s.SW == 1 ? load_first(in + i, valid) : load_even(in + 2 * i, valid));
      });
      const int64_t done = ceil_div(n, kWidth) * kWidth;
      store_zeros(to + done, d.pitch - first - done);
    } else {
      for (int64_t i = 0; i < n; ++i) to[i] = in[i * s.SW];
      store_zeros(to + n, d.pitch - last);
    }
  }
}

// What all outputs of the channel share.
struct Channel {
  const DepthwiseImage& d;
  const float* w;
  V start, scale, shift, low, high;  // see ChannelPostOps
  bool scaled;
};

template <int R>
FASTCONV_INLINE void store_rows(float* y, V (&acc)[R], const Channel& channel, const float* plus,
                                int valid) {
  const int64_t OW = channel.d.window.OW;
  if (channel.scaled)
    for (int r = 0; r < R; ++r) acc[r] = fma(acc[r], channel.scale, channel.shift);
  if (plus)
    for (int r = 0; r < R; ++r) acc[r] = acc[r] + load_first(plus + r * OW, valid);
  for (int r = 0; r < R; ++r) {  // NaN passes as second operand
    const V v = min(channel.high, max(channel.low, acc[r]));
    store_first(y + r * OW, v, valid);
  }
}

// One column of taps, w[0], w[KW], ..., over the rows that it reads.
template <int KH, int SH, int R>
FASTCONV_INLINE void add_taps(V (&acc)[R], const V (&rows)[(R - 1) * SH + KH], const float* w,
                              int64_t KW) {
#pragma GCC unroll 8
  for (int kh = 0; kh < KH; ++kh) {
    const V weight = set1(w[kh * KW]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r] = fma(weight, rows[r * SH + kh], acc[r]);
  }
}

// Columns ow .. ow + kWidth - 1 of R output rows from copied rows, which begin at row[0]. Any
// geometry.
struct Copied {
  template <int R>
  static FASTCONV_INLINE void sum(V (&acc)[R], const Channel& channel, const float* const* row,
                                  int64_t ow) {
    const DepthwiseImage& d = channel.d;
    const PoolWindow& s = d.window;
    const int64_t x_row = d.phases * d.pitch;
    int64_t phase = 0, col = ow;  // of tap kw
    for (int64_t kw = 0; kw < s.KW; ++kw) {
      const float *xt = row[0] + phase * d.pitch + col, *w = channel.w + kw;
      for (int64_t kh = 0; kh < s.KH; ++kh, w += s.KW, xt += s.DH * x_row)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r] = fma(set1(*w), load(xt + r * s.SH * x_row), acc[r]);
      for (phase += s.DW; phase >= s.SW; phase -= s.SW) ++col;
    }
  }
};

// The same from the rows of the image (or a row of zeros) themselves, for DH = 1 and both strides
// S. Lanes outside the image are masked.
template <int KH, int S>
struct InPlace {
  template <int R>
  static FASTCONV_INLINE void sum(V (&acc)[R], const Channel& channel, const float* const* row,
                                  int64_t ow) {
    const PoolWindow& s = channel.d.window;
    const int64_t iw = ow * S - s.PL;
    if (iw >= 0 && iw + (s.KW - 1) * s.DW + S * kWidth <= s.IW)
      add<R>(acc, channel, row, iw, [](const float* p, int64_t) { return loaded(load(p)); });
    else
      add<R>(acc, channel, row, iw, [&](const float* p, int64_t at) {
        return load_masked(p, first_lanes(lanes(s.IW - at)) & !first_lanes(lanes(-at)));
      });
  }
  // read(p, iw) loads a vector of columns from iw on.
  template <int R, class Read>
  static FASTCONV_INLINE void add(V (&acc)[R], const Channel& channel, const float* const* row,
                                  int64_t iw, const Read& read) {
    const PoolWindow& s = channel.d.window;
    constexpr int kRows = (R - 1) * S + KH;
    for (int64_t kw = 0; kw < s.KW; ++kw, iw += s.DW) {
      V rows[kRows];
#pragma GCC unroll 32
      for (int i = 0; i < kRows; ++i) {
        const float* p = row[i] + iw;
        rows[i] = S == 1 ? read(p, iw) : evens(read(p, iw), read(p + kWidth, iw + kWidth));
      }
      add_taps<KH, S, R>(acc, rows, channel.w + kw, s.KW);
    }
  }
  static FASTCONV_INLINE int lanes(int64_t n) {
    return static_cast<int>(n < 0 ? 0 : n < kWidth ? n : kWidth);
  }
};

// R output rows. A last vector that is not whole begins further left and repeats some columns.
template <class From, int R>
void output_rows(float* y, const float* const* row, const Channel& channel, const float* plus) {
  const int64_t OW = channel.d.window.OW;
  const int valid = OW < kWidth ? static_cast<int>(OW) : kWidth;
  for (int64_t done = 0; done < OW; done += kWidth) {
    const int64_t ow = done + valid <= OW ? done : OW - kWidth;
    V acc[R];
    for (int r = 0; r < R; ++r) acc[r] = channel.start;
    From::sum(acc, channel, row, ow);
    store_rows<R>(y + ow, acc, channel, plus ? plus + ow : nullptr, valid);
  }
}

using OutputRows = void (*)(float*, const float* const*, const Channel&, const float*);

struct RowTable {
  OutputRows of[kMaxRows + 1];
};

template <class From, int R>
struct FillRows {
  static constexpr void fill(RowTable& table) {
    table.of[R] = output_rows<From, R>;
    FillRows<From, R - 1>::fill(table);
  }
};
template <class From>
struct FillRows<From, 0> {
  static constexpr void fill(RowTable&) {}
};

template <class From>
constexpr RowTable row_table() {
  RowTable table{};
  FillRows<From, kMaxRows>::fill(table);
  return table;
}
constexpr RowTable kAny = row_table<Copied>();
// KH = 1 and 2 are the phases of a gradient by input with stride 2.
constexpr RowTable k1x1 = row_table<InPlace<1, 1>>(), k2x1 = row_table<InPlace<2, 1>>(),
                   k3x1 = row_table<InPlace<3, 1>>(), k3x2 = row_table<InPlace<3, 2>>(),
                   k5x1 = row_table<InPlace<5, 1>>(), k5x2 = row_table<InPlace<5, 2>>(),
                   k7x1 = row_table<InPlace<7, 1>>();

const RowTable& rows_for(const DepthwiseImage& d) {
  const PoolWindow& s = d.window;
  if (!d.in_place) return kAny;
  if (s.SH == 2) return s.KH == 3 ? k3x2 : k5x2;
  return s.KH == 1 ? k1x1 : s.KH == 2 ? k2x1 : s.KH == 3 ? k3x1 : s.KH == 5 ? k5x1 : k7x1;
}

}  // namespace

void depthwise_image(float* y, const float* x, const float* w, const float* bias,
                     const DepthwiseImage& d, const ChannelPostOps& post_ops, float* scratch) {
  const PoolWindow& s = d.window;
  const RowTable& table = rows_for(d);
  const int64_t x_row = d.phases * d.pitch, band = d.in_place ? s.OH : d.band;
  if (d.in_place) store_zeros(scratch, s.IW);
  const Channel channel{d,
                        w,
                        bias ? set1(*bias) : zero(),
                        post_ops.scale ? set1(*post_ops.scale) : zero(),
                        post_ops.scale ? set1(*post_ops.shift) : zero(),
                        set1(post_ops.low),
                        set1(post_ops.high),
                        post_ops.scale != nullptr};
  for (int64_t oh = 0; oh < s.OH; oh += band) {
    const int64_t count = s.OH - oh < band ? s.OH - oh : band;
    const int64_t window = (count - 1) * s.SH + (s.KH - 1) * s.DH + 1, ih = oh * s.SH - s.PT;
    if (!d.in_place)
      for (int64_t i = 0; i < window; ++i) copy_row(scratch + i * x_row, x, ih + i, d);
    const int64_t tiles = ceil_div(count, kMaxRows);
    int64_t done = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t at = (oh + done) * s.OW, R = (count - done) / (tiles - tile);
      const float* row[2 * (kMaxRows - 1) + 7] = {scratch + done * s.SH * x_row};
      if (d.in_place)
        for (int64_t i = 0; i < (R - 1) * s.SH + s.KH; ++i) {
          const int64_t at_row = ih + done * s.SH + i;
          row[i] = at_row >= 0 && at_row < s.IH ? x + at_row * s.IW : scratch;
        }
      table.of[R](y + at, row, channel, post_ops.plus ? post_ops.plus + at : nullptr);
      done += R;
    }
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
