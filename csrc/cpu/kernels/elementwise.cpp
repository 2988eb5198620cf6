// Elementwise functions, dropout and whole sums (contracts: cpu/kernels.h).
//
//   for i < n:  y[i] = f(a[i], b[i])
//
// Any layout is one long array here. Cost of a vector: one or two loads, a store, and f. Memory is
// the ceiling, except for exp, log, sigmoid, tanh (15 to 30 operations) and dropout's hash.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// y[i] = f(i, valid) for the vectors of [0, n).
template <class F>
FASTCONV_INLINE void fill(float* y, int64_t n, bool streaming, const F& f) {
  for_vectors(n, [&](int64_t i, int valid) { store_first(y + i, f(i, valid), valid, streaming); });
  if (streaming) stream_fence();
}

// Thirty-two random-looking bits from a number: two rounds of a multiply-xorshift hash with half of
// the key added to each (constants: Ellis and Wellons, github.com/skeeto/hash-prospector).
U hash(U number, const uint32_t (&key)[2]) {
  U h = number + set1_u(key[0]);
  h = (h ^ shift_right<16>(h)) * set1_u(0x7feb352du);
  h = (h ^ shift_right<15>(h)) * set1_u(0x846ca68bu);
  h = (h ^ shift_right<16>(h)) + set1_u(key[1]);
  h = (h ^ shift_right<16>(h)) * set1_u(0x7feb352du);
  h = (h ^ shift_right<15>(h)) * set1_u(0x846ca68bu);
  return h ^ shift_right<16>(h);
}

}  // namespace

void unary(Unary f, float* y, const float* x, int64_t n, float p, float q, bool streaming) {
  const V vp = set1(p), vq = set1(q), six = set1(6.0f);
  const auto map = [=](const auto& g) {
    fill(y, n, streaming, [=](int64_t i, int valid) { return g(load_first(x + i, valid)); });
  };
  switch (f) {
    case Unary::exp: return map([](V a) { return exp(a); });
    case Unary::log: return map([](V a) { return log(a); });
    case Unary::sqrt: return map([](V a) { return sqrt(a); });
    // max and min give their second operand when it is NaN.
    case Unary::relu: return map([](V a) { return max(zero(), a); });
    case Unary::relu6: return map([=](V a) { return min(six, max(zero(), a)); });
    case Unary::leaky_relu: return map([=](V a) { return select(a > zero(), a, a * vp); });
    case Unary::sigmoid: return map([](V a) { return sigmoid(a); });
    case Unary::tanh: return map([](V a) { return tanh(a); });
    case Unary::scale_shift: return map([=](V a) { return fma(a, vp, vq); });
    case Unary::divide: return map([=](V a) { return a / vp; });
  }
}

void binary(Binary f, float* y, const float* a, const float* b, int64_t n, float p,
            bool streaming) {
  const V vp = set1(p), one = set1(1.0f), six = set1(6.0f);
  const auto map = [=](const auto& g) {
    fill(y, n, streaming, [=](int64_t i, int valid) {
      return g(load_first(a + i, valid), load_first(b + i, valid));
    });
  };
  switch (f) {
    case Binary::add: return map([](V u, V v) { return u + v; });
    case Binary::sub: return map([](V u, V v) { return u - v; });
    case Binary::mul: return map([](V u, V v) { return u * v; });
    case Binary::div: return map([](V u, V v) { return u / v; });
    case Binary::relu_backward:
      return map([](V dy, V out) { return select(out <= zero(), zero(), dy); });
    case Binary::relu6_backward:
      return map([=](V dy, V out) { return select((out <= zero()) | (six <= out), zero(), dy); });
    case Binary::leaky_relu_backward:
      return map([=](V dy, V x) { return select(x > zero(), dy, dy * vp); });
    case Binary::sigmoid_backward: return map([=](V dy, V out) { return dy * (one - out) * out; });
    case Binary::tanh_backward: return map([=](V dy, V out) { return dy * fnma(out, out, one); });
  }
}

void dropout(float* y, const float* x, int64_t n, const Dropout& dropout, uint32_t first) {
  // The upper 24 bits of the hash, which a float holds exactly: a multiple of 2^-24 in [0, 1).
  const V threshold = set1(dropout.p * 16777216.0f), scale = set1(dropout.scale);
  U number[kParts];
  for (int part = 0; part < kParts; ++part)
    number[part] = set1_u(first) + (lane_numbers() + set1_u(static_cast<uint32_t>(part * kWidth))) *
                                       set1_u(dropout.lane_step);
  for (int64_t row = 0; row < n; row += kBlock) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t i = row + part * kWidth, left = n - i;
      if (left <= 0) return;
      const int valid = left < kWidth ? static_cast<int>(left) : kWidth;
      const V fraction = to_float(shift_right<8>(hash(number[part], dropout.key)));
      const V kept = select(fraction < threshold, zero(), load_first(x + i, valid) * scale);
      store_first(y + i, kept, valid);
      number[part] = number[part] + set1_u(dropout.row_step);
    }
  }
}

double sum(const float* x, int64_t n, int lanes) {
  double total[1];
  long_sums<1>(total, n, lanes,
               [&](int64_t i, int valid, V(&v)[1]) { v[0] = load_first(x + i, valid); });
  return total[0];
}

double sum_squares(const float* x, int64_t n, int lanes) {
  double total[1];
  long_sums<1>(total, n, lanes, [&](int64_t i, int valid, V(&v)[1]) {
    const V a = load_first(x + i, valid);
    v[0] = a * a;
  });
  return total[0];
}

}  // namespace fastconv::cpu::FASTCONV_ISA
