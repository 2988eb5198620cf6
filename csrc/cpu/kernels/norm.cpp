// Sums by channel, batch normalisation and local response normalisation on channel-wise arrays
// (outer, C, inner) (contracts: cpu/kernels.h). Vectors run along inner; lane blocks and plain
// images differ only in its length.
//
//   batch norm, forward    y = (x - mean[c]) * scale[c] + shift[c]
//   batch norm, by input   dx = scale[c] * (g - dy_mean[c] - (x - mean[c]) * slope[c])
//   local response norm    y = x * (k + alpha / size * sum_j x_j^2)^-beta
//
//     outer | c0: [ v v v .. v ]  c1: [ v v v .. v ]  ..      mean, scale, shift of a channel are
//           | c0: [ v v v .. v ]  c1: [ v v v .. v ]  ..      broadcast once for its `inner` floats
//
// Cost of a vector: one or two loads, a store, and two or three operations, so memory is the
// ceiling.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// K sums over the planes of one channel, plane by plane. Planes of a single vector (features in
// lanes) count as one long array, so that a run is longer than a vector. term(at, valid, v): at is
// the offset from the first plane.
template <int K, class Term>
FASTCONV_INLINE void sum_planes(double (&total)[K], int64_t outer, int64_t inner, int64_t stride,
                                int lanes, const Term& term) {
  if (inner == kBlock) {
    long_sums<K>(total, outer * kBlock, lanes, [&](int64_t i, int valid, V(&v)[K]) {
      term(i / kBlock * stride + i % kBlock, valid, v);
    });
    return;
  }
  for (int k = 0; k < K; ++k) total[k] = 0.0;
  for (int64_t o = 0; o < outer; ++o) {
    double plane[K];
    long_sums<K>(plane, inner, lanes,
                 [&](int64_t i, int valid, V(&v)[K]) { term(o * stride + i, valid, v); });
    for (int k = 0; k < K; ++k) total[k] += plane[k];
  }
}

// The moments of the union of two samples (Chan, Golub, LeVeque 1979).
Moments join(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, delta = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + delta * share,
          a.sum_squares + b.sum_squares + delta * delta * a.count * share};
}

// The moments of `outer` planes of n floats, few enough to stay in L1 for the second pass. The sum
// of the deviations corrects the rounding of the first mean.
Moments short_moments(const float* x, int64_t outer, int64_t n, int64_t stride, int lanes) {
  const double count = static_cast<double>(outer) * static_cast<double>(n) * lanes / kBlock;
  double sum[1], deviations[2];
  sum_planes<1>(sum, outer, n, stride, lanes,
                [&](int64_t at, int valid, V(&v)[1]) { v[0] = load_first(x + at, valid); });
  const float mean = static_cast<float>(sum[0] / count);
  const V centre = set1(mean);
  sum_planes<2>(deviations, outer, n, stride, lanes, [&](int64_t at, int valid, V(&v)[2]) {
    const V d = load_first(x + at, valid) - centre;
    v[0] = valid == kWidth ? d : select(first_lanes(valid), d, zero());
    v[1] = v[0] * v[0];
  });
  const double shift = deviations[0] / count;
  return {count, static_cast<double>(mean) + shift, deviations[1] - deviations[0] * shift};
}

constexpr int64_t kShort = 2048;  // floats of a short run: 8 KiB, a quarter of L1

// body(offset, channel)
template <class Body>
FASTCONV_INLINE void for_planes(const Planes& planes, const Body& body) {
  int64_t c = planes.first % planes.C;
  for (int64_t p = planes.first; p < planes.first + planes.count; ++p) {
    body(p * planes.inner, c);
    if (++c == planes.C) c = 0;
  }
}

// dy times the derivative of max(0, min(high, .)), whose result is y.
FASTCONV_INLINE V masked(V dy, V y, float high) {
  return select(y <= zero(), zero(), select(set1(high) <= y, zero(), dy));
}

