// Linear maps of images that take rows and columns apart: average pooling, linear interpolation,
// and (transposed) their gradients. An operation says which inputs each output row and column is
// made from; the rest is one function of a device.
#pragma once

#include <vector>

#include "core/shape.h"

namespace fastconv {

// Along one axis: the inputs of each output, with weights.
class TapTable {
 public:
  // Room for that many outputs is made at once: std::bad_alloc here, not after minutes of filling
  // it.
  explicit TapTable(int64_t outputs = 0) {
    begin_.reserve(static_cast<size_t>(outputs) + 1);
    begin_.push_back(0);
  }
  void add_tap(int64_t index, float weight) {
    index_.push_back(index);
    weight_.push_back(weight);
  }
  void end_output() { begin_.push_back(static_cast<int64_t>(index_.size())); }

  int64_t outputs() const { return static_cast<int64_t>(begin_.size()) - 1; }
  // Output i has the taps begin()[i] .. begin()[i + 1] - 1, each an index and a weight.
  const int64_t* begin() const { return begin_.data(); }
  const int64_t* index() const { return index_.data(); }
  const float* weight() const { return weight_.data(); }
  // The outputs of each of `inputs` inputs, in ascending order, with the same weights: the map
  // backwards.
  TapTable transposed(int64_t inputs) const;
  // Each tap's weight divided by its output's divisor.
  void divide_by(const std::vector<float>& divisor);

 private:
  std::vector<int64_t> begin_, index_;
  std::vector<float> weight_;
};

// (N, C, IH, IW) -> (N, C, rows.outputs(), cols.outputs()). Divisors: one an output, or both empty.
struct Resampling {
  TapTable rows, cols;
  std::vector<float> row_divisor, col_divisor;
};

}  // namespace fastconv
