#include "core/spans.h"

#include <iterator>

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kLeast = size_t{1} << 20;  // a rest smaller than this stays with its span

}  // namespace

Spans::At Spans::add(char* begin, size_t bytes, char* segment) {
  const At span = spans_.emplace(begin, Span{bytes, segment, 0, {}}).first;
  span->second.node = free_.extract(free_.emplace(0, 0, begin).first);
  return span;
}

void Spans::list(At span, uint64_t freed) {
  Span& s = span->second;
  s.freed = freed;
  s.node.value() = {s.bytes, ~freed, span->first};
  free_.insert(std::move(s.node));
}

void Spans::unlist(At span) {
  Span& s = span->second;
  s.node = free_.extract({s.bytes, ~s.freed, span->first});
  s.freed = 0;
}

char* Spans::take(size_t bytes, size_t& taken) {
  const size_t cut = (bytes + kAlign - 1) / kAlign * kAlign;
  const auto fit = free_.lower_bound({cut, 0, nullptr});
  if (fit == free_.end()) return nullptr;
  const At span = spans_.find(std::get<char*>(*fit));
  const size_t rest = span->second.bytes - cut;
  const uint64_t freed = span->second.freed;
  const bool in_two = rest >= kLeast;
  const At right = in_two ? add(span->first + cut, rest, span->second.segment) : spans_.end();
  unlist(span);
  if (in_two) {
    span->second.bytes = cut;
    list(right, freed);
  }
  taken = span->second.bytes;
  return span->first;
}

void Spans::add_segment(char* begin, size_t bytes) { add(begin, bytes, begin); }

size_t Spans::give(char* begin) {
  At span = spans_.find(begin);
  const size_t bytes = span->second.bytes;
  // Two free neighbours become the left one.
  const auto join = [&](At left, At right) {
    left->second.bytes += right->second.bytes;
    spans_.erase(right);
    return left;
  };
  const auto joins = [&](At other) {
    return other->second.freed != 0 && other->second.segment == span->second.segment;
  };
  const At next = std::next(span);
  if (next != spans_.end() && joins(next)) {
    unlist(next);
    join(span, next);
  }
  if (span != spans_.begin() && joins(std::prev(span))) {
    const At left = std::prev(span);
    unlist(left);
    span = join(left, span);
  }
  list(span, ++clock_);
  return bytes;
}

char* Spans::drop_segment(size_t& bytes) {
  At oldest = spans_.end();
  for (At span = spans_.begin(); span != spans_.end(); ++span) {
    const At next = std::next(span);
    const bool whole = span->first == span->second.segment &&
                       (next == spans_.end() || next->second.segment != span->second.segment);
    if (whole && span->second.freed != 0 &&
        (oldest == spans_.end() || span->second.freed < oldest->second.freed))
      oldest = span;
  }
  if (oldest == spans_.end()) return nullptr;
  char* const begin = oldest->first;
  bytes = oldest->second.bytes;
  unlist(oldest);
  spans_.erase(oldest);
  return begin;
}

}  // namespace fastconv
