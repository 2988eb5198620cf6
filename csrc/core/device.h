// The device that an array's memory is on and its operations run on.
#pragma once

#include <cstdint>
#include <string>

namespace fastconv {

struct Device {
  enum class Kind : uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int8_t index = 0;  // of several of one kind

  bool operator==(const Device& other) const { return kind == other.kind && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

std::string name_of(Device device);  // "cpu", "cuda:0"

}  // namespace fastconv
