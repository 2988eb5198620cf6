// Arrays (N, C, ...) channel by channel: how sums over the batch and loops over planes are divided
// into tasks. By the shape alone, so that sums have the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <functional>

#include "core/array.h"
#include "cpu/kernels.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {

// An array (N, C, ...) as (outer, C, inner), inner contiguous. In the last of the outer groups
// `lanes` of every sixteen floats count.
struct ChannelWise {
  int64_t outer, C, inner;
  int lanes;
};

inline ChannelWise channel_wise(const Array& x) {
  const int64_t pixels = x.shape().numel_from(2);
  if (!x.in_lanes()) return {x.dim(0), x.dim(1), pixels, static_cast<int>(kLanes)};
  return {x.blocks(), x.dim(1), pixels * kLanes, static_cast<int>(x.lanes_in_last_block())};
}

// Kernels run along the pixels of a channel. Plain arrays with few or none of them, (N, F) above
// all, are better off in lanes.
inline Layout channel_layout(const Array& x) {
  return x.shape().numel_from(2) < kLanes ? Layout::lanes : x.layout();
}

// Channels first .. first + count - 1.
struct Channels {
  int64_t first, count;
};

// body(channels) for all of them: statistics of a channel and what uses them in one task, for a few
// channels at a time, so that the second pass finds in a cache what the first one read. Where
// channels are few, one body has all of them, and its loops are divided among the threads instead.
template <class Body>
void for_channels(const ChannelWise& x, const Body& body) {
  constexpr int64_t kEnough = 16;
  const int64_t floats = std::max<int64_t>(1, x.outer * x.inner);
  const int64_t chunk = std::clamp<int64_t>(kGrain / floats, 1, x.C), tasks = ceil_div(x.C, chunk);
  if (tasks < kEnough) return body(Channels{0, x.C});
  parallel_for(tasks, [&](int64_t task) {
    body(Channels{task * chunk, std::min(chunk, x.C - task * chunk)});
  });
}

// body(planes) for planes of these channels that lie one after the other, in the outer groups from
// `begin` to end - 1.
template <class Body>
void for_planes(const ChannelWise& x, Channels of, int64_t begin, int64_t end, const Body& body) {
  for_chunks((end - begin) * of.count, x.inner, [&](int64_t at, int64_t last) {
    while (at < last) {
      const int64_t o = begin + at / of.count, c = at % of.count;
      const int64_t count = std::min(last - at, of.count - c);
      body(Planes{o * x.C + of.first + c, count, x.C, x.inner});
      at += count;
    }
  });
}

// K numbers for each of these channels, results[channel * K + k], from partial results of chunks of
// the outer groups: kernel(to, first outer group, groups, channels) makes K numbers a channel, and
// join_chunks joins them.
template <int K, class T, class Kernel, class Join = std::plus<>>
void reduce_channels(T* results, const ChannelWise& x, Channels of, const Kernel& kernel,
                     const Join& join = {}) {
  const int64_t outer = std::clamp<int64_t>(kGrain / x.inner, 1, x.outer);
  const int64_t chunks = ceil_div(x.outer, outer);
  const int64_t together = std::clamp<int64_t>(kGrain / (outer * x.inner), 1, of.count);
  const int64_t groups = ceil_div(of.count, together), row = of.count * K;
  Scratch<T> scratch(chunks * row);
  T* partial = scratch.data();
  parallel_for(chunks * groups, [&](int64_t task) {
    const int64_t chunk = task / groups, o = chunk * outer, c = task % groups * together;
    kernel(partial + chunk * row + c * K, o, std::min(outer, x.outer - o),
           Channels{of.first + c, std::min(together, of.count - c)});
  });
  join_chunks(results + of.first * K, partial, chunks, row, row, join);
}

}  // namespace fastconv::cpu
