// The cache a core has for itself. It decides how much is done at a time only where that changes no
// sum: cores of one machine may differ, and results must not.
#pragma once

#include <cstdint>

namespace fastconv {

// Bytes of the second-level cache, 1 MiB where the system does not say.
int64_t l2_bytes();

}  // namespace fastconv
