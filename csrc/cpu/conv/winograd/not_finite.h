// What Winograd's algorithm leaves not finite, taken from the formula: NaN, infinities and sums
// that overflow stay with the outputs that meet them. Other outputs keep their bits.
#pragma once

#include "cpu/conv/direct/correlate.h"

namespace fastconv::cpu {

// Elements of y that are not finite become those of `formula`.
void replace_not_finite(float* y, const float* formula, int64_t n);

// The same for the outputs of a whole correlation, of which only the rows of images with such
// elements are computed again. Arguments as for correlate.
void correlate_not_finite(float* y, const float* x, const float* w, const float* bias, bool relu,
                          int64_t blocks, const Correlation& job, int64_t min_tasks);

}  // namespace fastconv::cpu
