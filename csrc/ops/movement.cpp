#include "ops/movement.h"

#include <cmath>
#include <cstring>

#include "cpu/layout.h"
#include "cpu/resample.h"
#include "cpu/runtime/split.h"
#include "ops/check.h"
#include "ops/elementwise.h"

namespace fastconv {
namespace {

// Storage along one axis: `outer` rows, each of dim(axis) * inner_bytes bytes.
struct Rows {
  int64_t outer, inner_bytes;
};

Rows rows_along(const Array& x, int axis) {
  const bool lanes = x.in_lanes();
  int64_t outer = lanes ? x.blocks() : 1;
  for (int i = lanes ? 1 : 0; i < axis; ++i) outer *= x.dim(i);
  return {outer, x.shape().numel_from(axis + 1) * (lanes ? kLanes : 1) *
                     static_cast<int64_t>(size_of(x.dtype()))};
}

// Copies `bytes` of each of `rows` rows.
void copy_rows(char* to, int64_t to_stride, const char* from, int64_t from_stride, int64_t rows,
               int64_t bytes) {
  if (bytes == 0) return;
  for_shares(rows, ceil_div(bytes, 4), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(to + r * to_stride, from + r * from_stride, static_cast<size_t>(bytes));
  });
}

char* bytes_of(Array& x) { return static_cast<char*>(static_cast<void*>(x.data<uint8_t>())); }
const char* bytes_of(const Array& x) {
  return static_cast<const char*>(static_cast<const void*>(x.data<uint8_t>()));
}

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

// One row of pixels of kUnit floats each.
template <int64_t kUnit>
void gather_pixels(float* to, const float* from, const std::vector<int64_t>& cols) {
  for (const int64_t col : cols) {
    std::copy_n(from + col * kUnit, kUnit, to);
    to += kUnit;
  }
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

}  // namespace

Array pad2d(const Array& x, const std::array<int64_t, 4>& pads, float value) {
  check_images("pad", "input", x);
  const auto [top, bottom, left, right] = pads;
  const auto padded = [&](int64_t size, int64_t before, int64_t after) {
    return checked_add(size, checked_add(before, after, "[pad] padding"), "[pad] padded image");
  };
  const int64_t IH = x.dim(2), IW = x.dim(3);
  const int64_t OH = padded(IH, pads[0], pads[1]), OW = padded(IW, pads[2], pads[3]);
  // Where the image begins in the result and what is left of it.
  const int64_t y0 = std::max<int64_t>(top, 0), x0 = std::max<int64_t>(left, 0);
  const int64_t from_row = std::max<int64_t>(-top, 0), from_col = std::max<int64_t>(-left, 0);
  const int64_t rows = std::min(IH + top, OH) - std::max<int64_t>(top, 0);
  const int64_t cols = std::min(IW + left, OW) - std::max<int64_t>(left, 0);
  if (OH < 1 || OW < 1 || rows < 0 || cols < 0)
    throw ShapeError(message("[pad] nothing is left of an image of (", IH, ", ", IW,
                             ") with pads (", top, ", ", bottom, ", ", left, ", ", right, "): ", OH,
                             " rows, ", OW, " columns"));
  Array y = Array::empty({x.dim(0), x.dim(1), OH, OW}, DType::float32, x.layout());
  const int64_t unit = x.in_lanes() ? kLanes : 1;
  const float* from = x.data();
  float* to = y.data();
  for_shares(x.blocks() * x.dim(1), OH * OW * unit, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      float* out = to + plane * OH * OW * unit;
      if (rows < OH || cols < OW) std::fill_n(out, OH * OW * unit, value);
      for (int64_t r = 0; r < rows && cols > 0; ++r)
        std::memcpy(out + ((y0 + r) * OW + x0) * unit,
                    from + ((plane * IH + from_row + r) * IW + from_col) * unit,
                    static_cast<size_t>(cols * unit) * sizeof(float));
    }
  });
  if (!std::isfinite(value)) clear_empty_lanes(y);
  return y;
}

Array cat(const std::vector<Array>& arrays, int64_t axis_any) {
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
  const Layout layout = axis == 0 ? Layout::plain : first.layout();
  Array y = Array::empty(shape, first.dtype(), layout);
  const Rows rows = rows_along(y, axis);
  int64_t offset = 0;
  for (const Array& given : arrays) {
    const Array a = as_layout(given, layout);
    const int64_t bytes = a.dim(axis) * rows.inner_bytes;
    copy_rows(bytes_of(y) + offset, shape[axis] * rows.inner_bytes, bytes_of(a), bytes, rows.outer,
              bytes);
    offset += bytes;
  }
  return y;
}

