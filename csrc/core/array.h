// Array: shape, element type, layout, device and shared storage, without gaps.
//
//   plain   row-major, as in NumPy: (N, C, H, W)
//   lanes   [ceil(N / 16)][C][H][W][16]: lane i of every vector is sample i of its block (oneDNN
//           calls it Abcd16a). Any array whose first dimension is the batch can be in
//           lanes: (N, F) is [ceil(N / 16)][F][16]. The lanes beyond N in the last block are
//           *empty*: finite in activations, zero in gradients, so that sums over the batch may run
//           over whole vectors.
//
// Copying an Array shares its storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.h"
#include "core/shape.h"

namespace fastconv {

constexpr int64_t kLanes = 16;

class Version;  // core/versions.h

enum class DType : uint8_t { float32, int64, uint16, uint8 };
enum class Layout : uint8_t { plain, lanes };

size_t size_of(DType dtype);
const char* name_of(DType dtype);
const char* name_of(Layout layout);

class Array {
 public:
  Array() = default;  // no storage; defined() is false

  // Uninitialised storage of a device, 64-byte aligned. In lanes, empty lanes are uninitialised
  // too.
  static Array empty(const Shape& shape, DType dtype = DType::float32,
                     Layout layout = Layout::plain, Device device = {});
  // Foreign memory at `data`, plain layout, any alignment. release(object) is called when the last
  // reference goes. shared: others may write to the memory.
  static Array view(void* object, void (*release)(void*), void* data, const Shape& shape,
                    DType dtype, bool shared);

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int axis) const { return shape_[axis]; }
  int ndim() const { return shape_.ndim(); }
  DType dtype() const { return dtype_; }
  Layout layout() const { return layout_; }
  Device device() const { return device_; }
  bool in_lanes() const { return layout_ == Layout::lanes; }
  // Row-major, as PyTorch says.
  bool is_contiguous() const { return layout_ == Layout::plain; }

  // Elements in storage: numel(), or whole blocks of 16 samples in lanes.
  int64_t stored() const { return stored_; }
  // Blocks of 16 samples (lanes) or samples (plain): the outermost loop of every kernel.
  int64_t blocks() const;
  // Samples in the last block: 1..16 (lanes); 16 when N is a multiple of 16.
  int64_t lanes_in_last_block() const;

  template <class T = float>
  T* data() {
    return static_cast<T*>(data_);
  }
  template <class T = float>
  const T* data() const {
    return static_cast<const T*>(data_);
  }

  // Whether nobody else sees the storage. An operation that takes such an array by value may write
  // its result there.
  bool sole_owner() const { return owner_.use_count() == 1; }

  // Operations that write into an array call this afterwards; it raises the version.
  void written() const;
  Version* version() const;  // of the storage; null when there is none

  // The same storage under another shape. In lanes the first dimension must stay.
  Array reshape(const Shape& shape) const;
  bool can_share(const Shape& shape) const;  // whether the layout allows that
  // In lanes: the samples of one block as an array of their own, sharing storage.
  Array block(int64_t index) const;
  // Positions first .. first + count - 1 of the outermost axis in storage, which they share: the
  // first axis of a plain array, the second of one block in lanes.
  Array slice(int64_t first, int64_t count) const;

 private:
  Shape shape_;
  DType dtype_ = DType::float32;
  Layout layout_ = Layout::plain;
  Device device_;
  int64_t stored_ = 0;
  std::shared_ptr<void> owner_;
  void* data_ = nullptr;
};

}  // namespace fastconv
