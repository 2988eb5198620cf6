#include "core/spans.h"

#include <iterator>

#include "core/pages.h"

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kLeast = size_t{1} << 20;  // a rest smaller than this stays with its span

// The whole pages between begin and end.
struct Pages {
  char* begin;
  size_t bytes;
};
Pages pages_within(char* begin, size_t bytes) {
  const size_t before = (kHugePage - reinterpret_cast<size_t>(begin) % kHugePage) % kHugePage;
  if (bytes < before + kHugePage) return {begin, 0};
  return {begin + before, (bytes - before) / kHugePage * kHugePage};
}

}  // namespace

char* Spans::take(size_t bytes, size_t& taken) {
  const size_t cut = (bytes + kAlign - 1) / kAlign * kAlign;
  for (At span = spans_.begin(); span != spans_.end(); ++span) {
    Span& s = span->second;
    if (s.freed == 0 || s.bytes < cut) continue;
    if (s.bytes - cut >= kLeast) {
      spans_.emplace(span->first + cut, Span{s.bytes - cut, s.piece, s.freed});
      s.bytes = cut;
    }
    s.freed = 0;
    taken = s.bytes;
    return span->first;
  }
  return nullptr;
}

void Spans::add(char* begin, size_t bytes) {
  char* const piece = kPiecewise ? nullptr : begin;
  join_neighbours(spans_.emplace(begin, Span{bytes, piece, ++clock_}).first);
}

size_t Spans::give(char* begin) {
  const At span = spans_.find(begin);
  const size_t bytes = span->second.bytes;
  span->second.freed = ++clock_;
  join_neighbours(span);
  return bytes;
}

// Two free neighbours become the left one, as young as the younger.
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

char* Spans::drop_pages(size_t& bytes) {
  const auto pages_of = [&](At span) -> Pages {
    const Span& s = span->second;
    if (s.freed == 0) return {nullptr, 0};
    if (kPiecewise) return pages_within(span->first, s.bytes);
    const At next = std::next(span);
    const bool whole =
        span->first == s.piece && (next == spans_.end() || next->second.piece != s.piece);
    return {span->first, whole ? s.bytes : 0};
  };
  At oldest = spans_.end();
  for (At span = spans_.begin(); span != spans_.end(); ++span)
    if (pages_of(span).bytes > 0 &&
        (oldest == spans_.end() || span->second.freed < oldest->second.freed))
      oldest = span;
  if (oldest == spans_.end()) return nullptr;
  const Pages pages = pages_of(oldest);
  Span& s = oldest->second;
  const auto before = static_cast<size_t>(pages.begin - oldest->first);
  const size_t behind = s.bytes - before - pages.bytes;
  if (behind > 0) spans_.emplace(pages.begin + pages.bytes, Span{behind, s.piece, s.freed});
  if (before > 0)
    s.bytes = before;
  else
    spans_.erase(oldest);
  bytes = pages.bytes;
  return pages.begin;
}

}  // namespace fastconv
