// The caching allocator behind every Array and all scratch memory: 64-byte aligned (in 2 MiB pages
// with huge pages asked for when large), kept for reuse when freed, so that a training step after
// the first asks the operating system for nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fastconv {

class Version;  // core/versions.h

std::shared_ptr<void> arena_allocate(size_t bytes);           // OutOfMemory when it cannot be had
Version* arena_version(const std::shared_ptr<void>& memory);  // null where it is not the arena's
void arena_release_cached();  // gives cached blocks back to the system

struct ArenaStats {
  int64_t bytes_in_use, bytes_cached, system_allocations;
};
ArenaStats arena_stats();

}  // namespace fastconv
