// Large blocks of memory straight from the operating system, in huge pages where possible.
#pragma once

#include <cstddef>

namespace fastconv {

constexpr size_t kHugePage = size_t{2} << 20;

// Maps `bytes` (a multiple of kHugePage), aligned to huge pages and backed by them where the system
// agrees; nullptr if it refuses. Where possible the memory begins at `end`, the end of an earlier
// block, so that both become one.
char* map_pages(size_t bytes, char* end);

// Requests huge pages for existing memory. A hint: only speed depends on it.
void ask_for_huge_pages(void* begin, size_t bytes);

// Unmaps pages. kPiecewise: any of them; otherwise only whole blocks, as they were mapped.
#if defined(__linux__)
constexpr bool kPiecewise = true;
#else
constexpr bool kPiecewise = false;
#endif
void unmap_pages(char* begin, size_t bytes);

}  // namespace fastconv
