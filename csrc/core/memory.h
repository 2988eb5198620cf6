// Allocating the memory of arrays on any device.
#pragma once

#include <cstddef>
#include <memory>

#include "core/device.h"
#include "core/versions.h"

namespace fastconv {

// Uninitialised memory, at least 64-byte aligned; throws OutOfMemory. The deleter of the pointer is
// a Release. Defined in devices.cpp, which calls the device's allocator.
std::shared_ptr<void> allocate(Device device, size_t bytes);

// The deleter of a storage: calls release(object), unless release is null. Also holds the storage's
// version. Small, because the arena keeps it in its 64-byte headers.
class Release : public Version {
 public:
  Release() = default;
  Release(void (*release)(void*), void* object, bool lent = false)
      : Version(lent), owner_(new Owner{release, object}) {}
  void operator()(void*) const {
    if (owner_ == nullptr) return;
    owner_->release(owner_->object);
    delete owner_;
  }

 private:
  struct Owner {
    void (*release)(void*);
    void* object;
  };
  Owner* owner_ = nullptr;
};

}  // namespace fastconv
