#include "ops/movement.h"

#include <algorithm>

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

int checked_axis(const char* op, int64_t axis, const Shape& x) {
  if (axis < -x.ndim() || axis >= x.ndim())
    throw ShapeError(message("[", op, "] axis ", axis, " is out of range for ", x.ndim(),
                             " dimensions: input ", x));
  return static_cast<int>(axis < 0 ? axis + x.ndim() : axis);
}

// Indices within 0 .. size - 1, at least one.
void check_indices(const char* op, const char* what, const std::vector<int64_t>& indices,
                   int64_t size) {
  if (indices.empty()) throw ShapeError(message("[", op, "] there are no ", what));
  for (const int64_t i : indices)
    if (i < 0 || i >= size)
      throw std::out_of_range(message("[", op, "] ", what, " must be from 0 to ", size - 1,
                                      ", the last of the image: got ", i));
}

// Which output each index is gathered into: the transposed map adds them up.
TapTable gather_taps(const std::vector<int64_t>& indices) {
  TapTable taps(static_cast<int64_t>(indices.size()));
  for (const int64_t i : indices) {
    taps.add_tap(i, 1.0f);
    taps.end_output();
  }
  return taps;
}

// In float, operation by operation as torch has it, so that positions round alike.
TapTable linear_taps(int64_t input, int64_t output, bool align_corners) {
  float step = static_cast<float>(input) / static_cast<float>(output);
  if (align_corners)
    step = output > 1 ? static_cast<float>(input - 1) / static_cast<float>(output - 1) : 0.0f;
  TapTable taps(output);
  for (int64_t o = 0; o < output; ++o) {
    const auto i = static_cast<float>(o);
    const float at = align_corners ? step * i : std::max(step * (i + 0.5f) - 0.5f, 0.0f);
    const int64_t low = std::min(static_cast<int64_t>(at), input - 1);
    const float upper =
        low + 1 < input ? std::min(std::max(at - static_cast<float>(low), 0.0f), 1.0f) : 0.0f;
    taps.add_tap(low, 1.0f - upper);
    if (upper > 0.0f) taps.add_tap(low + 1, upper);
    taps.end_output();
  }
  return taps;
}

// Neither these maps nor their gradients choose a layout: an operation on images around them has.
Array run_resample(const char* op, const Array& x, TapTable rows, TapTable cols) {
  return program::run(op, &Operations::resample, x,
                      Resampling{std::move(rows), std::move(cols), {}, {}}, std::nullopt);
}

}  // namespace

Array pad2d(const Array& x, const std::array<int64_t, 4>& pads, float value) {
  check_images("pad", "input", x);
  const auto [top, bottom, left, right] = pads;
  const auto padded = [](int64_t size, int64_t before, int64_t after) {
    return checked_add(size, checked_add(before, after, "[pad] padding"), "[pad] padded image");
  };
  const int64_t IH = x.dim(2), IW = x.dim(3);
  const int64_t OH = padded(IH, top, bottom), OW = padded(IW, left, right);
  const auto cropped_away = [](int64_t size, int64_t before, int64_t after) {
    return size + std::min<int64_t>(before, 0) + std::min<int64_t>(after, 0) < 0;
  };
  if (OH < 1 || OW < 1 || cropped_away(IH, top, bottom) || cropped_away(IW, left, right))
    throw ShapeError(message("[pad] nothing is left of an image of (", IH, ", ", IW,
                             ") with pads (", top, ", ", bottom, ", ", left, ", ", right, "): ", OH,
                             " rows, ", OW, " columns"));
  return program::run("pad2d", &Operations::pad2d, x, Shape{x.dim(0), x.dim(1), OH, OW}, pads,
                      value);
}

