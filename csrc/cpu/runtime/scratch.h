// Memory for the length of a scope: Scratch<float> pad(n); pad.data()
//
// Each thread has a stack of scratch memory in one slab, which an operation's first scope takes
// from the arena and its last returns. The next operation gets the same slab, whatever their sizes,
// and so finds its scratch in the caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fastconv {

class ScratchBytes {
 public:
  explicit ScratchBytes(size_t bytes);  // OutOfMemory when it cannot be had
  ~ScratchBytes();
  ScratchBytes(const ScratchBytes&) = delete;
  ScratchBytes& operator=(const ScratchBytes&) = delete;

 protected:
  void* begin_;  // 64-byte aligned

 private:
  std::shared_ptr<void> own_;  // a block of its own, when the slab is full
  size_t height_ = 0;          // bytes of the stack below
};

// Uninitialised. Scopes of one thread end in the reverse order of their beginnings.
template <class T>
class Scratch : public ScratchBytes {
 public:
  explicit Scratch(int64_t n) : ScratchBytes(static_cast<size_t>(n) * sizeof(T)) {}
  T* data() const { return static_cast<T*>(begin_); }
};

}  // namespace fastconv
