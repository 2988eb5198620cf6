#include "cpu/movement.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
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
  for_chunks(rows, ceil_div(bytes, 4), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(to + r * to_stride, from + r * from_stride, static_cast<size_t>(bytes));
  });
}

char* bytes_of(Array& x) { return static_cast<char*>(static_cast<void*>(x.data<uint8_t>())); }
const char* bytes_of(const Array& x) {
  return static_cast<const char*>(static_cast<const void*>(x.data<uint8_t>()));
}

// One row of pixels of kUnit floats each.
template <int64_t kUnit>
void gather_pixels(float* to, const float* from, const std::vector<int64_t>& cols) {
  for (const int64_t col : cols) {
    std::copy_n(from + col * kUnit, kUnit, to);
    to += kUnit;
  }
}

// The pixels along one axis that padding keeps: from .. from + count - 1 of the image, which become
// to .. to + count - 1 of the result.
struct KeptPixels {
  KeptPixels(int64_t size, int64_t before, int64_t padded)
      : to(std::max<int64_t>(before, 0)),
        from(std::max<int64_t>(-before, 0)),
        count(std::min(size + before, padded) - to) {}

  int64_t to, from, count;
};

}  // namespace

Array pad2d(const Array& x, const Shape& y_shape, const std::array<int64_t, 4>& pads, float value) {
  const int64_t IH = x.dim(2), IW = x.dim(3), OH = y_shape[2], OW = y_shape[3];
  const KeptPixels rows(IH, pads[0], OH), cols(IW, pads[2], OW);
  Array y = Array::empty(y_shape, DType::float32, x.layout());
  const int64_t unit = x.in_lanes() ? kLanes : 1;
  const float* from = x.data();
  float* to = y.data();
  for_chunks(x.blocks() * x.dim(1), OH * OW * unit, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      float* out = to + plane * OH * OW * unit;
      if (rows.count < OH || cols.count < OW) std::fill_n(out, OH * OW * unit, value);
      for (int64_t r = 0; r < rows.count && cols.count > 0; ++r)
        std::memcpy(out + ((rows.to + r) * OW + cols.to) * unit,
                    from + ((plane * IH + rows.from + r) * IW + cols.from) * unit,
                    static_cast<size_t>(cols.count * unit) * sizeof(float));
    }
  });
  if (!std::isfinite(value)) clear_empty_lanes(y);
  return y;
}

Array cat(const Arrays& arrays, const Shape& y_shape, int axis) {
  const Layout layout = axis == 0 ? Layout::plain : arrays[0].layout();
  Array y = Array::empty(y_shape, arrays[0].dtype(), layout);
  const Rows rows = rows_along(y, axis);
  int64_t offset = 0;
  for (const Array& given : arrays) {
    const Array a = as_layout(given, layout);
    const int64_t bytes = a.dim(axis) * rows.inner_bytes;
    copy_rows(bytes_of(y) + offset, y_shape[axis] * rows.inner_bytes, bytes_of(a), bytes,
              rows.outer, bytes);
    offset += bytes;
  }
  return y;
}

Array slice_axis(const Array& x_any, int axis, int64_t begin, int64_t end) {
  const Array x = axis == 0 ? to_plain(x_any) : x_any;
  Shape shape = x.shape();
  shape[axis] = end - begin;
  Array y = Array::empty(shape, x.dtype(), x.layout());
  const Rows rows = rows_along(x, axis);
  const int64_t bytes = (end - begin) * rows.inner_bytes;
  copy_rows(bytes_of(y), bytes, bytes_of(x) + begin * rows.inner_bytes,
            x.dim(axis) * rows.inner_bytes, rows.outer, bytes);
  return y;
}

Array gather2d(const Array& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& cols) {
  const auto OH = static_cast<int64_t>(rows.size()), OW = static_cast<int64_t>(cols.size());
  Array y = Array::empty({x.dim(0), x.dim(1), OH, OW}, DType::float32, x.layout());
  const int64_t unit = x.in_lanes() ? kLanes : 1, IW = x.dim(3);
  const auto gather = x.in_lanes() ? &gather_pixels<kLanes> : &gather_pixels<1>;
  const float* from = x.data();
  float* to = y.data();
  for_chunks(x.blocks() * x.dim(1), OH * OW * unit, [&](int64_t begin, int64_t end) {
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

}  // namespace fastconv::cpu
