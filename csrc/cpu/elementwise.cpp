#include "cpu/elementwise.h"

#include <cmath>
#include <cstring>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

// Whether finite values, such as those of empty lanes, may become others.
bool may_leave_the_reals(Unary f, float p, float q) {
  switch (f) {
    case Unary::exp:
    case Unary::log:
    case Unary::sqrt:
    case Unary::divide: return true;
    case Unary::scale_shift: return !(std::abs(p) <= 1.0f) || q != 0.0f;
    default: return false;
  }
}

// Steele, Lea and Flood's SplitMix64: neighbouring seeds give unrelated keys.
uint64_t split_mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

Array unary(Unary f, const Array& x, float p, float q) {
  // Kernels take subnormal numbers for zero. Both sides times a power of two is the same quotient.
  if (f == Unary::divide && std::fpclassify(p) == FP_SUBNORMAL) {
    constexpr float kUp = 1 << 24;
    return unary(f, unary(Unary::scale_shift, x, kUp, -0.0f), p * kUp, q);
  }
  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  const bool streaming = streams(y);
  parallel_ranges(x.stored(), kGrain, [&](int64_t begin, int64_t end) {
    kernels().unary(f, y.data() + begin, x.data() + begin, end - begin, p, q, streaming);
  });
  if (may_leave_the_reals(f, p, q)) clear_empty_lanes(y);
  return y;
}

Array binary(Binary f, Array a, const Array& b_any, float p) {
  const Array b = as_layout(b_any, a.layout());
  Array y = a.sole_owner() ? a : Array::empty(a.shape(), DType::float32, a.layout());
  const bool streaming = streams(y);
  parallel_ranges(a.stored(), kGrain, [&](int64_t begin, int64_t end) {
    kernels().binary(f, y.data() + begin, a.data() + begin, b.data() + begin, end - begin, p,
                     streaming);
  });
  if (f == Binary::div) clear_empty_lanes(y);
  return y;
}

void add_into(Array& a, const Array& b_any) {
  const Array b = as_layout(b_any, a.layout());
  parallel_ranges(a.stored(), kGrain, [&](int64_t begin, int64_t end) {
    float* to = a.data() + begin;
    kernels().binary(Binary::add, to, to, b.data() + begin, end - begin, 0.0f, false);
  });
  a.written();
}

void assign(Array& a, const Array& b_any) {
  const Array b = as_layout(b_any, a.layout());
  parallel_ranges(a.stored(), kGrain, [&](int64_t begin, int64_t end) {
    std::memmove(a.data() + begin, b.data() + begin,
                 static_cast<size_t>(end - begin) * sizeof(float));
  });
  a.written();
}

Array dropout(const Array& x, float p, float scale, Seed seed) {
  const uint64_t key = split_mix(seed.value);
  Dropout dropout{};
  dropout.key[0] = static_cast<uint32_t>(key);
  dropout.key[1] = static_cast<uint32_t>(key >> 32);
  dropout.p = p, dropout.scale = scale;

  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  if (x.stored() == 0) return y;
  if (!x.in_lanes()) {
    dropout.row_step = kLanes;
    dropout.lane_step = 1;
    parallel_ranges(x.stored(), kGrain, [&](int64_t begin, int64_t end) {
      kernels().dropout(y.data() + begin, x.data() + begin, end - begin, dropout,
                        static_cast<uint32_t>(begin));
    });
    return y;
  }
  const int64_t features = x.shape().numel_from(1);
  dropout.row_step = 1;
  dropout.lane_step = static_cast<uint32_t>(features);
  // Rows of sixteen: row r is feature r % features of block r / features.
  for_chunks(x.stored() / kLanes, kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end;) {
      const int64_t block = row / features, stop = std::min(end, (block + 1) * features);
      const int64_t first = block * kLanes * features + row % features;
      kernels().dropout(y.data() + row * kLanes, x.data() + row * kLanes, (stop - row) * kLanes,
                        dropout, static_cast<uint32_t>(first));
      row = stop;
    }
  });
  return y;
}

Array scale_by(const Array& x, const Array& factor) {
  return unary(Unary::scale_shift, x, *factor.data(), 0.0f);
}

Array sum(const Array& x) {
  Array total = Array::empty({});
  *total.data() = static_cast<float>(sum_ranges(x, [&](int64_t begin, int64_t end, int lanes) {
    return kernels().sum(x.data() + begin, end - begin, lanes);
  }));
  return total;
}

void count_up(Array& x) {
  ++*x.data<int64_t>();
  x.written();
}

void clear_empty_lanes(Array& x) {
  const int64_t lanes = x.lanes_in_last_block();
  if (!x.in_lanes() || lanes == kLanes || x.stored() == 0) return;
  const int64_t block = x.stored() / x.blocks();
  float* last = x.data() + x.stored() - block;
  for (int64_t i = 0; i < block; i += kLanes) std::fill(last + i + lanes, last + i + kLanes, 0.0f);
}

}  // namespace fastconv::cpu
