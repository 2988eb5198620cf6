// What operations on channels (N, C, ...) have in common.
#pragma once

#include "cpu/layout.h"
#include "ops/check.h"

namespace fastconv {

inline void check_channels(const char* op, const char* what, const Array& x) {
  check_float32(op, what, x);
  if (x.ndim() < 2)
    throw ShapeError(message("[", op, "] ", what,
                             " must have at least 2 dimensions (N, C, ...), got ", x.shape()));
  for (int axis = 1; axis < x.ndim(); ++axis)
    if (x.dim(axis) == 0)
      throw ShapeError(
          message("[", op, "] ", what, " has size 0 in dimension ", axis, ": ", x.shape()));
}

// Kernels run along the pixels of a channel. Plain arrays with few or none of them, (N, F) above
// all, are better off in lanes.
inline Layout layout_for(const Array& x) {
  return x.shape().numel_from(2) < kLanes ? Layout::lanes : x.layout();
}

}  // namespace fastconv
