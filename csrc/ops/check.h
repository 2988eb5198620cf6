// Checks that several operations share.
#pragma once

#include <array>

#include "core/array.h"

namespace fastconv {

inline void check_float32(const char* op, const char* what, const Array& x) {
  if (!x.defined()) throw std::invalid_argument(message("[", op, "] ", what, " is None"));
  if (x.dtype() != DType::float32)
    throw DTypeError(message("[", op, "] ", what, " must be float32, got ", name_of(x.dtype()),
                             "; convert it with x.astype(np.float32)"));
}

inline void check_same_shape(const char* op, const char* what_a, const Array& a, const char* what_b,
                             const Array& b) {
  if (a.shape() != b.shape())
    throw ShapeError(message("[", op, "] ", what_a, " and ", what_b,
                             " must have the same shape, got ", a.shape(), " and ", b.shape()));
}

// float32 images (N, C, H, W); N may be 0, nothing else.
inline void check_images(const char* op, const char* what, const Array& x) {
  check_float32(op, what, x);
  if (x.ndim() != 4)
    throw ShapeError(message("[", op, "] ", what, " must have 4 dimensions (N, C, H, W), got ",
                             x.shape(),
                             x.ndim() == 3   ? "; did you mean x[None]?"
                             : x.ndim() == 2 ? "; did you mean x[None, None]?"
                                             : ""));
  for (int axis = 1; axis < 4; ++axis)
    if (x.dim(axis) == 0)
      throw ShapeError(
          message("[", op, "] ", what, " has size 0 in dimension ", axis, ": ", x.shape()));
}

// The shape of images where there are none to look at: as check_images.
inline void check_image_shape(const char* op, const Shape& x) {
  if (x.ndim() != 4)
    throw ShapeError(message("[", op, "] input must have 4 dimensions (N, C, H, W), got ", x));
  for (int axis = 1; axis < 4; ++axis)
    if (x[axis] == 0)
      throw ShapeError(message("[", op, "] input has size 0 in dimension ", axis, ": ", x));
}

inline void check_gradient_shape(const char* op, const Array& dy, const Shape& expected,
                                 const Shape& x) {
  if (dy.shape() != expected)
    throw ShapeError(message("[", op, "] dy must have shape ", expected, " for an input of ", x,
                             ", got ", dy.shape()));
}

// (OH, OW) for images x: at least 1, and so few pixels that they can be counted, before tables of
// that size are made.
inline void check_output_size(const char* op, const Array& x, std::array<int64_t, 2> size) {
  if (size[0] < 1 || size[1] < 1)
    throw std::invalid_argument(
        message("[", op, "] output_size must be at least 1, got (", size[0], ", ", size[1], ")"));
  Shape{x.dim(0), x.dim(1), size[0], size[1]}.numel();
}

}  // namespace fastconv
