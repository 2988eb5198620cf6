// The points of Winograd's algorithm, which the transforms of tiles and of weights share: 0, +-a,
// +-b and infinity for kernels of 3x3 to 5x5, all but 0 for 2x2 and for small tiles of 3x3.
//
// The polynomials are evaluated at +-3/4 and +-3/2 instead of the usual +-1 and +-2: the largest
// error over 64 channels falls from 1.6e-4 to 3.5e-5. Without 0, +-3/8 and +-5/4 are best. Powers
// of all of them are exact in float32.
#pragma once

#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

template <int n>  // points along one axis: 5 or 6
struct At {
  static constexpr int zero = n - 5;  // how many lie before +a, -a, +b, -b, infinity
  static constexpr float a = n == 6 ? 0.75f : 0.375f, a2 = a * a, a3 = a2 * a;
  static constexpr float b = n == 6 ? 1.5f : 1.25f, b2 = b * b, b3 = b2 * b;
};

// Vectors `step` floats apart. One register is `at`, another `step`, a third three steps: without
// `hidden` there would be a pointer in memory for each vector, to be moved on for each tile.
template <class T>
class Strided {
 public:
  FASTCONV_INLINE Strided(T* first, int64_t floats)
      : at(hidden(first)), step(hidden(floats)), three(hidden(3 * step)) {}

  FASTCONV_INLINE T* operator[](int i) const {
    return at + (i < 3 ? i * step : i == 5 ? step + 4 * step : i == 4 ? 4 * step : three);
  }

 private:
  T* at;
  int64_t step, three;
};

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
