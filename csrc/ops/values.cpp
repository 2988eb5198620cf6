#include "ops/values.h"

#include "program/run.h"

namespace fastconv {
namespace {

Array same_storage(const Array& x, const Shape& shape) { return x.reshape(shape); }

}  // namespace

Array full(const Shape& shape, float value, Device device) {
  return program::run("full", &Operations::full, device, shape, value);
}

Array zeros(const Shape& shape, Device device) {
  return program::run("zeros", &Operations::full, device, shape, 0.0f);
}

Array zeros_like(const Array& x) { return program::run("zeros_like", &Operations::zeros_like, x); }

Array copy(const Array& x) { return program::run("copy", &Operations::copy, x); }

Array contiguous(const Array& x) {
  return x.is_contiguous() ? x : program::run("contiguous", &Operations::contiguous, x);
}

Array reshape(const Array& x, const Shape& shape) {
  return program::recorded("reshape", &same_storage)(x.can_share(shape) ? x : contiguous(x), shape);
}

Array gather_batch(const HostSamples& samples, const int64_t* indices, int64_t n, Use use,
                   Device device) {
  const char* const op = "gather_batch";
  const Shape& shape = samples.shape;
  const auto channels = static_cast<int64_t>(samples.scale.size());
  if (samples.dtype != DType::uint8 && samples.dtype != DType::float32)
    throw DTypeError(message("[", op, "] expected uint8 or float32, got ", name_of(samples.dtype)));
  if (shape.ndim() < 1)
    throw ShapeError(message("[", op, "] expected (count, ...), got a shape of ()"));
  if (channels != 1 && (shape.ndim() < 2 || channels != shape[1]))
    throw ShapeError(message("[", op, "] ", channels, " values of scale or shift, expected 1",
                             " or one for each channel of x ", shape));
  for (int64_t i = 0; i < n; ++i)
    if (indices[i] < 0 || indices[i] >= shape[0])
      throw std::out_of_range(message("[", op, "] indices[", i, "] is ", indices[i],
                                      ", expected 0 to ", shape[0] - 1, " for shape ", shape));
  return program::run(op, &Operations::gather_batch, device, samples, indices, n, use);
}

}  // namespace fastconv
