#include "cpu/runtime/cache_size.h"

#include <algorithm>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace fastconv {

int64_t l2_bytes() {
  static const int64_t bytes = [] {
    int64_t said = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    said = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return said > 0 ? std::clamp<int64_t>(said, 1 << 19, 1 << 22) : int64_t{1} << 20;
  }();
  return bytes;
}

}  // namespace fastconv