// body(masked) for channel c, where masked(dy, x - mean, at, valid) is the masked gradient
// of the vector at offset `at`.
template <class Body>
FASTCONV_INLINE void with_mask(const ReluMask& mask, int64_t c, const Body& body) {
  if (mask.y)
    return body([&](V dy, V, int64_t at, int valid) {
      return masked(dy, load_first(mask.y + at, valid), mask.high);
    });
  if (!mask.shift) return body([](V dy, V, int64_t, int) { return dy; });
  const V scale = set1(mask.scale[c]), shift = set1(mask.shift[c]);
  body([&](V dy, V centred, int64_t, int) {
    return masked(dy, fma(centred, scale, shift), mask.high);
  });
}

// The lanes of the vector at offset i of a plane that belong to samples.
FASTCONV_INLINE Mask samples_at(int64_t i, int lanes) {
  const int left = lanes - static_cast<int>(i % kBlock);
  return first_lanes(left < 0 ? 0 : left < kWidth ? left : kWidth);
}

// a^-beta. For AlexNet's 3/4 two square roots, else a logarithm and an exponential.
FASTCONV_INLINE V negative_power(V a, float beta) {
  if (beta == 0.75f) {
    const V root = sqrt(a);
    return set1(1.0f) / (root * sqrt(root));
  }
  return exp(set1(-beta) * log(a));
}

// The sum of f(x) over the existing rows of c - before .. c + after, one vector of columns.
template <class F>
FASTCONV_INLINE V sum_rows(const float* x, int64_t c, int64_t before, int64_t after, int64_t C,
                           int64_t stride, int valid, const F& f) {
  const int64_t begin = c - before > 0 ? c - before : 0;
  const int64_t end = C - c <= after ? C : c + after + 1;
  V sum = zero();
  for (int64_t j = begin; j < end; ++j) sum = sum + f(load_first(x + j * stride, valid));
  return sum;
}

FASTCONV_INLINE V lrn_base(const float* x, int64_t c, int valid, const LocalResponseNorm& m) {
  const V squares =
      sum_rows(x, c, m.size / 2, (m.size - 1) / 2, m.C, m.stride, valid, [](V a) { return a * a; });
  return fma(set1(m.alpha / static_cast<float>(m.size)), squares, set1(m.k));
}

}  // namespace

void channel_sums(double* sums, const float* x, const ChannelGroups& groups) {
  const auto [outer, channels, inner, stride] = groups;
  for (int64_t c = 0; c < channels; ++c, x += inner) {
    double total[1];
    sum_planes<1>(total, outer, inner, stride, kBlock,
                  [x](int64_t at, int valid, V(&v)[1]) { v[0] = load_first(x + at, valid); });
    sums[c] = total[0];
  }
}

void channel_moments(Moments* moments, const float* x, const ChannelGroups& groups, int lanes) {
  const int64_t outer = groups.outer, inner = groups.inner, stride = groups.stride;
  const int64_t whole = lanes == kBlock ? outer : outer - 1;
  const int64_t together = inner == kBlock ? kShort / kBlock : 1;
  for (int64_t c = 0; c < groups.channels; ++c, x += inner) {
    Moments all{0.0, 0.0, 0.0};
    const auto add_planes = [&](int64_t begin, int64_t count, int valid) {
      for (int64_t i = 0; i < inner; i += kShort) {
        const int64_t n = inner - i < kShort ? inner - i : kShort;
        all = join(all, short_moments(x + begin * stride + i, count, n, stride, valid));
      }
    };
    for (int64_t o = 0; o < whole; o += together)
      add_planes(o, whole - o < together ? whole - o : together, kBlock);
    if (whole < outer) add_planes(whole, 1, lanes);
    moments[c] = all;
  }
}

void channel_dots(double* sums, const float* dy, const float* x, const ReluMask& mask,
                  const float* mean, const ChannelGroups& groups) {
  const int64_t outer = groups.outer, inner = groups.inner, stride = groups.stride;
  for (int64_t c = 0; c < groups.channels; ++c) {
    double total[2];
    const V centre = set1(mean[c]);
    with_mask(mask, c, [&](const auto& masked) {
      sum_planes<2>(total, outer, inner, stride, kBlock, [&](int64_t i, int valid, V(&v)[2]) {
        const int64_t at = c * inner + i;
        const V centred = load_first(x + at, valid) - centre;
        v[0] = masked(load_first(dy + at, valid), centred, at, valid);
        v[1] = v[0] * centred;
      });
    });
    sums[2 * c] = total[0];
    sums[2 * c + 1] = total[1];
  }
}

