// What is done with the result of an operation before it is stored, in this order:
//
//   y = max_pool2d(activation(normalise(result) + add))
//
// Each step may be missing. A device may do them in the same pass over memory, or one after the
// other.
#pragma once

#include <limits>
#include <optional>

#include "contract/pool_shape.h"
#include "core/array.h"

namespace fastconv {

enum class Activation : uint8_t { none, relu, relu6 };

// Values beyond it become it; infinity for ReLU.
inline float upper_limit(Activation activation) {
  return activation == Activation::relu6 ? 6.0f : std::numeric_limits<float>::infinity();
}

// Batch normalisation by known statistics: (x - mean) / sqrt(var + eps) * weight + bias for each
// channel. All are plain (C,); weight, bias and mean may be undefined, for 1, 0 and 0.
struct Normalise {
  Array weight, bias, mean, var;
  double eps = 0.0;
};

struct PostOps {
  std::optional<Normalise> normalise;
  Array add;  // of the result's shape; undefined for none
  Activation activation = Activation::none;
  std::optional<PoolShape> pool;
};

}  // namespace fastconv
