#include "cpu/runtime/scratch.h"

#include "cpu/runtime/arena.h"

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
// With the arena's header two huge pages: its largest size class.
constexpr size_t kSlab = (size_t{4} << 20) - kAlign;

struct Stack {
  std::shared_ptr<void> slab;
  size_t height = 0;
};
thread_local Stack stack;

}  // namespace

ScratchBytes::ScratchBytes(size_t bytes) : height_(stack.height) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr size_t kRoom = 0;  // blocks of their own, whose ends the sanitizer guards
#else
  constexpr size_t kRoom = kSlab;
#endif
  if (kRoom == 0 || bytes > kRoom - height_) {
    own_ = arena_allocate(bytes);
    begin_ = own_.get();
    return;
  }
  if (!stack.slab) stack.slab = arena_allocate(kSlab);
  begin_ = static_cast<char*>(stack.slab.get()) + height_;
  stack.height += (bytes + kAlign - 1) / kAlign * kAlign;
}

ScratchBytes::~ScratchBytes() {
  if (own_) return;
  stack.height = height_;
  if (height_ == 0) stack.slab.reset();
}

}  // namespace fastconv
