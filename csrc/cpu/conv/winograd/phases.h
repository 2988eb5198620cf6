// What the passes of Winograd's algorithm share. All three are the same steps over blocks of tiles:
// transform, 36 (or 25) independent matrix products over channels, transform back. The tiles of all
// lane blocks are counted through, tile f = block * tiles + tile, so that small images fill a block
// of tiles together.
#pragma once

#include <algorithm>

#include "contract/conv2d_shape.h"
#include "core/array.h"
#include "cpu/kernels.h"
#include "cpu/runtime/cache_size.h"

namespace fastconv::cpu {

// A convolution with stride S is one with stride 1 over S * S times the channels of x: the pixels
// and taps of each phase of the stride, a row and a column of 0 .. S - 1, are channels of their
// own. Along one axis, with r = q * S + phase,
//
//   x'[phase][c][h] = x[c][h * S + phase - pad],  w'[k][phase][c][q] = w[k][c][r]
//
// with kernels of R x R taps, R = ceil(size / S): 3x3 with stride 2 becomes 2x2 of four times the
// channels. Short phases, those with one tap fewer along an axis, contribute nothing at the point
// at infinity of that axis, or, flipped and of 3x3 to 5x5, at zero: these products are skipped.
// Phases are so numbered that those with products at a point are neighbours.
class Phases {
 public:
  // In tiles as large as there are, or with so many points along an axis (3x3: 6 or 5).
  explicit Phases(const Conv2dShape& s)
      : Phases(s, ceil_div(s.KH, s.geometry.stride[0]) == 2 ? 5 : 6) {}
  Phases(const Conv2dShape& s, int64_t points_of_axis)
      : stride(s.geometry.stride[0]),
        taps(ceil_div(s.KH, stride)),
        count(stride * stride),
        axis_points(points_of_axis),
        points(axis_points * axis_points),
        tile(axis_points + 1 - taps),
        size_(s.KH),
        full_(s.KH - stride * (taps - 1)) {}

  int64_t stride, taps, count;
  int64_t axis_points, points;  // of a tile, along an axis and together
  int64_t tile;                 // its outputs along an axis

  bool is_short(int64_t phase_of_axis) const { return phase_of_axis >= full_; }

  // Of phase number i.
  WinogradTaps operator[](int64_t i) const {
    const int64_t short_ = stride - full_, row_short = short_ * full_;
    const auto at = [this](int64_t row, int64_t col) {
      return WinogradTaps{size_, stride, row, col, axis_points};
    };
    if (i < row_short) return at(full_ + i / full_, i % full_);
    i -= row_short;
    if (i < full_ * full_) return at(i / full_, i % full_);
    i -= full_ * full_;
    return at(i / short_, full_ + i % short_);
  }

  // The phases first .. last - 1 have products at a point.
  struct Range {
    int64_t first, last;
    bool operator==(const Range& other) const { return first == other.first && last == other.last; }
  };
  Range at_point(int64_t point, bool flipped) const {
    const int64_t gone = flipped && taps > 2 ? 0 : axis_points - 1;
    const int64_t row_short = (stride - full_) * full_;
    const bool rows = point / axis_points == gone, cols = point % axis_points == gone;
    return {rows ? row_short : 0, cols   ? row_short + full_ * full_
                                  : rows ? row_short + full_ * stride
                                         : count};
  }

  // Of a tile, for each pair of channels of x and y.
  double products() const {
    const auto of_axis = double(axis_points * stride - (stride - full_));
    return of_axis * of_axis;
  }

 private:
  int64_t size_, full_;  // phases 0 .. full_ - 1 of an axis are not short
};

// By input, position q of phase p along an axis is pixel q * stride + p - pad of dx; it meets dy
// from q - taps + 1 to q. Where kernels are 2x2, in short phases, one position is counted as the
// one before it: their only tap, flipped, comes first and vanishes at infinity, for there is no
// point zero. The first position that some phase has, and how many there are up to pixel size - 1.
struct Positions {
  // Position 0 of a phase is counted as this.
  static int64_t higher(const Phases& phases, int64_t phase_of_axis) {
    return phases.taps == 2 && phases.is_short(phase_of_axis) ? 1 : 0;
  }

  Positions(const Phases& phases, int64_t pad, int64_t size) {
    int64_t last = 0;
    for (int64_t p = 0; p < phases.stride; ++p) {
      const int64_t begin = higher(phases, p) + (pad > p ? ceil_div(pad - p, phases.stride) : 0);
      first = p == 0 ? begin : std::min(first, begin);
      if (size + pad > p)
        last = std::max(last, higher(phases, p) + (size - 1 + pad - p) / phases.stride);
    }
    count = std::max<int64_t>(0, last - first + 1);
  }
  int64_t first = 0, count = 0;
};

struct TileGrid {
  int64_t rows, cols;  // of tiles
  int64_t tiles() const { return rows * cols; }
};

inline TileGrid grid_of(int64_t y_rows, int64_t y_cols, int64_t size) {
  return {ceil_div(y_rows, size), ceil_div(y_cols, size)};
}

// Calls body(block, first tile, count, tiles done before) for the tiles begin <= f < end; likewise
// for channels of phases.
template <class Body>
void for_each_block(int64_t begin, int64_t end, int64_t tiles, const Body& body) {
  for (int64_t f = begin; f < end;) {
    const int64_t block = f / tiles, first = f % tiles, count = std::min(tiles - first, end - f);
    body(block, first, count, f - begin);
    f += count;
  }
}

}  // namespace fastconv::cpu
