#include "core/array.h"

#include <algorithm>
#include <utility>

#include "core/memory.h"

namespace fastconv {
namespace {

// Elements that `shape` needs in storage; SizeError when they, or their bytes, do not fit.
int64_t stored_elements(const Shape& shape, DType dtype, Layout layout) {
  int64_t n = shape.numel();
  if (layout == Layout::lanes) {
    if (shape.ndim() < 1)
      throw ShapeError("[array] lanes need a batch dimension: shape () has none");
    const int64_t blocks = shape[0] / kLanes + (shape[0] % kLanes != 0);
    if (n > 0)
      n = checked_mul(checked_mul(blocks, kLanes, "[array] samples in lane blocks"),
                      shape.numel_from(1), "[array] elements in lane blocks");
  }
  checked_mul(n, static_cast<int64_t>(size_of(dtype)), "[array] bytes");
  return n;
}

}  // namespace

size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return 4;
    case DType::int64: return 8;
    case DType::uint16: return 2;
    case DType::uint8: return 1;
  }
  return 0;
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::int64: return "int64";
    case DType::uint16: return "uint16";
    case DType::uint8: return "uint8";
  }
  return "";
}

const char* name_of(Layout layout) { return layout == Layout::lanes ? "lanes" : "plain"; }

Array Array::empty(const Shape& shape, DType dtype, Layout layout, Device device) {
  Array a;
  a.shape_ = shape;
  a.dtype_ = dtype;
  a.layout_ = layout;
  a.stored_ = stored_elements(shape, dtype, layout);
  a.device_ = device;
  a.owner_ = allocate(device, static_cast<size_t>(a.stored_) * size_of(dtype));
  a.data_ = a.owner_.get();
  return a;
}

Array Array::view(void* object, void (*release)(void*), void* data, const Shape& shape, DType dtype,
                  bool shared) {
  Array a;
  a.shape_ = shape;
  a.dtype_ = dtype;
  a.stored_ = stored_elements(shape, dtype, Layout::plain);
  a.owner_ = std::shared_ptr<void>(data, Release(release, object, shared));
  a.data_ = data;
  return a;
}

Version* Array::version() const { return std::get_deleter<Release>(owner_); }

void Array::written() const {
  if (Version* v = version()) v->raise();
}

int64_t Array::blocks() const {
  const int64_t n = ndim() > 0 ? dim(0) : 1;
  return in_lanes() ? n / kLanes + (n % kLanes != 0) : n;
}

int64_t Array::lanes_in_last_block() const {
  const int64_t rest = in_lanes() ? dim(0) % kLanes : 0;
  return rest == 0 ? kLanes : rest;
}

bool Array::can_share(const Shape& shape) const {
  return !in_lanes() || (shape.ndim() > 0 && shape[0] == dim(0));
}

Array Array::reshape(const Shape& shape) const {
  if (!can_share(shape))
    throw ShapeError(message("[reshape] the first dimension of an array in lanes must stay ",
                             dim(0), ": ", shape_, " to ", shape,
                             "; convert with contiguous() first"));
  if (shape.numel() != shape_.numel())
    throw ShapeError(message("[reshape] ", shape_, " has ", shape_.numel(), " elements, ", shape,
                             " has ", shape.numel()));
  Array a = *this;
  a.shape_ = shape;
  return a;
}

Array Array::block(int64_t index) const {
  Array a = *this;
  a.shape_[0] = index + 1 < blocks() ? kLanes : lanes_in_last_block();
  a.stored_ = stored_ / blocks();
  a.data_ = static_cast<char*>(data_) + index * a.stored_ * static_cast<int64_t>(size_of(dtype_));
  return a;
}

Array Array::slice(int64_t first, int64_t count) const {
  const int axis = in_lanes() ? 1 : 0;
  const int64_t each = stored_ / dim(axis);
  Array a = *this;
  a.shape_[axis] = count;
  a.stored_ = count * each;
  a.data_ = static_cast<char*>(data_) + first * each * static_cast<int64_t>(size_of(dtype_));
  return a;
}

}  // namespace fastconv
