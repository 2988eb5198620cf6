#include "cpu/resample.h"

#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv {

TapTable TapTable::transposed(int64_t inputs) const {
  TapTable t;
  t.begin_.assign(static_cast<size_t>(inputs) + 1, 0);
  t.index_.resize(index_.size());
  t.weight_.resize(weight_.size());
  for (const int64_t input : index_) ++t.begin_[static_cast<size_t>(input) + 1];
  for (size_t i = 1; i < t.begin_.size(); ++i) t.begin_[i] += t.begin_[i - 1];
  std::vector<int64_t> next(t.begin_.begin(), t.begin_.end() - 1);
  for (int64_t output = 0; output < outputs(); ++output)
    for (auto tap = static_cast<size_t>(begin_[static_cast<size_t>(output)]);
         tap < static_cast<size_t>(begin_[static_cast<size_t>(output) + 1]); ++tap) {
      const auto to = static_cast<size_t>(next[static_cast<size_t>(index_[tap])]++);
      t.index_[to] = output;
      t.weight_[to] = weight_[tap];
    }
  return t;
}

void TapTable::divide_by(const std::vector<float>& divisor) {
  for (size_t output = 0; output + 1 < begin_.size(); ++output)
    for (auto tap = begin_[output]; tap < begin_[output + 1]; ++tap)
      weight_[static_cast<size_t>(tap)] /= divisor[output];
}

Array resample(const Array& x, const TapTable& rows, const TapTable& cols,
               const std::vector<float>& row_divisor, const std::vector<float>& col_divisor) {
  Array y = Array::empty({x.dim(0), x.dim(1), rows.outputs(), cols.outputs()}, DType::float32,
                         x.layout());
  cpu::Resample map{};
  map.in_rows = x.dim(2), map.in_cols = x.dim(3);
  map.out_rows = rows.outputs(), map.out_cols = cols.outputs();
  map.unit = x.in_lanes() ? kLanes : 1;
  map.rows = rows.taps(), map.cols = cols.taps();
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
