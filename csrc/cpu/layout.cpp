#include "cpu/layout.h"

#include <algorithm>
#include <stdexcept>

#include "core/errors.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {
namespace {

// Floats a task should move: some microseconds of work, many times what handing it out costs.
constexpr int64_t kTaskFloats = 16384;

// Runs part(block, f0, f1) so that every block's features [0, features) are covered: several small
// blocks a task, or several tasks a large block.
template <class Part>
void for_parts(int64_t blocks, int64_t features, const Part& part) {
  if (blocks == 0 || features == 0) return;
  const int64_t step = kTaskFloats / kLanes;
  const int64_t pieces = (features + step - 1) / step;
  const int64_t together = std::max<int64_t>(1, step / features);
  const int64_t groups = (blocks + together - 1) / together;
  parallel_for(groups * pieces, [&](int64_t task) {
    const int64_t first = task / pieces * together, f0 = task % pieces * step;
    const int64_t end = std::min(blocks, first + together), f1 = std::min(features, f0 + step);
    for (int64_t block = first; block < end; ++block) part(block, f0, f1);
  });
}

int samples_in(const Array& lanes, int64_t block) {
  return static_cast<int>(block + 1 < lanes.blocks() ? kLanes : lanes.lanes_in_last_block());
}

// Other types than float32 (indices, labels) are rare and small: the formula will do.
template <class T>
void lanes_from_rows(T* y, const T* x, int64_t features, int64_t stride, int samples) {
  for (int64_t f = 0; f < features; ++f)
    for (int i = 0; i < kLanes; ++i) y[f * kLanes + i] = i < samples ? x[i * stride + f] : T{0};
}

template <class T>
void rows_from_lanes(T* x, int64_t x_i, const T* y, int64_t y_f, int64_t features, int samples) {
  for (int64_t f = 0; f < features; ++f)
    for (int i = 0; i < samples; ++i) x[i * x_i + f] = y[f * y_f + i];
}

template <class T, class Kernel>
void fill_lanes(Array& y, const Array& x, const Kernel& kernel) {
  const int64_t features = x.shape().numel_from(1);
  T* to = y.data<T>();
  const T* from = x.data<T>();
  for_parts(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    kernel(to + (block * features + f0) * kLanes, from + block * kLanes * features + f0, f1 - f0,
           features, samples_in(y, block));
  });
}

template <class T, class Kernel>
void fill_plain(Array& x, const Array& y, const Kernel& kernel) {
  const int64_t features = x.shape().numel_from(1);
  T* to = x.data<T>();
  const T* from = y.data<T>();
  for_parts(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    kernel(to + block * kLanes * features + f0, features, from + (block * features + f0) * kLanes,
           kLanes, f1 - f0, samples_in(y, block));
  });
}

}  // namespace

Array to_lanes(const Array& x) {
  if (x.in_lanes()) return x;
  Array y = Array::empty(x.shape(), x.dtype(), Layout::lanes);
  switch (x.dtype()) {
    case DType::float32: fill_lanes<float>(y, x, cpu::kernels().to_lanes); break;
    case DType::int64: fill_lanes<int64_t>(y, x, lanes_from_rows<int64_t>); break;
    case DType::uint16: fill_lanes<uint16_t>(y, x, lanes_from_rows<uint16_t>); break;
    case DType::uint8: fill_lanes<uint8_t>(y, x, lanes_from_rows<uint8_t>); break;
  }
  return y;
}

Array to_plain(const Array& y) {
  if (!y.in_lanes()) return y;
  Array x = Array::empty(y.shape(), y.dtype());
  switch (y.dtype()) {
    case DType::float32: fill_plain<float>(x, y, cpu::kernels().to_plain); break;
    case DType::int64: fill_plain<int64_t>(x, y, rows_from_lanes<int64_t>); break;
    case DType::uint16: fill_plain<uint16_t>(x, y, rows_from_lanes<uint16_t>); break;
    case DType::uint8: fill_plain<uint8_t>(x, y, rows_from_lanes<uint8_t>); break;
  }
  return x;
}

Array as_layout(const Array& x, Layout layout) {
  return layout == Layout::lanes ? to_lanes(x) : to_plain(x);
}

Array gather_lanes(const void* x, DType dtype, const Shape& shape, const int64_t* indices,
                   int64_t n, const float* scale, const float* shift, int64_t channels) {
  if (dtype != DType::uint8 && dtype != DType::float32)
    throw DTypeError(message("[gather_lanes] expected uint8 or float32, got ", name_of(dtype)));
  if (shape.ndim() < 1) throw ShapeError("[gather_lanes] expected (count, ...), got a shape of ()");
  if (channels != 1 && (shape.ndim() < 2 || channels != shape[1]))
    throw ShapeError(message("[gather_lanes] ", channels, " values of scale or shift, expected 1",
                             " or one for each channel of x ", shape));
  for (int64_t i = 0; i < n; ++i)
    if (indices[i] < 0 || indices[i] >= shape[0])
      throw std::out_of_range(message("[gather_lanes] indices[", i, "] is ", indices[i],
                                      ", expected 0 to ", shape[0] - 1, " for shape ", shape));
  Shape to = shape;
  to[0] = n;
  Array y = Array::empty(to, DType::float32, Layout::lanes);
  const int64_t features = shape.numel_from(1);
  const int64_t inner = channels == 1 ? features : shape.numel_from(2);
  const cpu::Kernels& kernels = cpu::kernels();
  // Pointers to the samples of a block, from feature f0 on, handed to the kernel of their type.
  const auto gather = [&](auto* from, auto kernel, int64_t block, int64_t f0, int64_t f1) {
    const int samples = samples_in(y, block);
    decltype(from) rows[kLanes];
    for (int64_t f = f0, end; f < f1; f = end) {
      const int64_t c = f / inner;
      end = std::min(f1, (c + 1) * inner);
      for (int i = 0; i < samples; ++i) rows[i] = from + indices[block * kLanes + i] * features + f;
      kernel(y.data() + (block * features + f) * kLanes, rows, end - f, samples, scale[c],
             shift[c]);
    }
  };
  for_parts(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    if (dtype == DType::uint8)
      gather(static_cast<const uint8_t*>(x), kernels.bytes_to_lanes, block, f0, f1);
    else
      gather(static_cast<const float*>(x), kernels.floats_to_lanes, block, f0, f1);
  });
  return y;
}

void transpose_matrices(float* turned, int64_t row, const float* w, int64_t groups, int64_t K,
                        int64_t C) {
  const int64_t sixteens = ceil_div(C, kLanes);
  for_shares(groups * sixteens, kLanes * K, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / sixteens, c = i % sixteens * kLanes;
      float* to = turned + (group * C + c) * row;
      const float* from = w + group * K * C + c;
      if (c + kLanes <= C) {  // the kernel reads sixteen columns, no fewer
        cpu::kernels().to_plain(to, row, from, C, K, kLanes);
        continue;
      }
      for (int64_t k = 0; k < K; ++k)
        for (int64_t j = 0; j < C - c; ++j) to[j * row + k] = from[k * C + j];
    }
  });
}

}  // namespace fastconv
