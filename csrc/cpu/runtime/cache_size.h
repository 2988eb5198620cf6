// The caches a core has for itself: how much they hold, and how to lie well in them.
#pragma once

#include <cstdint>

#include "core/array.h"

namespace fastconv {

// Bytes of the second-level cache, 1 MiB where the system does not say. They decide how much is
// done at a time only where that changes no sum: cores of one machine may differ, and results must
// not.
int64_t l2_bytes();

// How far apart to put rows of so many floats that are read side by side. At distances of a power
// of two they would all fall into one set of the L1 cache; one line more spreads them.
inline int64_t conflict_free_stride(int64_t floats) {
  return ceil_div(floats, kLanes) * kLanes + kLanes;
}

}  // namespace fastconv
