// How a correlation is divided into tasks.
#pragma once

#include "cpu/conv/direct/correlation.h"

namespace fastconv::cpu {

// Images of more floats come from memory, and are prefetched.
constexpr int64_t kFarFloats = 2 << 20;

// A task computes a tile of `rows` x `cols` outputs of each phase, of K output channels in each of
// `groups` groups, one chunk of C input channels after the other. The last ones may be smaller.
// Chosen from the shape alone, so the order of every sum is the same on every machine and for any
// number of threads.
struct Tiling {
  int64_t rows, cols, C, K, groups;
};
Tiling choose_tiling(const Correlation& job, int64_t blocks, int64_t min_tasks);

int64_t taps_of(const std::vector<CorrelationAxis>& axes);

// Does one pass over an image larger than the caches do: a tile holds all output channels, and
// outputs of one phase? Then tiles are narrow, and each prefetches the next row of its columns.
bool reads_once(const Correlation& job);

}  // namespace fastconv::cpu
