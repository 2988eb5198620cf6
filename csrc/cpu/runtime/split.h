// How work on whole arrays is split into tasks: by shape alone, never by the number of threads, so
// that sums have the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <functional>

#include "core/array.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {

// Floats in a task: some ten microseconds from L2, many times the cost of starting a task.
constexpr int64_t kGrain = 32768;

// Arrays in lanes of at least this size are written with non-temporal stores (`streaming` in
// cpu/kernels.h): their beginning would have left L2 before the next operation reads it, and a
// normal store reads each line first.
constexpr int64_t kStreamedFloats = 1 << 20;
inline bool streams(const Array& y) { return y.in_lanes() && y.stored() >= kStreamedFloats; }

// body(begin, end) for equal chunks of [0, n) (the last may be shorter), where an item is `floats`
// of work.
template <class Body>
void for_chunks(int64_t n, int64_t floats, const Body& body) {
  if (n == 0) return;
  const int64_t most = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, floats));
  const int64_t chunk = ceil_div(n, ceil_div(n, most));
  parallel_for(ceil_div(n, chunk),
               [&](int64_t task) { body(task * chunk, std::min(n, (task + 1) * chunk)); });
}

// body(range, begin, end, lanes) for the storage of x in ranges of whole sixteens (except at the
// end of a plain array). `lanes` of every sixteen floats count. Returns the number of ranges.
template <class Body>
int64_t for_ranges(const Array& x, const Body& body) {
  const int64_t lanes = x.in_lanes() ? x.lanes_in_last_block() : kLanes;
  const int64_t whole = lanes == kLanes ? x.stored() : x.stored() - x.stored() / x.blocks();
  const int64_t chunk_count = ceil_div(whole, kGrain), rest = x.stored() - whole;
  const int64_t rest_count = ceil_div(rest, kGrain), ranges = chunk_count + rest_count;
  const auto chunk_size = [](int64_t n, int64_t count) {
    return count == 0 ? 0 : ceil_div(ceil_div(n, count), kLanes) * kLanes;
  };
  const int64_t whole_chunk = chunk_size(whole, chunk_count),
                rest_chunk = chunk_size(rest, rest_count);
  parallel_for(ranges, [&](int64_t range) {
    if (range < chunk_count) {
      const int64_t begin = range * whole_chunk;
      if (begin < whole)
        body(range, begin, std::min(whole, begin + whole_chunk), static_cast<int>(kLanes));
    } else {
      const int64_t begin = whole + (range - chunk_count) * rest_chunk;
      if (begin < x.stored())
        body(range, begin, std::min(x.stored(), begin + rest_chunk), static_cast<int>(lanes));
    }
  });
  return ranges;
}

// Partial results are made side by side, one row of n for each chunk, and joined in the order of
// the chunks, which makes the bits of a sum the same for any number of threads:
//
//   results[i] = partial[i] + partial[stride + i] + ... + partial[(chunks - 1) * stride + i]
//
// for i < n. results may be the first row. join(a, b) does what + does.
template <class T, class Join = std::plus<>>
void join_chunks(T* results, const T* partial, int64_t chunks, int64_t stride, int64_t n,
                 const Join& join = {}) {
  if (results != partial) std::copy_n(partial, n, results);
  for (int64_t chunk = 1; chunk < chunks; ++chunk) {
    const T* next = partial + chunk * stride;
    for (int64_t i = 0; i < n; ++i) results[i] = join(results[i], next[i]);
  }
}

// The same for many floats, stride n apart.
inline void join_chunks_in_parallel(float* results, const float* partial, int64_t chunks,
                                    int64_t n) {
  parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
    join_chunks(results + begin, partial + begin, chunks, n, end - begin);
  });
}

// The sum of part(begin, end, lanes) over the ranges of x, added in order.
template <class Part>
double sum_ranges(const Array& x, const Part& part) {
  if (x.stored() == 0) return 0.0;
  const int64_t most = x.stored() / kGrain + 2;  // ranges of the whole blocks and of the last one
  Scratch<double> parts(most);
  std::fill_n(parts.data(), most, 0.0);
  double* to = parts.data();
  const int64_t ranges = for_ranges(x, [&](int64_t range, int64_t begin, int64_t end, int lanes) {
    to[range] = part(begin, end, lanes);
  });
  double total;
  join_chunks(&total, to, ranges, 1, 1);
  return total;
}

}  // namespace fastconv
