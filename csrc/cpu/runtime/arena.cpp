// Blocks below 4 MiB come in size classes, eight for each doubling, so at most an eighth of a block
// is wasted. A freed block joins the free list of its class. Larger blocks are spans (spans.h).
//
//   block:  [ 64-byte header | payload ... ]
//
// The header holds the control block of the shared_ptr (through HeaderAllocator), so an allocation
// from the cache calls no malloc. Once the last reference is gone, it holds the link of the free
// list.
//
// The cache is bounded: system memory stays below 1.5 times the peak of memory in use. The longest
// idle memory goes first, pages of free spans or blocks of a class.
#include "cpu/runtime/arena.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>

#include "core/errors.h"
#include "core/memory.h"
#include "cpu/runtime/pages.h"
#include "cpu/runtime/spans.h"

#if defined(_WIN32)
#include <malloc.h>
#else
#include <pthread.h>
#endif

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHeader = 64;
// Smaller blocks would waste much of a huge page.
constexpr size_t kSpansFrom = size_t{4} << 20;
constexpr size_t kSlack = size_t{64} << 20;  // cache that is always kept
constexpr size_t kLargest = size_t{1} << 62;

struct SizeClass {
  int index;
  size_t bytes;  // of the whole block
};

constexpr int kStepsPerDoubling = 8;
constexpr int kSmallSteps = 16;  // up to 1 KiB in steps of 64 bytes
constexpr int kClasses = kSmallSteps + (22 - 10) * kStepsPerDoubling;  // up to kSpansFrom

// The smallest class of at least `bytes` (1 .. kSpansFrom).
SizeClass class_of(size_t bytes) {
  constexpr size_t kSmall = kSmallSteps * kAlign;
  if (bytes <= kSmall) {
    const size_t step = (bytes + kAlign - 1) / kAlign;
    return {static_cast<int>(step) - 1, step * kAlign};
  }
  int doubling = 10;  // 2^doubling < bytes <= 2^(doubling + 1)
  while ((bytes - 1) >> (doubling + 1) != 0) ++doubling;
  const size_t base = size_t{1} << doubling, step = base / kStepsPerDoubling;
  const size_t steps = (bytes - base + step - 1) / step;  // 1 .. 8
  return {kSmallSteps + (doubling - 10) * kStepsPerDoubling + static_cast<int>(steps) - 1,
          base + steps * step};
}

void* system_allocate(size_t bytes) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, kAlign);
#else
  void* block = nullptr;
  const size_t align = bytes < kHugePage ? kAlign : kHugePage;
  if (posix_memalign(&block, align, bytes) != 0) return nullptr;
  if (align == kHugePage) ask_for_huge_pages(block, bytes);
  return block;
#endif
}

void system_free(void* block) {
#if defined(_WIN32)
  _aligned_free(block);
#else
  std::free(block);
#endif
}

class Arena {
 public:
  // A block of at least `bytes`; sets bytes to its real size.
  void* allocate(size_t& bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++clock_;
    void* block = bytes > kSpansFrom ? take_span(bytes) : take_listed(bytes);
    in_use_ += bytes;
    most_in_use_ = std::max(most_in_use_, in_use_);
    return block;
  }

  void release(void* block, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++clock_;
    if (bytes > kSpansFrom) {
      spans_.give(static_cast<char*>(block), clock_);
    } else {
      const SizeClass size = class_of(bytes);
      List& list = lists_[size.index];
      list.first = new (block) Free{list.first};
      list.bytes = size.bytes;
      list.last_use = clock_;
    }
    in_use_ -= bytes;
    cached_ += bytes;
  }

  void release_cached() {
    const std::lock_guard<std::mutex> lock(mutex_);
    trim(0);
    most_in_use_ = in_use_;
  }

