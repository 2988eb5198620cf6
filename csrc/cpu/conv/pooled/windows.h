// The windows of pooling after a convolution.
#pragma once

#include "contract/conv2d_shape.h"
#include "contract/post_ops.h"
#include "core/array.h"

namespace fastconv::cpu {

// Whether windows are 2x2, side by side and all inside.
inline bool pools_side_by_side(const PostOps& post) {
  const auto simple = [](const PoolAxis& axis) {
    return axis.kernel == 2 && axis.stride == 2 && axis.dilation == 1 && axis.before == 0 &&
           axis.after == 0 && axis.output == axis.input / 2;
  };
  return post.pool && simple(post.pool->rows) && simple(post.pool->cols);
}

// The same convolution of the samples and output channels that y (N, OC, ...) has.
inline Conv2dShape part_of(Conv2dShape s, const Array& y) {
  s.N = y.dim(0), s.OC = y.dim(1), s.OC_per_group = y.dim(1) / s.geometry.groups;
  return s;
}

}  // namespace fastconv::cpu
