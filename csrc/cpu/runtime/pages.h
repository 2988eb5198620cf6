// Large pieces of memory, straight from the system.
#pragma once

#include <cstddef>

namespace fastconv {

constexpr size_t kHugePage = size_t{2} << 20;

// Fresh memory of `bytes` (a multiple of kHugePage), aligned to huge pages and backed by them where
// the system agrees; nullptr if it refuses. Where it can be had, it lies behind `end`, the end of
// an earlier piece, so that the two are one.
char* map_pages(size_t bytes, char* end);

// Wishes huge pages behind memory; only speed depends on it.
void ask_for_huge_pages(void* begin, size_t bytes);

// Gives pages back. kPiecewise: any of them; otherwise whole pieces, as they were mapped.
#if defined(__linux__)
constexpr bool kPiecewise = true;
#else
constexpr bool kPiecewise = false;
#endif
void unmap_pages(char* begin, size_t bytes);

}  // namespace fastconv
