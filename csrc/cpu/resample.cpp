#include "cpu/resample.h"

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {

Array resample(const Array& x_any, const Resampling& resampling, std::optional<Use> use) {
  const Array x = use ? in_batch_layout(x_any, *use) : x_any;
  Resample map{};
  map.in_rows = x.dim(2), map.in_cols = x.dim(3);
  map.out_rows = resampling.rows.outputs(), map.out_cols = resampling.cols.outputs();
  map.unit = x.in_lanes() ? kLanes : 1;
  map.rows = taps_of(resampling.rows), map.cols = taps_of(resampling.cols);
  if (!resampling.row_divisor.empty()) {
    map.row_divisor = resampling.row_divisor.data();
    map.col_divisor = resampling.col_divisor.data();
  }
  Array y =
      Array::empty({x.dim(0), x.dim(1), map.out_rows, map.out_cols}, DType::float32, x.layout());
  const int64_t in_plane = map.in_rows * map.in_cols * map.unit;
  const int64_t out_plane = map.out_rows * map.out_cols * map.unit;
  for_chunks(x.blocks() * x.dim(1), in_plane + out_plane, [&](int64_t begin, int64_t end) {
    Scratch<float> scratch(map.in_cols * map.unit);
    kernels().resample(y.data() + begin * out_plane, x.data() + begin * in_plane, end - begin, map,
                       scratch.data());
  });
  return y;
}

}  // namespace fastconv::cpu
