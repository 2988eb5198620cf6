#include "cpu/runtime/pages.h"

#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastconv {

#if defined(__linux__)

namespace {

constexpr int kProtection = PROT_READ | PROT_WRITE, kFlags = MAP_PRIVATE | MAP_ANONYMOUS;

char* map_at(char* hint, size_t bytes, int protection, int flags) {
  void* const begin = mmap(hint, bytes, protection, flags, -1, 0);
  return begin == MAP_FAILED ? nullptr : static_cast<char*>(begin);
}

size_t to_huge_page(const char* p) {
  return (kHugePage - reinterpret_cast<size_t>(p) % kHugePage) % kHugePage;
}

// An address with free address space above it, so that memory can grow upwards. The system fills
// address space from above, so the begin of a large free mapping serves. Tries smaller mappings,
// and returns null in the end, where address space is limited (ulimit -v).
char* roomy_place() {
  for (size_t room = size_t{1} << 40; room >= size_t{1} << 32; room /= 16) {
    char* const hole = map_at(nullptr, room, PROT_NONE, kFlags | MAP_NORESERVE);
    if (hole == nullptr) continue;
    munmap(hole, room);
    return hole + to_huge_page(hole);
  }
  return nullptr;
}

}  // namespace

char* map_pages(size_t bytes, char* end) {
  static char* const first = roomy_place();
  char* const hint = end != nullptr ? end : first;
  char* begin = map_at(hint, bytes, kProtection, kFlags);
  if (begin != nullptr && to_huge_page(begin) != 0) {  // not at the hint: map more and align
    munmap(begin, bytes);
    begin = map_at(nullptr, bytes + kHugePage, kProtection, kFlags);
    if (begin != nullptr) {
      const size_t before = to_huge_page(begin);
      if (before > 0) munmap(begin, before);
      begin += before;
      munmap(begin + bytes, kHugePage - before);
    }
  }
  if (begin != nullptr) ask_for_huge_pages(begin, bytes);
  return begin;
}

void unmap_pages(char* begin, size_t bytes) { munmap(begin, bytes); }

void ask_for_huge_pages(void* begin, size_t bytes) { madvise(begin, bytes, MADV_HUGEPAGE); }

#elif defined(_WIN32)

char* map_pages(size_t bytes, char*) {
  return static_cast<char*>(_aligned_malloc(bytes, kHugePage));
}
void unmap_pages(char* begin, size_t) { _aligned_free(begin); }
void ask_for_huge_pages(void*, size_t) {}

#else

char* map_pages(size_t bytes, char*) {
  void* block = nullptr;
  return posix_memalign(&block, kHugePage, bytes) == 0 ? static_cast<char*>(block) : nullptr;
}
void unmap_pages(char* begin, size_t) { std::free(begin); }
void ask_for_huge_pages(void*, size_t) {}

#endif

}  // namespace fastconv
