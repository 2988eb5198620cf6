// Large blocks of memory, cut from pieces of the system's and joined again with their neighbours
// when they are free: what held two activations holds one gradient of a dense layer later in the
// same step. A list for each size would keep both.
//
// The smallest free span that is large enough is cut, the lowest of equals. Batch 16, the requests
// of three training steps of VGG-16, which hold 1,985 MB at most, took 2,196 MB so and 2,382 with
// the lowest that is large enough; of ResNet-50, 1,426: 1,462 and 1,451; of four other networks
// both were equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace fastconv {

class Spans {
 public:
  // The smallest free span of at least `bytes`, cut to size; nullptr if there is none. `taken` is
  // its size.
  char* take(size_t bytes, size_t& taken);

  // A free span of fresh memory; one with a free neighbour where pages can be given back piecewise.
  // `now`, here and below, is the caller's clock, which never stands at 0.
  void add(char* begin, size_t bytes, uint64_t now);

  // Frees the span at `begin`.
  void give(char* begin, uint64_t now);

  // The end of all memory, and how much in front of it is free.
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

  // Forgets idle pages: all of them or, where they are given back piecewise, the last ones.
  void drop(char* pages, size_t bytes);

 private:
  struct Span {
    size_t bytes;
    char* piece;     // begin of the piece it must not grow beyond; nullptr: any neighbour will do
    uint64_t freed;  // when; 0 while in use
  };
  using At = std::map<char*, Span>::iterator;
  using ConstAt = std::map<char*, Span>::const_iterator;

  void join_neighbours(At span);
  Idle idle_pages(ConstAt span) const;

  std::map<char*, Span> spans_;  // all, by address
};

}  // namespace fastconv
