// Softmax, cross-entropy and the pointwise losses (contracts: cpu/kernels.h). In plain loops, for
// one column x[0 .. C):
//
//   m = max_c x[c];   s = sum_c exp(x[c] - m)            m keeps exp from overflowing
//   softmax: y[c] = exp(x[c] - m) / s      log-softmax: y[c] = x[c] - m - log(s)
//   cross-entropy: loss = log(s) - (x[label] - m);   dx[c] = softmax[c] - (c == label)
//
//               column:  0   1   2  ...  15
//     class 0          | x   x   x  ...  x |    a vector is sixteen columns: samples, in lanes.
//     class 1          | x   x   x  ...  x |    Everything is vertical; sums over classes
//     ..               |                   |    need no shuffles.
//
// Cost of a vector and class: one exponential, some 15 operations, beside three loads and a store;
// the exponentials are the ceiling.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

FASTCONV_INLINE V column_max(const float* x, int64_t C, int64_t stride, int valid) {
  V m = load_first(x, valid);
  // x is the first operand: a NaN in x loses against m, but returns with the difference x - m.
  for (int64_t c = 1; c < C; ++c) m = max(load_first(x + c * stride, valid), m);
  return m;
}

FASTCONV_INLINE V sum_of_exp(const float* x, V m, int64_t C, int64_t stride, int valid) {
  V sum = zero();
  for (int64_t c = 0; c < C; ++c) sum = sum + exp(load_first(x + c * stride, valid) - m);
  return sum;
}

// ln(x), at least -100 as in torch; NaN stays NaN.
FASTCONV_INLINE V bounded(V logarithm) { return max(set1(-100.0f), logarithm); }

struct LossAndSlope {
  V loss, slope;
};

FASTCONV_INLINE LossAndSlope squared_error(V x, V t) {
  const V d = x - t;
  return {d * d, d + d};
}

FASTCONV_INLINE LossAndSlope binary_cross_entropy(V x, V t) {
  const V one = set1(1.0f), rest = one - t;
  const V loss = t * bounded(log(x)) + rest * bounded(log1p(zero() - x));
  return {zero() - loss, (x - t) / max((one - x) * x, set1(1e-12f))};
}

// max(x, 0) - x * t + ln(1 + e^-|x|): neither term overflows.
FASTCONV_INLINE LossAndSlope binary_cross_entropy_with_logits(V x, V t) {
  const V tail = log1p(exp(zero() - abs(x)));
  return {fnma(x, t, max(zero(), x)) + tail, sigmoid(x) - t};
}

template <class F>
double pointwise(float* loss, float* dx, const float* x, const float* t, int64_t n, float scale,
                 int lanes, const F& f) {
  double total[1];
  long_sums<1>(total, n, lanes, [&](int64_t i, int valid, V(&v)[1]) {
    const LossAndSlope r = f(load_first(x + i, valid), load_first(t + i, valid));
    v[0] = valid == kWidth ? r.loss : select(first_lanes(valid), r.loss, zero());
    if (loss) store_first(loss + i, v[0], valid);
    store_first(dx + i, r.slope * set1(scale), valid);
  });
  return total[0];
}

}  // namespace

void softmax(float* y, const float* x, int64_t n, int64_t C, int64_t stride) {
  for_vectors(n, [&](int64_t i, int valid) {
    const V m = column_max(x + i, C, stride, valid);
    V sum = zero();
    for (int64_t at = i; at < i + C * stride; at += stride) {
      const V e = exp(load_first(x + at, valid) - m);
      sum = sum + e;
      store_first(y + at, e, valid);
    }
    const V share = set1(1.0f) / sum;
    for (int64_t at = i; at < i + C * stride; at += stride)
      store_first(y + at, load_first(y + at, valid) * share, valid);
  });
}

void log_softmax(float* y, const float* x, int64_t n, int64_t C, int64_t stride) {
  for_vectors(n, [&](int64_t i, int valid) {
    const V m = column_max(x + i, C, stride, valid);
    const V log_sum = log(sum_of_exp(x + i, m, C, stride, valid));
    for (int64_t at = i; at < i + C * stride; at += stride)
      store_first(y + at, load_first(x + at, valid) - m - log_sum, valid);
  });
}

