// Neighbours along an axis that meet the same taps: all of them away from the edges, fewer beside
// them. So padding is never read and never multiplied: of the 25 * 9 products that a 3 x 3 gradient
// map and a 3 x 3 kernel seem to need for their 5 x 5 inputs, 81 remain.
#pragma once

#include <algorithm>
#include <vector>

#include "core/shape.h"

namespace fastconv::cpu {

struct TapRange {
  int64_t first, end;

  int64_t count() const { return end - first; }
  bool operator==(const TapRange& other) const { return first == other.first && end == other.end; }
};

struct Run {
  int64_t begin, end;  // positions
  TapRange taps;
};

// What two intervals of positions have in common; empty if count <= 0.
struct Overlap {
  Overlap(const Run& run, int64_t from, int64_t size)
      : begin(std::max(run.begin, from)), count(std::min(run.end, from + size) - begin) {}

  int64_t begin, count;
};

// meets(i, tap): whether position i meets a tap. The taps that it meets are neighbours.
template <class Meets>
std::vector<Run> runs_of(int64_t positions, int64_t taps, const Meets& meets) {
  std::vector<Run> runs;
  for (int64_t i = 0; i < positions; ++i) {
    TapRange met{0, taps};
    while (met.first < met.end && !meets(i, met.first)) ++met.first;
    while (met.first < met.end && !meets(i, met.end - 1)) --met.end;
    if (!runs.empty() && runs.back().taps == met)
      ++runs.back().end;
    else
      runs.push_back({i, i + 1, met});
  }
  return runs;
}

}  // namespace fastconv::cpu