// Both are given a copy of what they are told: stores to floats cannot change its members.
void channel_affine(const ChannelAffine& map, const Planes& planes) {
  const ChannelAffine a = map;
  for_planes(planes, [&](int64_t at, int64_t c) {
    const V mean = set1(a.mean[c]), scale = set1(a.scale[c]), shift = set1(a.shift[c]);
    for_vectors(planes.inner, [&](int64_t i, int valid) {
      V v = fma(load_first(a.x + at + i, valid) - mean, scale, shift);
      if (a.add) v = v + load_first(a.add + at + i, valid);
      store_first(a.y + at + i, min(set1(a.high), max(set1(a.low), v)), valid, a.streaming);
    });
  });
  if (a.streaming) stream_fence();
}

void batch_norm_gradient(const BatchNormGradient& gradient, const Planes& planes) {
  const BatchNormGradient a = gradient;
  for_planes(planes, [&](int64_t at, int64_t c) {
    const V mean = set1(a.mean[c]), scale = set1(a.scale[c]);
    const V dy_mean = set1(a.dy_mean[c]), slope = set1(a.slope[c]);
    with_mask(a.mask, c, [&](const auto& masked) {
      for_vectors(planes.inner, [&](int64_t i, int valid) {
        const V centred = load_first(a.x + at + i, valid) - mean;
        const V g = masked(load_first(a.dy + at + i, valid), centred, at + i, valid);
        if (a.dadd) store_first(a.dadd + at + i, g, valid, a.streaming);
        V dx = scale * fnma(centred, slope, g - dy_mean);
        if (a.lanes < kBlock) dx = select(samples_at(i, a.lanes), dx, zero());
        store_first(a.dx + at + i, dx, valid, a.streaming);
      });
    });
  });
  if (a.streaming) stream_fence();
}

void local_response_norm(float* y, const float* x, int64_t n, const LocalResponseNorm& m) {
  for (int64_t c = 0; c < m.C; ++c)
    for_vectors(n, [&](int64_t i, int valid) {
      const V power = negative_power(lrn_base(x + i, c, valid, m), m.beta);
      store_first(y + c * m.stride + i, load_first(x + c * m.stride + i, valid) * power, valid);
    });
}

void local_response_norm_backward(float* dx, const float* dy, const float* x, int64_t n,
                                  const LocalResponseNorm& m, float* scratch) {
  //   dx_j = dy_j s_j^-beta - 2 alpha beta / size * x_j * sum_c dy_c x_c s_c^(-beta - 1)
  //
  // over the channels c whose window contains j. First the terms of each c, then their sums.
  for (int64_t c = 0; c < m.C; ++c)
    for_vectors(n, [&](int64_t i, int valid) {
      const int64_t at = c * m.stride + i;
      const V base = lrn_base(x + i, c, valid, m);
      const V direct = load_first(dy + at, valid) * negative_power(base, m.beta);
      store_first(dx + at, direct, valid);
      store_first(scratch + c * n + i, direct * load_first(x + at, valid) / base, valid);
    });
  const V factor = set1(2.0f * m.alpha * m.beta / static_cast<float>(m.size));
  for (int64_t j = 0; j < m.C; ++j)
    for_vectors(n, [&](int64_t i, int valid) {
      const int64_t at = j * m.stride + i;
      const V sum = sum_rows(scratch + i, j, (m.size - 1) / 2, m.size / 2, m.C, n, valid,
                             [](V a) { return a; });
      const V others = factor * load_first(x + at, valid) * sum;
      store_first(dx + at, load_first(dx + at, valid) - others, valid);
    });
}

}  // namespace fastconv::cpu::FASTCONV_ISA