void softmax_backward(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                      int64_t stride) {
  for_vectors(n, [&](int64_t i, int valid) {
    V dot = zero();
    for (int64_t at = i; at < i + C * stride; at += stride)
      dot = fma(load_first(dy + at, valid), load_first(y + at, valid), dot);
    for (int64_t at = i; at < i + C * stride; at += stride)
      store_first(dx + at, load_first(y + at, valid) * (load_first(dy + at, valid) - dot), valid);
  });
}

void log_softmax_backward(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                          int64_t stride) {
  for_vectors(n, [&](int64_t i, int valid) {
    V sum = zero();
    for (int64_t at = i; at < i + C * stride; at += stride) sum = sum + load_first(dy + at, valid);
    for (int64_t at = i; at < i + C * stride; at += stride)
      store_first(dx + at, fnma(exp(load_first(y + at, valid)), sum, load_first(dy + at, valid)),
                  valid);
  });
}

void argmax(float* best, const float* x, int64_t n, int64_t C, int64_t stride) {
  for_vectors(n, [&](int64_t i, int valid) {
    V value = load_first(x + i, valid), row = zero();
    Mask found_nan = is_nan(value);
    for (int64_t c = 1; c < C; ++c) {
      const V v = load_first(x + c * stride + i, valid);
      const Mask nan = is_nan(v), take = (v > value) | (nan & !found_nan);
      value = select(take, v, value);
      row = select(take, set1(static_cast<float>(c)), row);
      found_nan = found_nan | nan;
    }
    store_first(best + i, row, valid);
  });
}

void cross_entropy(float* loss, float* dx, const float* x, const float* labels, int64_t n,
                   const CrossEntropy& p) {
  const float smoothing = p.label_smoothing / static_cast<float>(p.C);  // of every class
  const V keep = set1(1.0f - p.label_smoothing);
  for_vectors(n, [&](int64_t i, int valid) {
    const V label = load_first(labels + i, valid);
    const Mask ignored = label < zero();
    const V m = column_max(x + i, p.C, p.stride, valid);
    // With z = x - m: sum of e^z, of weight * z (for smoothing), and z and weight of the label.
    V sum = zero(), smooth = zero(), z_label = zero(), weight = zero();
    for (int64_t c = 0; c < p.C; ++c) {
      const V z = load_first(x + c * p.stride + i, valid) - m, w = set1(p.weight[c]);
      const Mask here = label == set1(static_cast<float>(c));
      const V e = exp(z);
      sum = sum + e;
      if (smoothing > 0.0f) smooth = fma(w, z, smooth);
      z_label = select(here, z, z_label);
      weight = select(here, w, weight);
      store_first(dx + c * p.stride + i, e, valid);
    }
    const V log_sum = log(sum), hard = keep * weight;
    V value = hard * (log_sum - z_label);
    if (smoothing > 0.0f)
      value = fma(set1(smoothing), fma(set1(p.weight_total), log_sum, zero() - smooth), value);
    store_first(loss + i, select(ignored, zero(), value), valid);

    // d/dx_c = softmax_c * (all the weight of the targets) - (weight of target c)
    const V scale = set1(p.scale);
    const V per_sum = (hard + set1(smoothing * p.weight_total)) * scale / sum;
    for (int64_t c = 0; c < p.C; ++c) {
      float* to = dx + c * p.stride + i;
      const Mask here = label == set1(static_cast<float>(c));
      const V target = select(here, hard, zero()) + set1(smoothing * p.weight[c]);
      const V slope = fma(load_first(to, valid), per_sum, zero() - target * scale);
      store_first(to, select(ignored, zero(), slope), valid);
    }
  });
}

double pointwise_loss(PointwiseLoss kind, float* loss, float* dx, const float* x, const float* t,
                      int64_t n, float scale, int lanes) {
  // The loop below writes only the lanes that count.
  if (lanes < kBlock) {
    memset(dx, 0, static_cast<size_t>(n) * sizeof(float));
    if (loss) memset(loss, 0, static_cast<size_t>(n) * sizeof(float));
  }
  const auto run = [&](const auto& f) { return pointwise(loss, dx, x, t, n, scale, lanes, f); };
  switch (kind) {
    case PointwiseLoss::squared_error: return run([](V a, V b) { return squared_error(a, b); });
    case PointwiseLoss::binary_cross_entropy:
      return run([](V a, V b) { return binary_cross_entropy(a, b); });
    case PointwiseLoss::binary_cross_entropy_with_logits:
      return run([](V a, V b) { return binary_cross_entropy_with_logits(a, b); });
  }
  return 0.0;
}

}  // namespace fastconv::cpu::FASTCONV_ISA
