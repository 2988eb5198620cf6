// What becomes of sums before they are stored (ChannelPostOps of cpu/tiles.h).
#pragma once

#include "contract/post_ops.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {

inline ChannelPostOps post_ops_of(Activation activation) {
  const float high = upper_limit(activation);
  return {nullptr, nullptr, nullptr, activation == Activation::none ? -high : 0.0f, high};
}

// The post-ops of output channels from k on, whose y begins at float `at`.
inline ChannelPostOps post_ops_from(ChannelPostOps post, int64_t k, int64_t at) {
  if (post.scale) post.scale += k, post.shift += k;
  if (post.plus) post.plus += at;
  return post;
}

// Those of one sum of output channel k, whose y is element `at`.
inline float with_post_ops(float sum, const ChannelPostOps& post, int64_t k, int64_t at) {
  if (post.scale) sum = sum * post.scale[k] + post.shift[k];
  if (post.plus) sum += post.plus[at];
  if (sum < post.low) sum = post.low;
  return sum > post.high ? post.high : sum;
}

// Those of n neighbours in one plane of y, in place.
inline void apply_post_ops(float* y, const ChannelPostOps& post, int64_t n) {
  const float mean = 0.0f, one = 1.0f, zero = 0.0f;
  const float* scale = post.scale ? post.scale : &one;
  const float* shift = post.scale ? post.shift : &zero;
  cpu::kernels().channel_affine({y, y, post.plus, &mean, scale, shift, post.low, post.high, false},
                                {0, 1, 1, n});
}

// y = activation(y), in a pass of its own.
inline void activate(Array& y, Activation activation) {
  if (activation == Activation::none) return;
  const Unary f = activation == Activation::relu ? Unary::relu : Unary::relu6;
  parallel_ranges(y.stored(), kGrain, [&](int64_t begin, int64_t end) {
    float* to = y.data() + begin;
    cpu::kernels().unary(f, to, to, end - begin, 0.0f, 0.0f, false);
  });
}

}  // namespace fastconv::cpu
