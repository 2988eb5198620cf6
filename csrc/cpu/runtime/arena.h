// The caching allocator of every Array and of scratch memory. Blocks are 64-byte aligned; large
// ones are in 2 MiB pages, huge pages where possible. Freed blocks are kept for reuse: a training
// step after the first asks the operating system for nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fastconv {

std::shared_ptr<void> arena_allocate(size_t bytes);  // as `allocate` in core/memory.h
void arena_release_cached();                         // gives cached blocks back to the system

struct ArenaStats {
  int64_t bytes_in_use, bytes_cached, system_allocations;
};
ArenaStats arena_stats();

}  // namespace fastconv
