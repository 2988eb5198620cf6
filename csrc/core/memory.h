// Memory of arrays, whichever device it is on.
#pragma once

#include <cstddef>
#include <memory>

#include "core/device.h"
#include "core/versions.h"

namespace fastconv {

// At least 64-byte aligned and uninitialised; OutOfMemory when it cannot be had. The deleter of the
// pointer is a Release. Defined in devices.cpp, which asks the device's allocator.
std::shared_ptr<void> allocate(Device device, size_t bytes);

// Calls release(object) when the last reference to a storage goes, unless release is null. The
// version of the storage lives beside it. One pointer large: the arena keeps it in its headers.
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
