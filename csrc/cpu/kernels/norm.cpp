// Sums by channel, batch normalisation and local response normalisation on channel-wise arrays
// (outer, C, inner) (contracts: cpu/kernels.h). Vectors run along inner; lane blocks and plain
// images differ only in its length.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// K sums over the planes of one channel, each of them in turn. Planes of one vector, which is what
// features in lanes have, are taken as one long array instead, so that a run is more than a vector.
// term(at, valid, v): at is the offset from the first plane.
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

// The moments of outer planes of n floats, few enough to stay in L1 for the second pass. The
// rounding of the first mean is made good by the sum of the deviations from it.
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

constexpr int64_t kShort = 2048;  // floats, 8 KiB

// body(offset, channel) for planes first .. first + planes - 1 of (outer, C, inner).
template <class Body>
FASTCONV_INLINE void for_planes(int64_t first, int64_t planes, int64_t C, int64_t inner,
                                const Body& body) {
  int64_t c = first % C;
  for (int64_t p = first; p < first + planes; ++p) {
    body(p * inner, c);
    if (++c == C) c = 0;
  }
}

// The gradient dy of max(0, min(high, y)).
FASTCONV_INLINE V passed(V dy, V y, float high) {
  return select(y <= zero(), zero(), select(set1(high) <= y, zero(), dy));
}

// body(behind) for channel c, where behind(dy, x - mean, at, valid) is the gradient behind the gate
// of the vector at offset `at`.
template <class Body>
FASTCONV_INLINE void with_gate(const ReluMask& gate, int64_t c, const Body& body) {
  if (gate.y)
    return body([&](V dy, V, int64_t at, int valid) {
      return passed(dy, load_first(gate.y + at, valid), gate.high);
    });
  if (!gate.shift) return body([](V dy, V, int64_t, int) { return dy; });
  const V scale = set1(gate.scale[c]), shift = set1(gate.shift[c]);
  body([&](V dy, V centred, int64_t, int) {
    return passed(dy, fma(centred, scale, shift), gate.high);
  });
}

// Which lanes of the vector at offset i of a plane in lanes belong to samples.
FASTCONV_INLINE Mask samples_at(int64_t i, int lanes) {
  const int left = lanes - static_cast<int>(i % kBlock);
  return first_lanes(left < 0 ? 0 : left < kWidth ? left : kWidth);
}

// a^-beta. 3/4, which AlexNet and all after it use, takes two square roots; the rest a logarithm.
FASTCONV_INLINE V negative_power(V a, float beta) {
  if (beta == 0.75f) {
    const V root = sqrt(a);
    return set1(1.0f) / (root * sqrt(root));
  }
  return exp(set1(-beta) * log(a));
}

// The sum of column i of rows c - before .. c + after, those that there are, after `f`.
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

void channel_sums(double* sums, const float* x, int64_t outer, int64_t channels, int64_t inner,
                  int64_t stride) {
  for (int64_t c = 0; c < channels; ++c, x += inner) {
    double total[1];
    sum_planes<1>(total, outer, inner, stride, kBlock,
                  [&](int64_t at, int valid, V(&v)[1]) { v[0] = load_first(x + at, valid); });
    sums[c] = total[0];
  }
}

void channel_moments(Moments* moments, const float* x, int64_t outer, int64_t channels,
                     int64_t inner, int64_t stride, int lanes) {
  const int64_t whole = lanes == kBlock ? outer : outer - 1;
  const int64_t together = inner == kBlock ? kShort / kBlock : 1;
  for (int64_t c = 0; c < channels; ++c, x += inner) {
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

void channel_dots(double* sums, const float* dy, const float* x, const ReluMask& gate,
                  const float* mean, int64_t outer, int64_t channels, int64_t inner,
                  int64_t stride) {
  for (int64_t c = 0; c < channels; ++c) {
    double total[2];
    const V centre = set1(mean[c]);
    with_gate(gate, c, [&](const auto& behind) {
      sum_planes<2>(total, outer, inner, stride, kBlock, [&](int64_t i, int valid, V(&v)[2]) {
        const int64_t at = c * inner + i;
        const V centred = load_first(x + at, valid) - centre;
        v[0] = behind(load_first(dy + at, valid), centred, at, valid);
        v[1] = v[0] * centred;
      });
    });
    sums[2 * c] = total[0];
    sums[2 * c + 1] = total[1];
  }
}

void channel_affine(float* y, const float* x, const float* plus, int64_t first, int64_t planes,
                    int64_t C, int64_t inner, const float* mean, const float* scale,
                    const float* shift, float low, float high, bool streaming) {
  for_planes(first, planes, C, inner, [&](int64_t at, int64_t c) {
    const V m = set1(mean[c]), a = set1(scale[c]), b = set1(shift[c]);
    for_vectors(inner, [&](int64_t i, int valid) {
      V v = fma(load_first(x + at + i, valid) - m, a, b);
      if (plus) v = v + load_first(plus + at + i, valid);
      store_first(y + at + i, min(set1(high), max(set1(low), v)), valid, streaming);
    });
  });
  if (streaming) stream_fence();
}

void batch_norm_backward_input(float* dx, float* dplus, const float* dy, const float* x,
                               const ReluMask& gate, int64_t first, int64_t planes, int64_t C,
                               int64_t inner, const float* mean, const float* scale,
                               const float* dy_mean, const float* slope, int lanes,
                               bool streaming) {
  for_planes(first, planes, C, inner, [&](int64_t at, int64_t c) {
    const V m = set1(mean[c]), a = set1(scale[c]), b = set1(dy_mean[c]), s = set1(slope[c]);
    with_gate(gate, c, [&](const auto& behind) {
      for_vectors(inner, [&](int64_t i, int valid) {
        const V centred = load_first(x + at + i, valid) - m;
        const V g = behind(load_first(dy + at + i, valid), centred, at + i, valid);
        if (dplus) store_first(dplus + at + i, g, valid, streaming);
        V out = a * fnma(centred, s, g - b);
        if (lanes < kBlock) out = select(samples_at(i, lanes), out, zero());
        store_first(dx + at + i, out, valid, streaming);
      });
    });
  });
  if (streaming) stream_fence();
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
  // dx_j = dy_j s_j^-beta - 2 alpha beta / size * x_j * sum of dy_c x_c s_c^(-beta - 1) over the c
  // whose neighbour j is: first the parts of each c, then their sums.
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
