// Correlations of one input and one output channel a group, on images in lane blocks.
#pragma once

#include "cpu/conv/direct/correlation.h"

namespace fastconv::cpu {

// Arguments as for correlate. False, and nothing done, where the broadcast tile must do it.
bool correlate_depthwise(float* y, const float* x, const float* w, const float* bias, bool relu,
                         int64_t blocks, const Correlation& job, int64_t min_tasks);

}  // namespace fastconv::cpu
