// The window of a plain image that a tile of output rows reads: copied with its padding, every
// channel `height` rows of `width`. A stride splits it into stride x stride phases; a tap then lies
// in one phase, and outputs next to each other read inputs next to each other. Phases that no tap
// reaches are left out.
#pragma once

#include "contract/conv2d_shape.h"
#include "core/array.h"

namespace fastconv::cpu {

// n floats, `stride` apart, side by side.
void copy_strided(float* to, const float* from, int64_t n, int64_t stride);

class SmallBatchWindow {
 public:
  explicit SmallBatchWindow(const Conv2dShape& shape);

  // For tiles of so many output rows.
  void set_rows(int64_t rows) { height = rows + reach_; }

  int64_t phase() const { return height * width; }
  int64_t channel() const { return phase() * phase_rows * phase_cols; }
  // The places of the taps r * KW + t of output 0 in a channel.
  void taps(int64_t* places) const;

  // What output rows row0 .. row0 + rows - 1 read of the channel x, zeros where the padding is.
  void copy(float* out, const float* x, int64_t row0, int64_t rows) const;

  int64_t height = 0, width;       // of one phase
  int64_t phase_rows, phase_cols;  // how many there are along each axis

 private:
  const Conv2dShape& s_;
  int64_t reach_;  // rows that a window has beyond its outputs
};

}  // namespace fastconv::cpu
