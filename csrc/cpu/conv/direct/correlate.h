// The driver of the broadcast tile over images in lane blocks: forward convolution, the gradient by
// input, transposed convolution.
#pragma once

#include "cpu/conv/direct/correlation.h"

namespace fastconv::cpu {

// y: all channels of every block; elements that no output lands on are not touched. bias: groups *
// K floats or null. min_tasks: see cpu/runtime/thread_pool.h.
void correlate(float* y, const float* x, const float* w, const float* bias, bool relu,
               int64_t blocks, const Correlation& job, int64_t min_tasks);

}  // namespace fastconv::cpu