  ArenaStats stats() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {static_cast<int64_t>(in_use_), static_cast<int64_t>(cached_), system_allocations_};
  }

  // Held across fork(): another thread may hold the lock then, and the child would wait forever.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  struct Free {
    Free* next;
  };
  struct List {
    Free* first = nullptr;
    size_t bytes = 0;  // of each block
    uint64_t last_use = 0;
  };

  void* take_listed(size_t& bytes) {
    const SizeClass size = class_of(bytes);
    bytes = size.bytes;
    List& list = lists_[size.index];
    list.last_use = clock_;
    Free* const block = list.first;
    if (block == nullptr) return from_system(bytes, system_allocate);
    list.first = block->next;
    cached_ -= bytes;
    return block;
  }

  // Grows memory at its end: by what the free span there lacks or, if the system puts the new
  // memory elsewhere, by all of `bytes`.
  void* take_span(size_t& bytes) {
    size_t taken = 0;
    char* block = spans_.take(bytes, taken);
    for (size_t free = spans_.end().free; block == nullptr; free = 0) {
      const size_t more = (bytes - free + kHugePage - 1) / kHugePage * kHugePage;
      spans_.add(from_system(more, [&](size_t n) { return map_pages(n, spans_.end().end); }), more,
                 clock_);
      cached_ += more;
      block = spans_.take(bytes, taken);
    }
    bytes = taken;
    cached_ -= bytes;
    return block;
  }

  template <class Allocate>
  auto from_system(size_t bytes, const Allocate& allocate) -> decltype(allocate(bytes)) {
    const size_t in_use = in_use_ + bytes, most = std::max(most_in_use_, in_use);
    trim(most + most / 2 + kSlack - in_use);
    auto block = allocate(bytes);
    if (block == nullptr) {
      trim(0);
      block = allocate(bytes);
    }
    if (block == nullptr)
      throw OutOfMemory(
          message("[memory] the system refused ", bytes, " bytes; ", in_use_, " bytes are in use"));
    ++system_allocations_;
    return block;
  }

  // Frees the longest idle memory until at most `keep` bytes are cached.
  void trim(size_t keep) {
    while (cached_ > keep) {
      List* list = nullptr;
      for (List& other : lists_)
        if (other.first != nullptr && (list == nullptr || other.last_use < list->last_use))
          list = &other;
      const Spans::Idle pages = spans_.longest_idle();
      if (pages.bytes > 0 && (list == nullptr || pages.since < list->last_use))
        drop(pages, cached_ - keep);
      else if (list != nullptr)
        drop_block(*list);
      else
        return;  // only parts of pages remain
    }
  }

  // Frees at least `bytes` of these idle pages, or all of them. From the upper end: spans are
  // reused from the lower one, so it is younger.
  void drop(const Spans::Idle& pages, size_t bytes) {
    const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    const size_t dropped = kPiecewise ? std::min(pages.bytes, whole) : pages.bytes;
    char* const begin = pages.begin + (pages.bytes - dropped);
    spans_.drop(begin, dropped);
    cached_ -= dropped;
    unmap_pages(begin, dropped);
  }

  void drop_block(List& list) {
    Free* const block = list.first;
    list.first = block->next;
    cached_ -= list.bytes;
    system_free(block);
  }

  std::mutex mutex_;
  List lists_[kClasses];
  Spans spans_;
  uint64_t clock_ = 0;
  size_t in_use_ = 0, cached_ = 0, most_in_use_ = 0;
  int64_t system_allocations_ = 0;
};

// Never destroyed: arrays may outlive every static object of this library.
Arena& arena() {
  static Arena& instance = *[] {
    auto* a = new Arena;
#if !defined(_WIN32)
    pthread_atfork([] { arena().lock(); }, [] { arena().unlock(); }, [] { arena().unlock(); });
#endif
    return a;
  }();
  return instance;
}

// Puts a shared_ptr's control block into the header of the block that it owns. The control block is
// freed last, so its deallocation returns the block to the arena.
template <class T>
struct HeaderAllocator {
  using value_type = T;
  void* block;
  size_t bytes;

  HeaderAllocator(void* whole, size_t size) : block(whole), bytes(size) {}
  template <class U>
  HeaderAllocator(const HeaderAllocator<U>& other) : block(other.block), bytes(other.bytes) {}

  T* allocate(size_t n) {
    static_assert(sizeof(T) <= kHeader, "the control block must fit into the header");
    if (n != 1) throw std::bad_alloc();
    return static_cast<T*>(block);
  }
  void deallocate(T*, size_t) { arena().release(block, bytes); }
  template <class U>
  bool operator==(const HeaderAllocator<U>& other) const {
    return block == other.block;
  }
  template <class U>
  bool operator!=(const HeaderAllocator<U>& other) const {
    return block != other.block;
  }
};

}  // namespace

std::shared_ptr<void> arena_allocate(size_t bytes) {
  if (bytes > kLargest - kHeader)
    throw OutOfMemory(message("[memory] ", bytes, " bytes are more than any system has"));
#if defined(__SANITIZE_ADDRESS__)
  // Exactly `bytes` from malloc, so that the sanitizer reports one step past either end.
  void* exact = nullptr;
  if (posix_memalign(&exact, kAlign, std::max(bytes, size_t{1})) != 0)
    throw OutOfMemory(message("[memory] ", bytes, " bytes could not be had"));
  return std::shared_ptr<void>(exact, Release(std::free, exact));
#endif
  size_t size = bytes + kHeader;
  void* block = arena().allocate(size);
  void* payload = static_cast<char*>(block) + kHeader;
  // HeaderAllocator returns the block.
  return std::shared_ptr<void>(payload, Release(), HeaderAllocator<char>(block, size));
}

void arena_release_cached() { arena().release_cached(); }

ArenaStats arena_stats() { return arena().stats(); }

}  // namespace fastconv
