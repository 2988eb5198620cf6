// What the passes of Winograd's algorithm share. All three are the same steps over blocks of tiles:
// transform, 36 independent matrix products over channels, transform back. The tiles of all lane
// blocks are counted through, tile f = block * tiles + tile, so that small images fill a block of
// tiles together.
#pragma once

#include <algorithm>

#include "core/array.h"
#include "ops/conv2d.h"

namespace fastconv {

constexpr int64_t kPoints = 36;
inline const int64_t kNoOffset = 0;

// The 36 points of a tile are written side by side. At distances of a power of two they would all
// fall into one set of the L1 cache; one line more spreads them.
inline int64_t point_stride(int64_t floats) { return ceil_div(floats, kLanes) * kLanes + kLanes; }

struct TileGrid {
  int64_t rows, cols;  // of tiles
  int64_t tiles() const { return rows * cols; }
};

// Outputs of a tile along one axis: 4 for kernels of 3x3, 3 for 4x4, 2 for 5x5.
inline int64_t tile_size(const Conv2dShape& s) { return 7 - s.KH; }

inline TileGrid grid_of(int64_t y_rows, int64_t y_cols, int64_t size) {
  return {ceil_div(y_rows, size), ceil_div(y_cols, size)};
}

// Calls body(block, first tile, count, tiles done before) for the tiles begin <= f < end.
template <class Body>
void for_each_block(int64_t begin, int64_t end, int64_t tiles, const Body& body) {
  for (int64_t f = begin; f < end;) {
    const int64_t block = f / tiles, first = f % tiles, count = std::min(tiles - first, end - f);
    body(block, first, count, f - begin);
    f += count;
  }
}

}  // namespace fastconv
