#include "core/device.h"

namespace fastconv {

std::string name_of(Device device) {
  return device.kind == Device::Kind::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace fastconv
