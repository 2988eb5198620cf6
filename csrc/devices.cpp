// The only file that knows every device: memory and operations by device.
#include <stdexcept>

#include "contract/operations.h"
#include "core/errors.h"
#include "core/memory.h"
#include "cpu/runtime/arena.h"
#include "cpu/table.h"

namespace fastconv {

std::shared_ptr<void> allocate(Device device, size_t bytes) {
  if (device.kind == Device::Kind::cpu) return arena_allocate(bytes);
  throw std::runtime_error(message("[memory] this build has no ", name_of(device)));
}

const Operations& operations(Device device) {
  if (device.kind == Device::Kind::cpu) return cpu::operations();
  throw std::runtime_error(message("[device] this build has no ", name_of(device)));
}

}  // namespace fastconv
