// run("conv2d", &Operations::conv2d, x, w, ...): an entry of the table of its arrays' device.
//
// The one door between ops/ and the devices. What passes it can be recorded; arrays of two devices
// cannot pass; a device without the entry says so.
#pragma once

#include <optional>
#include <utility>

#include "contract/operations.h"
#include "core/errors.h"
#include "program/recorded.h"

namespace fastconv::program {

// The device of several arguments, of which arrays and a Device count.
class CommonDevice {
 public:
  explicit CommonDevice(const char* name) : name_(name) {}

  template <class T>
  void add(const T&) {}
  void add(Device device) {
    if (found_ && device_ != device)
      throw std::invalid_argument(message("[", name_, "] arrays are on ", name_of(device_), " and ",
                                          name_of(device), ": move one with to()"));
    device_ = device, found_ = true;
  }
  void add(const Array& x) {
    if (x.defined()) add(x.device());
  }
  void add(const Arrays& arrays) {
    for (const Array& x : arrays) add(x);
  }
  void add(const std::vector<const OptimStep*>& steps) {
    for (const OptimStep* step : steps) add(step->device());
  }
  void add(const PostOps& post) {
    add(post.add);
    if (!post.normalise) return;
    for (const Array* x : {&post.normalise->weight, &post.normalise->bias, &post.normalise->mean,
                           &post.normalise->var})
      add(*x);
  }

  Device device() const { return device_; }

 private:
  const char* name_;
  Device device_;
  bool found_ = false;
};

template <class R, class... Parameters, class... Args>
R run(const char* name, R (*Operations::*entry)(Parameters...), Args&&... args) {
  CommonDevice common(name);
  (common.add(args), ...);
  const auto function = operations(common.device()).*entry;
  if (function == nullptr)
    throw std::runtime_error(message("[", name, "] has no kernel on ", name_of(common.device())));
  return recorded(name, function)(std::forward<Args>(args)...);
}

}  // namespace fastconv::program
