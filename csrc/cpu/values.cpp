#include "cpu/values.h"

#include <algorithm>
#include <cstring>

namespace fastconv::cpu {
namespace {

size_t bytes_of(const Array& x) { return static_cast<size_t>(x.stored()) * size_of(x.dtype()); }

}  // namespace

Array full(Device device, const Shape& shape, float value) {
  Array x = Array::empty(shape, DType::float32, Layout::plain, device);
  std::fill_n(x.data(), x.stored(), value);
  return x;
}

Array zeros_like(const Array& x) {
  Array y = Array::empty(x.shape(), x.dtype(), x.layout(), x.device());
  std::memset(y.data<void>(), 0, bytes_of(y));
  return y;
}

Array copy(const Array& x) {
  Array y = Array::empty(x.shape(), x.dtype(), x.layout(), x.device());
  if (x.stored() > 0) std::memcpy(y.data<void>(), x.data<void>(), bytes_of(x));
  return y;
}

}  // namespace fastconv::cpu
