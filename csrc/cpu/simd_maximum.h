// Maxima of several vectors, lane by lane, for kernels that pool.
#pragma once

#include <math.h>

#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// A running maximum: the first NaN wins, else the first of the largest. consider_number may be used
// when no value is NaN.
struct Maximum {
  static constexpr bool with_index = false;
  V value;
  Mask nan;

  static FASTCONV_INLINE Maximum start(V v, float) { return {v, is_nan(v)}; }
  FASTCONV_INLINE Mask takes(V v) {
    const Mask is = is_nan(v), take = (v > value) | (is & !nan);
    nan = nan | is;
    return take;
  }
  FASTCONV_INLINE void consider(V v, float) { value = select(takes(v), v, value); }
  FASTCONV_INLINE void consider_number(V v, float) { value = max(v, value); }
};

// The same, with the index of the maximum.
struct MaximumWithIndex {
  static constexpr bool with_index = true;
  V value;
  Mask nan;
  V position;

  static FASTCONV_INLINE MaximumWithIndex start(V v, float at) { return {v, is_nan(v), set1(at)}; }
  FASTCONV_INLINE void consider(V v, float at) {
    Maximum best{value, nan};
    const Mask take = best.takes(v);
    value = select(take, v, value), nan = best.nan;
    position = select(take, set1(at), position);
  }
  FASTCONV_INLINE void consider_number(V v, float at) {
    position = select(v > value, set1(at), position);
    value = max(v, value);
  }
};

// The maximum of vectors 0 .. count - 1.
template <class Best, int count>
FASTCONV_INLINE Best maximum_of(const V (&v)[count]) {
  Mask nan = is_nan(v[0]);
#pragma GCC unroll 16
  for (int k = 1; k + 1 < count; k += 2) nan = nan | either_nan(v[k], v[k + 1]);
  if constexpr (count % 2 == 0) nan = nan | is_nan(v[count - 1]);
  Best best = Best::start(v[0], 0.0f);
  if (any(nan)) {
#pragma GCC unroll 16
    for (int k = 1; k < count; ++k) best.consider(v[k], static_cast<float>(k));
  } else {
#pragma GCC unroll 16
    for (int k = 1; k < count; ++k) best.consider_number(v[k], static_cast<float>(k));
  }
  return best;
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
