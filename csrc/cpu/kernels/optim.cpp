// One step of each optimiser on a range of parameters (equations: contract/optimizer_rules.h).
//
// Cost of a vector: a load and a store of p and of each state, a load of g, a few multiply-adds.
// Every array is read once and written once, so memory is the ceiling; for arrays in a cache it is
// the square root and the division of Adam, RMSprop and Adagrad.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The gradient as the rule sees it: its sign, then weight decay.
FASTCONV_INLINE V gradient(const float* g, V p, int valid, V sign, V weight_decay) {
  return fma(weight_decay, p, load_first(g, valid) * sign);
}

}  // namespace

void sgd(float* p, const float* g, float* momentum, int64_t n, const SgdRule& r) {
  const V lr = set1(r.lr), mu = set1(r.momentum), keep = set1(r.one_minus_dampening);
  const V sign = set1(r.maximize ? -1.0f : 1.0f), decay = set1(r.weight_decay);
  for_vectors(n, [&](int64_t i, int valid) {
    const V before = load_first(p + i, valid);
    V d = gradient(g + i, before, valid, sign, decay);
    if (momentum) {
      const V m = r.first ? d : fma(mu, load_first(momentum + i, valid), keep * d);
      store_first(momentum + i, m, valid);
      d = r.nesterov ? fma(mu, m, d) : m;
    }
    store_first(p + i, fnma(lr, d, before), valid);
  });
}

void rmsprop(float* p, const float* g, float* square_avg, float* grad_avg, float* momentum,
             int64_t n, const RmspropRule& r) {
  const V lr = set1(r.lr), alpha = set1(r.alpha), rest = set1(r.one_minus_alpha), eps = set1(r.eps);
  const V mu = set1(r.momentum), decay = set1(r.weight_decay), one = set1(1.0f);
  for_vectors(n, [&](int64_t i, int valid) {
    const V before = load_first(p + i, valid);
    const V d = gradient(g + i, before, valid, one, decay);
    const V squares = fma(alpha, load_first(square_avg + i, valid), rest * d * d);
    store_first(square_avg + i, squares, valid);
    V variance = squares;
    if (grad_avg) {
      const V old = load_first(grad_avg + i, valid), average = fma(rest, d - old, old);
      store_first(grad_avg + i, average, valid);
      variance = fnma(average, average, squares);
    }
    V update = d / (r.eps_inside_sqrt ? sqrt(variance + eps) : sqrt(variance) + eps);
    if (momentum) {
      update = fma(mu, load_first(momentum + i, valid), update);
      store_first(momentum + i, update, valid);
    }
    store_first(p + i, fnma(lr, update, before), valid);
  });
}

void adam(float* p, const float* g, float* exp_avg, float* exp_avg_sq, float* max_exp_avg_sq,
          int64_t n, const AdamRule& r) {
  const V rest1 = set1(r.one_minus_beta1), beta2 = set1(r.beta2), rest2 = set1(r.one_minus_beta2);
  const V eps = set1(r.eps), step = set1(r.step_size), correction = set1(r.inv_sqrt_correction);
  const V sign = set1(r.maximize ? -1.0f : 1.0f), decay = set1(r.weight_decay),
          keep = set1(r.decay);
  for_vectors(n, [&](int64_t i, int valid) {
    const V before = load_first(p + i, valid);
    const V d = gradient(g + i, before, valid, sign, decay);
    const V old = load_first(exp_avg + i, valid), m = fma(rest1, d - old, old);
    const V v = fma(beta2, load_first(exp_avg_sq + i, valid), rest2 * d * d);
    store_first(exp_avg + i, m, valid);
    store_first(exp_avg_sq + i, v, valid);
    V largest = v;
    if (max_exp_avg_sq) {
      largest = max(load_first(max_exp_avg_sq + i, valid), v);
      store_first(max_exp_avg_sq + i, largest, valid);
    }
    const V update = m / fma(sqrt(largest), correction, eps);
    store_first(p + i, fnma(step, update, before * keep), valid);
  });
}

void adagrad(float* p, const float* g, float* state_sum, int64_t n, const AdagradRule& r) {
  const V lr = set1(r.lr), eps = set1(r.eps), decay = set1(r.weight_decay), one = set1(1.0f);
  for_vectors(n, [&](int64_t i, int valid) {
    const V before = load_first(p + i, valid);
    const V d = gradient(g + i, before, valid, one, decay);
    const V squares = fma(d, d, load_first(state_sum + i, valid));
    store_first(state_sum + i, squares, valid);
    store_first(p + i, fnma(lr, d / (sqrt(squares) + eps), before), valid);
  });
}

}  // namespace fastconv::cpu::FASTCONV_ISA
