// Large blocks of memory, split from and merged with their free neighbours. Free lists by size
// would not do: what held two activations in the forward pass must hold one gradient of a dense
// layer later in the same step.
//
// Best fit: the smallest free span that is large enough is split, the lowest of equals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace fastconv {

class Spans {
 public:
  // The smallest free span of at least `bytes`, split to size; nullptr if there is none. `taken`
  // becomes its size.
  char* take(size_t bytes, size_t& taken);

  // Adds fresh memory as a free span, merged with a free neighbour where pages can be unmapped
  // piecewise. `now`, here and below, is the caller's clock, which is never 0.
  void add(char* begin, size_t bytes, uint64_t now);

  // Frees the span at `begin`.
  void give(char* begin, uint64_t now);

  // The end of all memory, and how many bytes before it are free.
  struct End {
    char* end;
    size_t free;
  };
  End end() const;

  // The pages that have been free for longest, and since when; none: bytes is 0.
  struct Idle {
    char* begin;
    size_t bytes;
    uint64_t since;
  };
  Idle longest_idle() const;

  // Removes idle pages: all of them or, where they are unmapped piecewise, the last ones.
  void drop(char* pages, size_t bytes);

 private:
  struct Span {
    size_t bytes;
    char* piece;  // begin of the mapping it must stay inside; nullptr: may merge with any neighbour
    uint64_t freed;  // when; 0 while in use
  };
  using At = std::map<char*, Span>::iterator;
  using ConstAt = std::map<char*, Span>::const_iterator;

  void join_neighbours(At span);
  Idle idle_pages(ConstAt span) const;

  std::map<char*, Span> spans_;  // all, by address
};

}  // namespace fastconv
