#include "cpu/resample.h"

#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv {

Array resample(const Array& x, const TapTable& rows, const TapTable& cols,
               const std::vector<float>& row_divisor, const std::vector<float>& col_divisor) {
  Array y = Array::empty({x.dim(0), x.dim(1), rows.outputs(), cols.outputs()}, DType::float32,
                         x.layout());
  cpu::Resample map{};
  map.in_rows = x.dim(2), map.in_cols = x.dim(3);
  map.out_rows = rows.outputs(), map.out_cols = cols.outputs();
  map.unit = x.in_lanes() ? kLanes : 1;
  map.rows = taps_of(rows), map.cols = taps_of(cols);
  map.row_divisor = row_divisor.empty() ? nullptr : row_divisor.data();
  map.col_divisor = col_divisor.empty() ? nullptr : col_divisor.data();

  const int64_t in_plane = map.in_rows * map.in_cols * map.unit;
  const int64_t out_plane = map.out_rows * map.out_cols * map.unit;
  const cpu::Kernels& kernels = cpu::kernels();
  for_shares(x.blocks() * x.dim(1), in_plane + out_plane, [&](int64_t begin, int64_t end) {
    Scratch<float> scratch(map.in_cols * map.unit);
    kernels.resample(y.data() + begin * out_plane, x.data() + begin * in_plane, end - begin, map,
                     scratch.data());
  });
  return y;
}

}  // namespace fastconv
