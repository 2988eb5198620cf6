// The points of Winograd's convolution, shared by the transforms of images and of weights: 0, +-a,
// +-b and infinity (n = 6), or +-a, +-b and infinity (n = 5).
//
// Any distinct points give a correct algorithm; they decide its rounding. +-3/4 and +-3/2 instead
// of the usual +-1 and +-2 reduce the largest error over 64 channels from 1.6e-4 to 3.5e-5. Without
// 0,
// +-3/8 and +-5/4 are best. The powers of all of them are exact in float32.
#pragma once

#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

template <int n>  // points along one axis: 5 or 6
struct At {
  static constexpr int zero = n - 5;  // 1 when the point 0 comes first, else 0
  static constexpr float a = n == 6 ? 0.75f : 0.375f, a2 = a * a, a3 = a2 * a;
  static constexpr float b = n == 6 ? 1.5f : 1.25f, b2 = b * b, b3 = b2 * b;
};

// Up to six vectors `step` floats apart, addressed from three registers: the first address, one
// step, three steps. `hidden` stops the compiler from keeping a pointer for each vector, which it
// would spill and advance for each tile.
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
