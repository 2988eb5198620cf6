#include "core/versions.h"

#include <cstddef>
#include <cstring>
#include <utility>

namespace fastconv {
namespace {

// Eight independent multiplicative hashes, folded into 32 bits: runs at the speed of memory.
uint32_t fingerprint(const Array& x) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;
  constexpr size_t kStreams = 8, kStep = kStreams * sizeof(uint64_t);
  const auto bytes = static_cast<size_t>(x.stored()) * size_of(x.dtype());
  const char* data = x.data<char>();
  uint64_t sums[kStreams] = {1, 2, 3, 4, 5, 6, 7, 8}, words[kStreams];
  size_t at = 0;
  for (; at + kStep <= bytes; at += kStep) {
    std::memcpy(words, data + at, kStep);
    for (size_t i = 0; i < kStreams; ++i) sums[i] = (sums[i] ^ words[i]) * kFactor;
  }
  std::memset(words, 0, kStep);
  std::memcpy(words, data + at, bytes - at);
  uint64_t all = bytes;
  for (size_t i = 0; i < kStreams; ++i) {
    const uint64_t sum = (sums[i] ^ words[i]) * kFactor;
    all = (all ^ sum ^ (sum >> 32)) * kFactor;
  }
  return static_cast<uint32_t>(all >> 32);
}

}  // namespace

uint32_t Version::now(const Array& x) {
  uint64_t state = state_.load();
  if (views_.load() == 0) return static_cast<uint32_t>(state >> 32);
  const uint32_t print = fingerprint(x);
  while (static_cast<uint32_t>(state) != print) {
    const uint64_t next = (((state >> 32) + 1) << 32) | print;
    if (state_.compare_exchange_weak(state, next)) state = next;
  }
  return static_cast<uint32_t>(state >> 32);
}

void Version::lend(const Array& x) {
  if (views_.fetch_add(1) != 0 || saved_.load() == 0) return;
  // NumPy could not write before: the fingerprint belongs to the present version.
  const uint32_t print = fingerprint(x);
  uint64_t state = state_.load();
  while (!state_.compare_exchange_weak(state, (state >> 32 << 32) | print)) {
  }
}

void Version::take_back(const Array& x) {
  if (saved_.load() > 0) now(x);
  views_.fetch_sub(1);
}

Saved::Saved(std::vector<Array> arrays) : arrays_(std::move(arrays)) {
  versions_.reserve(arrays_.size());
  for (const Array& x : arrays_) {
    Version* version = x.version();
    if (version != nullptr) version->save();
    versions_.push_back(version != nullptr ? version->now(x) : 0);
  }
}

Saved::~Saved() {
  for (const Array& x : arrays_)
    if (Version* version = x.version()) version->release();
}

int64_t Saved::changed() const {
  for (size_t i = 0; i < arrays_.size(); ++i) {
    Version* version = arrays_[i].version();
    if (version != nullptr && version->now(arrays_[i]) != versions_[i])
      return static_cast<int64_t>(i);
  }
  return -1;
}

Lent::Lent(Array x) : x_(std::move(x)) { x_.version()->lend(x_); }
Lent::~Lent() { x_.version()->take_back(x_); }

}  // namespace fastconv
