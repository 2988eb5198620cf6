#include "cpu/layout.h"

#include <algorithm>
#include <stdexcept>

#include "core/errors.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// Floats a task should move: some microseconds of work, many times what handing it out costs.
constexpr int64_t kTaskFloats = 16384;

// body(block, f0, f1) for chunks of features that cover [0, features) of every block: several small
// blocks in a task, or several tasks for a large block.
template <class Body>
void for_feature_chunks(int64_t blocks, int64_t features, const Body& body) {
  if (blocks == 0 || features == 0) return;
  const int64_t chunk = kTaskFloats / kLanes, chunks = ceil_div(features, chunk);
  const int64_t task_blocks = std::max<int64_t>(1, chunk / features);
  parallel_for(ceil_div(blocks, task_blocks) * chunks, [&](int64_t task) {
    const int64_t first = task / chunks * task_blocks, f0 = task % chunks * chunk;
    const int64_t end = std::min(blocks, first + task_blocks), f1 = std::min(features, f0 + chunk);
    for (int64_t block = first; block < end; ++block) body(block, f0, f1);
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
  for_feature_chunks(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    kernel(to + (block * features + f0) * kLanes, from + block * kLanes * features + f0, f1 - f0,
           features, samples_in(y, block));
  });
}

template <class T, class Kernel>
void fill_plain(Array& x, const Array& y, const Kernel& kernel) {
  const int64_t features = x.shape().numel_from(1);
  T* to = x.data<T>();
  const T* from = y.data<T>();
  for_feature_chunks(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    kernel(to + block * kLanes * features + f0, features, from + (block * features + f0) * kLanes,
           kLanes, f1 - f0, samples_in(y, block));
  });
}

// Features that have one scale and shift.
int64_t features_alike(const HostSamples& samples) {
  return samples.shape.numel_from(samples.scale.size() == 1 ? 1 : 2);
}

// Samples of type T, by the kernel for blocks of them.
template <class T, class Kernel>
void gather_lanes(Array& y, const T* x, const Kernel& kernel, const int64_t* indices,
                  const HostSamples& samples) {
  const int64_t features = y.shape().numel_from(1), alike = features_alike(samples);
  for_feature_chunks(y.blocks(), features, [&](int64_t block, int64_t f0, int64_t f1) {
    const int count = samples_in(y, block);
    const T* rows[kLanes];
    for (int64_t f = f0, end; f < f1; f = end) {
      const int64_t c = f / alike;
      end = std::min(f1, (c + 1) * alike);
      for (int i = 0; i < count; ++i) rows[i] = x + indices[block * kLanes + i] * features + f;
      kernel(y.data() + (block * features + f) * kLanes, rows, end - f, count,
             samples.scale[static_cast<size_t>(c)], samples.shift[static_cast<size_t>(c)]);
    }
  });
}

// A small batch: what NumPy makes of it, rounding after the product and after the sum, subnormal
// numbers included (tasks of the thread pool take them for zero).
template <class T>
void gather_rows(Array& y, const T* x, const int64_t* indices, const HostSamples& samples) {
  const int64_t features = y.shape().numel_from(1), alike = features_alike(samples);
  const auto all = [](const std::vector<float>& values, float value) {
    return std::all_of(values.begin(), values.end(), [=](float v) { return v == value; });
  };
  const bool as_they_are = all(samples.scale, 1.0f) && all(samples.shift, 0.0f);
  float* to = y.data();
  for (int64_t n = 0; n < y.dim(0); ++n, to += features) {
    const T* from = x + indices[n] * features;
    if (as_they_are) {
      std::copy_n(from, features, to);
      continue;
    }
    for (int64_t f = 0, c = 0; f < features; ++c) {
      const float scale = samples.scale[static_cast<size_t>(c)];
      const float shift = samples.shift[static_cast<size_t>(c)];
      for (const int64_t end = f + alike; f < end; ++f)
        to[f] = static_cast<float>(from[f]) * scale + shift;
    }
  }
}

}  // namespace

Layout batch_layout(const Shape& x, Use use) {
  // A whole block of samples runs in lanes. With a gradient, a block of which so many are empty is
  // still as quick; of small images, which only the first layer sees, more of it may be empty.
  constexpr int64_t kSmallImage = 1 * 32 * 32, kSmallImageSamples = 8, kGradientSamples = 12;
  int64_t least = kLanes;
  if (use.gradient)
    least = use.leaf && x.numel_from(1) <= kSmallImage ? kSmallImageSamples : kGradientSamples;
  return x[0] >= least ? Layout::lanes : Layout::plain;
}

Array in_batch_layout(const Array& x, Use use) {
  return batch_layout(x.shape(), use) == Layout::lanes ? to_lanes(x) : x;
}

Array to_lanes(const Array& x) {
  if (x.in_lanes()) return x;
  Array y = Array::empty(x.shape(), x.dtype(), Layout::lanes);
  switch (x.dtype()) {
    case DType::float32: fill_lanes<float>(y, x, kernels().to_lanes); break;
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
    case DType::float32: fill_plain<float>(x, y, kernels().to_plain); break;
    case DType::int64: fill_plain<int64_t>(x, y, rows_from_lanes<int64_t>); break;
    case DType::uint16: fill_plain<uint16_t>(x, y, rows_from_lanes<uint16_t>); break;
    case DType::uint8: fill_plain<uint8_t>(x, y, rows_from_lanes<uint8_t>); break;
  }
  return x;
}

Array as_layout(const Array& x, Layout layout) {
  return layout == Layout::lanes ? to_lanes(x) : to_plain(x);
}

Array contiguous(const Array& x) { return to_plain(x); }

Array gather_batch(Device device, const HostSamples& samples, const int64_t* indices, int64_t n,
                   Use use) {
  Shape shape = samples.shape;
  shape[0] = n;
  const Layout layout = batch_layout(shape, use);
  Array y = Array::empty(shape, DType::float32, layout, device);
  const bool bytes = samples.dtype == DType::uint8;
  if (layout == Layout::plain) {
    if (bytes)
      gather_rows(y, static_cast<const uint8_t*>(samples.data), indices, samples);
    else
      gather_rows(y, static_cast<const float*>(samples.data), indices, samples);
  } else if (bytes) {
    gather_lanes(y, static_cast<const uint8_t*>(samples.data), kernels().bytes_to_lanes, indices,
                 samples);
  } else {
    gather_lanes(y, static_cast<const float*>(samples.data), kernels().floats_to_lanes, indices,
                 samples);
  }
  return y;
}

void transpose_matrices(float* transposed, int64_t row, const float* w, int64_t groups, int64_t K,
                        int64_t C) {
  const int64_t sixteens = ceil_div(C, kLanes);
  for_chunks(groups * sixteens, kLanes * K, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / sixteens, c = i % sixteens * kLanes;
      float* to = transposed + (group * C + c) * row;
      const float* from = w + group * K * C + c;
      if (c + kLanes <= C) {  // the kernel reads sixteen columns, no fewer
        kernels().to_plain(to, row, from, C, K, kLanes);
        continue;
      }
      for (int64_t k = 0; k < K; ++k)
        for (int64_t j = 0; j < C - c; ++j) to[j * row + k] = from[k * C + j];
    }
  });
}

}  // namespace fastconv::cpu
