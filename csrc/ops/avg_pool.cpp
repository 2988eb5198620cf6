#include <algorithm>

#include "ops/check.h"
#include "ops/pool.h"
#include "program/run.h"

namespace fastconv {
namespace {

// The windows along one axis: inputs begin .. end - 1 with weight 1, and what their sum is divided
// by.
struct Windows {
  explicit Windows(int64_t outputs) : taps(outputs) {}

  TapTable taps;
  std::vector<float> divisor;

  void add(int64_t begin, int64_t end, int64_t count) {
    for (int64_t i = begin; i < end; ++i) taps.add_tap(i, 1.0f);
    taps.end_output();
    divisor.push_back(static_cast<float>(count));
  }
};

Windows windows_of(const PoolAxis& a, bool count_include_pad) {
  Windows w(a.output);
  for (int64_t o = 0; o < a.output; ++o) {
    // In ceil mode a window may hang over the padding; what hangs over counts nowhere.
    const int64_t begin = a.first(o), end = std::min(begin + a.kernel, a.input + a.after);
    const int64_t inside_begin = std::max<int64_t>(begin, 0), inside_end = std::min(end, a.input);
    const int64_t inside = std::max<int64_t>(inside_end - inside_begin, 0);
    w.add(inside_begin, inside_end, count_include_pad ? end - begin : std::max<int64_t>(inside, 1));
  }
  return w;
}

Windows adaptive_windows(int64_t input, int64_t output) {
  Windows w(output);
  for (int64_t o = 0; o < output; ++o) {
    // floor(o * input / output) and ceil((o + 1) * input / output), without the large product
    const int64_t whole = input / output, rest = input % output;
    const int64_t begin = o * whole + o * rest / output;
    const int64_t end = (o + 1) * whole + ceil_div((o + 1) * rest, output);
    w.add(begin, end, end - begin);
  }
  return w;
}

// The averages as a map of images.
Resampling averages(Windows rows, Windows cols) {
  return {std::move(rows.taps), std::move(cols.taps), std::move(rows.divisor),
          std::move(cols.divisor)};
}

Resampling averages(const PoolShape& shape, const Averaging& averaging) {
  Windows rows = windows_of(shape.rows, averaging.count_include_pad);
  Windows cols = windows_of(shape.cols, averaging.count_include_pad);
  if (averaging.divisor_override != 0) {
    rows.divisor.assign(rows.divisor.size(), static_cast<float>(averaging.divisor_override));
    cols.divisor.assign(cols.divisor.size(), 1.0f);
  }
  return averages(std::move(rows), std::move(cols));
}

Array run_backward(const char* op, const Array& dy, const Shape& x, Resampling map, bool leaf) {
  map.rows.divide_by(map.row_divisor);
  map.cols.divide_by(map.col_divisor);
  return program::run(op, &Operations::resample, dy,
                      Resampling{map.rows.transposed(x[2]), map.cols.transposed(x[3]), {}, {}},
                      leaf ? std::optional<Use>({true, true}) : std::nullopt);
}

}  // namespace

Array avg_pool2d(const Array& x, const PoolParams& params, const Averaging& averaging, Use use) {
  check_images("avg_pool2d", "input", x);
  return program::run("avg_pool2d", &Operations::resample, x,
                      averages(pool2d_shape("avg_pool2d", x.shape(), params), averaging), use);
}

Array avg_pool2d_backward(const Array& dy, const Shape& x, const PoolParams& params,
                          const Averaging& averaging, bool leaf) {
  const char* const op = "avg_pool2d_backward";
  const PoolShape shape = pool2d_shape(op, x, params);
  check_float32(op, "dy", dy);
  check_gradient_shape(op, dy, shape.y(), x);
  return run_backward(op, dy, x, averages(shape, averaging), leaf);
}

Array adaptive_avg_pool2d(const Array& x, std::array<int64_t, 2> output_size, Use use) {
  const char* const op = "adaptive_avg_pool2d";
  check_images(op, "input", x);
  check_output_size(op, x, output_size);
  return program::run(op, &Operations::resample, x,
                      averages(adaptive_windows(x.dim(2), output_size[0]),
                               adaptive_windows(x.dim(3), output_size[1])),
                      use);
}

Array adaptive_avg_pool2d_backward(const Array& dy, const Shape& x) {
  const char* const op = "adaptive_avg_pool2d_backward";
  check_image_shape(op, x);
  check_images(op, "dy", dy);
  check_gradient_shape(op, dy, {x[0], x[1], dy.dim(2), dy.dim(3)}, x);
  return run_backward(
      op, dy, x, averages(adaptive_windows(x[2], dy.dim(2)), adaptive_windows(x[3], dy.dim(3))),
      false);
}

}  // namespace fastconv
