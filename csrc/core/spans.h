// Large blocks of memory, cut from segments and joined again with their neighbours when they are
// free: what held two activations holds one gradient of a dense layer later in the same step. A
// list for each size would keep both (VGG-16, batch 16: 3.5 GB against 2.8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>

namespace fastconv {

class Spans {
 public:
  // The smallest free span of at least `bytes`, of equal ones that freed last, cut to size; nullptr
  // if there is none. `taken` is its size.
  char* take(size_t bytes, size_t& taken);

  // A segment of fresh memory, all of it one span in use.
  void add_segment(char* begin, size_t bytes);

  // Frees the span at `begin`; returns its size.
  size_t give(char* begin);

  // Forgets the segment that has been free altogether for longest, and returns it, or nullptr.
  char* drop_segment(size_t& bytes);

 private:
  using Free = std::set<std::tuple<size_t, uint64_t, char*>>;  // bytes, ~freed, begin
  struct Span {
    size_t bytes;
    char* segment;
    uint64_t freed;        // when; 0 while in use
    Free::node_type node;  // kept while in use, so that freeing needs no memory
  };
  using At = std::map<char*, Span>::iterator;

  At add(char* begin, size_t bytes, char* segment);  // in use
  void list(At span, uint64_t freed);
  void unlist(At span);

  std::map<char*, Span> spans_;  // all, by address
  Free free_;
  uint64_t clock_ = 0;
};

}  // namespace fastconv
