// Large blocks of memory, cut from pieces of the system's and joined again with their neighbours
// when they are free: what held two activations holds one gradient of a dense layer later in the
// same step. A list for each size would keep both.
//
// The lowest free span that is large enough is cut, not the smallest: what lives long gathers at
// low addresses, what comes and goes behind it, where it is joined again. Batch 16, most memory of
// a step of ResNet-50 that holds 1,480 MB at a time: 1,517 MB so, 1,835 with the smallest in
// separate pieces; of VGG-16 with 2,475: 2,737 and 3,083.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace fastconv {

class Spans {
 public:
  // The lowest free span of at least `bytes`, cut to size; nullptr if there is none. `taken` is its
  // size.
  char* take(size_t bytes, size_t& taken);

  // A free span of fresh memory; one with a free neighbour where pages can be given back piecewise.
  void add(char* begin, size_t bytes);

  // Frees the span at `begin`; returns its size.
  size_t give(char* begin);

  // The end of all memory, and how much in front of it is free.
  struct End {
    char* end;
    size_t free;
  };
  End end() const;

  // Forgets the pages that have been free for longest, and returns them, or nullptr.
  char* drop_pages(size_t& bytes);

 private:
  struct Span {
    size_t bytes;
    char* piece;     // begin of the piece it must not grow beyond; nullptr: any neighbour will do
    uint64_t freed;  // when; 0 while in use
  };
  using At = std::map<char*, Span>::iterator;

  void join_neighbours(At span);

  std::map<char*, Span> spans_;  // all, by address
  uint64_t clock_ = 0;
};

}  // namespace fastconv
