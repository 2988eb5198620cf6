#include "cpu/runtime/scratch.h"

#include "cpu/runtime/arena.h"

namespace fastconv {
namespace {

constexpr size_t kAlign = 64;
// Whole huge pages, with the arena's header; the largest block that it keeps in a list.
constexpr size_t kSlab = (size_t{4} << 20) - kAlign;

struct Pile {
  std::shared_ptr<void> slab;
  size_t height = 0;
};
thread_local Pile pile;

}  // namespace

ScratchBytes::ScratchBytes(size_t bytes) : height_(pile.height) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr size_t kRoom = 0;  // in blocks of their own, whose ends are guarded
#else
  constexpr size_t kRoom = kSlab;
#endif
  if (kRoom == 0 || bytes > kRoom - height_) {
    own_ = arena_allocate(bytes);
    begin_ = own_.get();
    return;
  }
  if (!pile.slab) pile.slab = arena_allocate(kSlab);
  begin_ = static_cast<char*>(pile.slab.get()) + height_;
  pile.height += (bytes + kAlign - 1) / kAlign * kAlign;
}

ScratchBytes::~ScratchBytes() {
  if (own_) return;
  pile.height = height_;
  if (height_ == 0) pile.slab.reset();
}

}  // namespace fastconv
