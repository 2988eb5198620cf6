// How work on whole arrays is cut into tasks: by the shape alone, so that sums have the same bits
// for any number of threads.
#pragma once

#include <algorithm>

#include "core/array.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {

// Floats a task should work on: some ten microseconds from L2, many times what handing it out
// costs.
constexpr int64_t kGrain = 32768;

// Arrays in lanes this large are written past the caches (`streaming` in cpu/kernels.h): L2 would
// have lost their beginning before the next operation reads it, and each line would be read before
// it is overwritten.
constexpr int64_t kStreamedFloats = 1 << 20;
inline bool streams(const Array& y) { return y.in_lanes() && y.stored() >= kStreamedFloats; }

// body(begin, end) over [0, n), where each item is `floats` of work. Shares are equal, but for the
// last.
template <class Body>
void for_shares(int64_t n, int64_t floats, const Body& body) {
  if (n == 0) return;
  const int64_t most = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, floats));
  const int64_t share = ceil_div(n, ceil_div(n, most));
  parallel_for(ceil_div(n, share),
               [&](int64_t task) { body(task * share, std::min(n, (task + 1) * share)); });
}

// The storage of x as ranges of whole sixteens (but for the end of a plain array):
// body(range, begin, end, lanes), where `lanes` of every sixteen floats count. Returns the number
// of ranges.
template <class Body>
int64_t for_ranges(const Array& x, const Body& body) {
  const int64_t lanes = x.in_lanes() ? x.lanes_in_last_block() : kLanes;
  const int64_t whole = lanes == kLanes ? x.stored() : x.stored() - x.stored() / x.blocks();
  const int64_t share_count = ceil_div(whole, kGrain), rest = x.stored() - whole;
  const int64_t rest_count = ceil_div(rest, kGrain), ranges = share_count + rest_count;
  const auto share = [](int64_t n, int64_t count) {
    return count == 0 ? 0 : ceil_div(ceil_div(n, count), kLanes) * kLanes;
  };
  const int64_t whole_share = share(whole, share_count), rest_share = share(rest, rest_count);
  parallel_for(ranges, [&](int64_t range) {
    if (range < share_count) {
      const int64_t begin = range * whole_share;
      if (begin < whole)
        body(range, begin, std::min(whole, begin + whole_share), static_cast<int>(kLanes));
    } else {
      const int64_t begin = whole + (range - share_count) * rest_share;
      if (begin < x.stored())
        body(range, begin, std::min(x.stored(), begin + rest_share), static_cast<int>(lanes));
    }
  });
  return ranges;
}

// The sum over ranges of x of part(begin, end, lanes), added up in order.
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
  double total = 0.0;
  for (int64_t range = 0; range < ranges; ++range) total += to[range];
  return total;
}

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

// Channels first .. first + count - 1.
struct Channels {
  int64_t first, count;
};

// body(channels) for all of them: statistics of a channel and what uses them in one task, for a few
// channels at a time, so that the second pass finds in a cache what the first one read. Where
// channels are few, one body has all of them, and its loops are cut for the threads instead.
template <class Body>
void for_channels(const ChannelWise& x, const Body& body) {
  constexpr int64_t kEnough = 16;
  const int64_t floats = std::max<int64_t>(1, x.outer * x.inner);
  const int64_t share = std::clamp<int64_t>(kGrain / floats, 1, x.C), tasks = ceil_div(x.C, share);
  if (tasks < kEnough) return body(Channels{0, x.C});
  parallel_for(tasks, [&](int64_t task) {
    body(Channels{task * share, std::min(share, x.C - task * share)});
  });
}

// Sums over the batch by channel are made in pieces, ranges of the outer groups; `pieces` is how
// many, whatever the channels.
inline int64_t outer_share(const ChannelWise& x) {
  return std::clamp<int64_t>(kGrain / x.inner, 1, x.outer);
}
inline int64_t outer_pieces(const ChannelWise& x) { return ceil_div(x.outer, outer_share(x)); }

// body(piece, first outer group, groups, channels)
template <class Body>
void for_channel_pieces(const ChannelWise& x, Channels of, const Body& body) {
  const int64_t outer = outer_share(x), pieces = outer_pieces(x);
  const int64_t share = std::clamp<int64_t>(kGrain / (outer * x.inner), 1, of.count);
  const int64_t groups = ceil_div(of.count, share);
  parallel_for(pieces * groups, [&](int64_t task) {
    const int64_t piece = task / groups, o = piece * outer, c = task % groups * share;
    body(piece, o, std::min(outer, x.outer - o),
         Channels{of.first + c, std::min(share, of.count - c)});
  });
}

}  // namespace fastconv