Array cat(const Arrays& arrays, int64_t axis_any) {
  if (arrays.empty()) throw std::invalid_argument("[cat] expected at least one array");
  for (const Array& a : arrays)
    if (!a.defined()) throw std::invalid_argument("[cat] one of the arrays is None");
  const Array& first = arrays[0];
  const int axis = checked_axis("cat", axis_any, first.shape());
  Shape shape = first.shape();
  shape[axis] = 0;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const Array& a = arrays[i];
    if (a.dtype() != first.dtype())
      throw DTypeError(message("[cat] arrays must have one dtype: arrays[0] is ",
                               name_of(first.dtype()), ", arrays[", i, "] is ",
                               name_of(a.dtype())));
    bool match = a.ndim() == first.ndim();
    for (int other = 0; match && other < a.ndim(); ++other)
      match = other == axis || a.dim(other) == first.dim(other);
    if (!match)
      throw ShapeError(message("[cat] arrays must agree in every dimension but ", axis,
                               ": arrays[0] is ", first.shape(), ", arrays[", i, "] is ",
                               a.shape()));
    shape[axis] = checked_add(shape[axis], a.dim(axis), "[cat] size of the result");
  }
  return program::run("cat", &Operations::cat, arrays, shape, axis);
}

Array slice_axis(const Array& x, int64_t axis_any, int64_t begin, int64_t end) {
  if (!x.defined()) throw std::invalid_argument("[slice_axis] input is None");
  const int axis = checked_axis("slice_axis", axis_any, x.shape());
  const int64_t size = x.dim(axis);
  if (begin < 0 || end < begin || end > size)
    throw std::out_of_range(message("[slice_axis] ", begin, ":", end, " does not lie in 0:", size,
                                    ", dimension ", axis, " of ", x.shape()));
  return program::run("slice_axis", &Operations::slice_axis, x, axis, begin, end);
}

Array gather2d(const Array& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& cols) {
  check_images("gather2d", "input", x);
  check_indices("gather2d", "rows", rows, x.dim(2));
  check_indices("gather2d", "columns", cols, x.dim(3));
  return program::run("gather2d", &Operations::gather2d, x, rows, cols);
}

Array gather2d_backward(const Array& dy, const std::vector<int64_t>& rows,
                        const std::vector<int64_t>& cols, const Shape& x) {
  const char* const op = "gather2d_backward";
  check_images(op, "dy", dy);
  if (x.ndim() != 4 || x[0] != dy.dim(0) || x[1] != dy.dim(1) ||
      dy.dim(2) != static_cast<int64_t>(rows.size()) ||
      dy.dim(3) != static_cast<int64_t>(cols.size()))
    throw ShapeError(message("[", op, "] dy ", dy.shape(), " does not belong to ", rows.size(),
                             " rows and ", cols.size(), " columns of an input of ", x));
  check_indices(op, "rows", rows, x[2]);
  check_indices(op, "columns", cols, x[3]);
  return run_resample(op, dy, gather_taps(rows).transposed(x[2]),
                      gather_taps(cols).transposed(x[3]));
}

Array upsample_bilinear2d(const Array& x, std::array<int64_t, 2> output_size, bool align_corners) {
  const char* const op = "upsample_bilinear2d";
  check_images(op, "input", x);
  check_output_size(op, x, output_size);
  return run_resample(op, x, linear_taps(x.dim(2), output_size[0], align_corners),
                      linear_taps(x.dim(3), output_size[1], align_corners));
}

Array upsample_bilinear2d_backward(const Array& dy, const Shape& x, bool align_corners) {
  const char* const op = "upsample_bilinear2d_backward";
  check_images(op, "dy", dy);
  if (x.ndim() != 4 || x[0] != dy.dim(0) || x[1] != dy.dim(1) || x[2] < 1 || x[3] < 1)
    throw ShapeError(message("[", op, "] dy ", dy.shape(), " does not belong to an input of ", x));
  return run_resample(op, dy, linear_taps(x[2], dy.dim(2), align_corners).transposed(x[2]),
                      linear_taps(x[3], dy.dim(3), align_corners).transposed(x[3]));
}

}  // namespace fastconv