Array slice_axis(const Array& x_any, int64_t axis_any, int64_t begin, int64_t end) {
  if (!x_any.defined()) throw std::invalid_argument("[slice_axis] input is None");
  const int axis = checked_axis("slice_axis", axis_any, x_any.shape());
  const int64_t size = x_any.dim(axis);
  if (begin < 0 || end < begin || end > size)
    throw std::out_of_range(message("[slice_axis] ", begin, ":", end, " does not lie in 0:", size,
                                    ", dimension ", axis, " of ", x_any.shape()));
  const Array x = axis == 0 ? to_plain(x_any) : x_any;
  Shape shape = x.shape();
  shape[axis] = end - begin;
  Array y = Array::empty(shape, x.dtype(), x.layout());
  const Rows rows = rows_along(x, axis);
  const int64_t bytes = (end - begin) * rows.inner_bytes;
  copy_rows(bytes_of(y), bytes, bytes_of(x) + begin * rows.inner_bytes, size * rows.inner_bytes,
            rows.outer, bytes);
  return y;
}

Array gather2d(const Array& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& cols) {
  check_images("gather2d", "input", x);
  check_indices("gather2d", "rows", rows, x.dim(2));
  check_indices("gather2d", "columns", cols, x.dim(3));
  const auto OH = static_cast<int64_t>(rows.size()), OW = static_cast<int64_t>(cols.size());
  Array y = Array::empty({x.dim(0), x.dim(1), OH, OW}, DType::float32, x.layout());
  const int64_t unit = x.in_lanes() ? kLanes : 1, IW = x.dim(3);
  const auto gather = x.in_lanes() ? &gather_pixels<kLanes> : &gather_pixels<1>;
  const float* from = x.data();
  float* to = y.data();
  for_shares(x.blocks() * x.dim(1), OH * OW * unit, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const float* image = from + plane * x.dim(2) * IW * unit;
      float* out = to + plane * OH * OW * unit;
      for (size_t r = 0; r < rows.size(); ++r, out += OW * unit)
        if (r > 0 && rows[r] == rows[r - 1])
          std::copy_n(out - OW * unit, OW * unit, out);
        else
          gather(out, image + rows[r] * IW * unit, cols);
    }
  });
  return y;
}

Array gather2d_backward(const Array& dy, const std::vector<int64_t>& rows,
                        const std::vector<int64_t>& cols, const Shape& x_shape) {
  const char* const op = "gather2d_backward";
  check_images(op, "dy", dy);
  if (x_shape.ndim() != 4 || x_shape[0] != dy.dim(0) || x_shape[1] != dy.dim(1) ||
      dy.dim(2) != static_cast<int64_t>(rows.size()) ||
      dy.dim(3) != static_cast<int64_t>(cols.size()))
    throw ShapeError(message("[", op, "] dy ", dy.shape(), " does not belong to ", rows.size(),
                             " rows and ", cols.size(), " columns of an input of ", x_shape));
  check_indices(op, "rows", rows, x_shape[2]);
  check_indices(op, "columns", cols, x_shape[3]);
  return resample(dy, gather_taps(rows).transposed(x_shape[2]),
                  gather_taps(cols).transposed(x_shape[3]));
}

Array upsample_bilinear2d(const Array& x, std::array<int64_t, 2> output_size, bool align_corners) {
  check_images("upsample_bilinear2d", "input", x);
  if (output_size[0] < 1 || output_size[1] < 1)
    throw std::invalid_argument(
        message("[upsample_bilinear2d] output_size must be at least 1, got (", output_size[0], ", ",
                output_size[1], ")"));
  Shape{x.dim(0), x.dim(1), output_size[0], output_size[1]}.numel();
  return resample(x, linear_taps(x.dim(2), output_size[0], align_corners),
                  linear_taps(x.dim(3), output_size[1], align_corners));
}

Array upsample_bilinear2d_backward(const Array& dy, const Shape& x_shape, bool align_corners) {
  const char* const op = "upsample_bilinear2d_backward";
  check_images(op, "dy", dy);
  if (x_shape.ndim() != 4 || x_shape[0] != dy.dim(0) || x_shape[1] != dy.dim(1) || x_shape[2] < 1 ||
      x_shape[3] < 1)
    throw ShapeError(
        message("[", op, "] dy ", dy.shape(), " does not belong to an input of ", x_shape));
  return resample(dy, linear_taps(x_shape[2], dy.dim(2), align_corners).transposed(x_shape[2]),
                  linear_taps(x_shape[3], dy.dim(3), align_corners).transposed(x_shape[3]));
}

}  // namespace fastconv
