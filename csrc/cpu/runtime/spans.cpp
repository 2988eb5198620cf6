#include "cpu/runtime/spans.h"

#include <iterator>

#include "cpu/runtime/pages.h"

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kLeast = size_t{1} << 20;  // smaller remainders are not split off

}  // namespace

char* Spans::take(size_t bytes, size_t& taken) {
  const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
  At smallest = spans_.end();
  for (At span = spans_.begin(); span != spans_.end(); ++span) {
    const Span& s = span->second;
    if (s.freed == 0 || s.bytes < size) continue;
    if (smallest == spans_.end() || s.bytes < smallest->second.bytes) smallest = span;
  }
  if (smallest == spans_.end()) return nullptr;
  Span& s = smallest->second;
  if (s.bytes - size >= kLeast) {
    spans_.emplace(smallest->first + size, Span{s.bytes - size, s.piece, s.freed});
    s.bytes = size;
  }
  s.freed = 0;
  taken = s.bytes;
  return smallest->first;
}

void Spans::add(char* begin, size_t bytes, uint64_t now) {
  char* const piece = kPiecewise ? nullptr : begin;
  join_neighbours(spans_.emplace(begin, Span{bytes, piece, now}).first);
}

void Spans::give(char* begin, uint64_t now) {
  const At span = spans_.find(begin);
  span->second.freed = now;
  join_neighbours(span);
}

// Merges free neighbours into the left one; the time of the younger counts.
void Spans::join_neighbours(At span) {
  const auto joins = [](At left, At right) {
    return left->second.freed != 0 && right->second.freed != 0 &&
           left->second.piece == right->second.piece &&
           left->first + left->second.bytes == right->first;
  };
  const auto join = [&](At left, At right) {
    left->second.bytes += right->second.bytes;
    if (right->second.freed > left->second.freed) left->second.freed = right->second.freed;
    spans_.erase(right);
  };
  const At next = std::next(span);
  if (next != spans_.end() && joins(span, next)) join(span, next);
  if (span != spans_.begin() && joins(std::prev(span), span)) join(std::prev(span), span);
}

Spans::End Spans::end() const {
  if (spans_.empty()) return {nullptr, 0};
  const auto& [begin, last] = *spans_.rbegin();
  return {begin + last.bytes, kPiecewise && last.freed != 0 ? last.bytes : 0};
}

// The whole pages of a free span or, where they cannot be unmapped piecewise, a whole mapping.
Spans::Idle Spans::idle_pages(ConstAt span) const {
  const Span& s = span->second;
  if (s.freed == 0) return {nullptr, 0, 0};
  if (kPiecewise) {
    const size_t to_page =
        (kHugePage - reinterpret_cast<size_t>(span->first) % kHugePage) % kHugePage;
    if (s.bytes < to_page + kHugePage) return {nullptr, 0, 0};
    return {span->first + to_page, (s.bytes - to_page) / kHugePage * kHugePage, s.freed};
  }
  const ConstAt next = std::next(span);
  const bool whole =
      span->first == s.piece && (next == spans_.end() || next->second.piece != s.piece);
  return {span->first, whole ? s.bytes : 0, s.freed};
}

Spans::Idle Spans::longest_idle() const {
  Idle longest{nullptr, 0, 0};
  for (ConstAt span = spans_.begin(); span != spans_.end(); ++span) {
    const Idle pages = idle_pages(span);
    if (pages.bytes > 0 && (longest.bytes == 0 || pages.since < longest.since)) longest = pages;
  }
  return longest;
}

void Spans::drop(char* pages, size_t bytes) {
  const At span = std::prev(spans_.upper_bound(pages));
  Span& s = span->second;
  const auto before = static_cast<size_t>(pages - span->first);
  const size_t after = s.bytes - before - bytes;
  if (after > 0) spans_.emplace(pages + bytes, Span{after, s.piece, s.freed});
  if (before > 0)
    s.bytes = before;
  else
    spans_.erase(span);
}

}  // namespace fastconv
