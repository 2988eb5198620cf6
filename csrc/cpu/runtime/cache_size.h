// The L2 cache of a core, and a row stride that suits the caches.
#pragma once

#include <cstdint>

#include "core/array.h"

namespace fastconv {

// Bytes of the L2 cache, 1 MiB where the system does not say. It may decide the size of a chunk
// only where that changes no sum: cores of one machine may differ, results must not.
int64_t l2_bytes();

// The stride for rows of `floats` floats that are read side by side. At a power of two all rows
// would fall into one set of the L1 cache; one line more avoids that.
inline int64_t conflict_free_stride(int64_t floats) {
  return ceil_div(floats, kLanes) * kLanes + kLanes;
}

}  // namespace fastconv
