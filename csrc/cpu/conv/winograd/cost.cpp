// Which outputs of a convolution Winograd's algorithm computes quicker than the formula: a model of
// its cost, from the shape alone.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/conv/winograd/phases.h"
#include "cpu/conv/winograd/winograd.h"

namespace fastconv::cpu {
namespace {

std::atomic<bool> allowed{true};

// One axis of a correlation: output i meets inputs first + i * stride .. + kernel - 1, padding left
// out.
struct Axis {
  int64_t outputs, inputs, first, kernel, stride;

  // Products of the outputs begin .. end - 1.
  double taps(int64_t begin, int64_t end) const {
    int64_t count = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = first + i * stride;
      count += std::max<int64_t>(0, std::min(at + kernel, inputs) - std::max<int64_t>(at, 0));
    }
    return double(count);
  }
};

Axis axis_of(const Conv2dShape& s, size_t i, bool by_input) {
  const int64_t y = i == 0 ? s.OH : s.OW, x = i == 0 ? s.IH : s.IW, kernel = i == 0 ? s.KH : s.KW;
  const int64_t pad = s.geometry.pads[2 * i];
  return by_input ? Axis{x, y, pad - kernel + 1, kernel, 1}
                  : Axis{y, x, -pad, kernel, s.geometry.stride[i]};
}

// The quickest part in these tiles, if that is quicker than `best`.
WinogradPart quickest(const Conv2dShape& s, Pass pass, const Phases& phases, WinogradPart best) {
  const Geometry& p = s.geometry;
  const int64_t size = phases.tile, stride = phases.stride, points = phases.axis_points;
  const bool by_weight = pass == Pass::backward_weight, by_input = pass == Pass::backward_input;
  const double blocks = double(ceil_div(s.N, kLanes)), IC = double(s.IC), OC = double(s.OC);
  // Transforms, of the pixels of the points and of those at the other end; short sums
  // begin and end more often.
  const bool small = points == 5 && size == 3;
  const double full = small ? 150.0 : 220.0;
  const double other = small ? 110.0 : size == 4 ? 220.0 : size == 3 ? 160.0 : 110.0;
  const double x_channels = IC * double(phases.count), sum = by_input ? OC : x_channels;
  const double vectors = std::min(x_channels, OC) / double(kLanes);  // by weight, filled or not
  const double overhead = by_weight ? 1.1 * std::ceil(vectors) / vectors : 1.05 * (1 + 6 / sum);
  double tile = phases.products() * overhead;
  double once = (small ? 11.0 : 16.0) * double(phases.count);
  if (by_weight)
    tile += (2 * full * x_channels + other * OC) / (IC * OC), once *= 36.0 / 16.0;
  else if (by_input)
    tile += (full * OC + other * x_channels) / (IC * OC);
  else
    tile += (full * x_channels + other * OC) / (IC * OC);
  const auto consider = [&](int64_t R, int64_t C, bool adjoint, double cost) {
    if (cost < best.cost) best = {R, C, points, adjoint, cost};
  };
  if (stride > 1 && pass != Pass::forward) {
    // By input, all that windows meet.
    const auto met = [&](int64_t outputs, int64_t pad, int64_t inputs) {
      return std::clamp<int64_t>((outputs - 1) * stride + s.KH - pad, 0, inputs);
    };
    const int64_t rows = by_input ? met(s.OH, p.pads[0], s.IH) : s.OH;
    const int64_t cols = by_input ? met(s.OW, p.pads[2], s.IW) : s.OW;
    if (rows == 0 || cols == 0) return best;
    const TileGrid grid = by_input ? grid_of(Positions(phases, p.pads[0], rows).count,
                                             Positions(phases, p.pads[2], cols).count, size)
                                   : grid_of(rows, cols, size);
    consider(rows, cols, false, blocks * tile * double(grid.tiles()) + once);
    return best;
  }
  const Axis rows = axis_of(s, 0, by_input), cols = axis_of(s, 1, by_input);
  // A tile for one last row (or column) costs more than its products, which are few beside padding.
  constexpr double kEdge = 1.5;
  for (const int64_t R : {rows.outputs, rows.outputs - 1})
    for (const int64_t C : {cols.outputs, cols.outputs - 1}) {
      if ((R < rows.outputs && (R % size != 0 || R == 0 || by_weight)) ||
          (C < cols.outputs && (C % size != 0 || C == 0 || by_weight)))
        continue;
      const double edges = rows.taps(R, rows.outputs) * cols.taps(0, cols.outputs) +
                           rows.taps(0, R) * cols.taps(C, cols.outputs);
      consider(R, C, false,
               blocks * (tile * double(grid_of(R, C, size).tiles()) + kEdge * edges) + once);
    }
  if (by_input) {
    // All tiles of an image must stay in L2 together; adding up its pixels costs more than writing.
    constexpr int64_t kMostVectors = 24 * 1024;
    const int64_t tiles = grid_of(s.OH, s.OW, size).tiles();
    const double adjoint = 1.1 * double(phases.points) + (other * OC + 1.6 * full * IC) / (IC * OC);
    if (phases.points * s.OC * tiles <= kMostVectors)
      consider(s.IH, s.IW, true, blocks * adjoint * double(tiles) + once);
  }
  return best;
}

}  // namespace

void allow_winograd(bool yes) { allowed.store(yes); }
bool winograd_allowed() { return allowed.load(); }

bool winograd_applies(const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  if (!allowed.load() || s.KH != s.KW || p.stride[0] != p.stride[1] || p.stride[0] >= s.KH ||
      p.dilation != std::array<int64_t, 2>{1, 1} || p.groups != 1)
    return false;
  const Phases phases(s);
  constexpr int64_t kMostTaps = 5, kFewestX = 12, kFewestY = 16;  // channels that repay transforms
  return phases.taps <= kMostTaps && s.IC * phases.count >= kFewestX && s.OC >= kFewestY;
}

WinogradPart winograd_part(const Conv2dShape& s, Pass pass) {
  WinogradPart best{0, 0, 0};
  if (!winograd_applies(s)) return best;
  const double direct = axis_of(s, 0, false).taps(0, s.OH) * axis_of(s, 1, false).taps(0, s.OW);
  best.cost = 0.9 * 1.05 * double(ceil_div(s.N, kLanes)) * direct;
  const Phases phases(s);
  best = quickest(s, pass, phases, best);
  // Maps of 3 x 3, 5 x 5, 6 x 6 or 9 x 9 take fewer products in tiles of 3 x 3, 25 for each, than
  // in those of 4 x 4 with 36.
  if (phases.taps == 3 && phases.stride == 1) best = quickest(s, pass, Phases(s, 5), best);
  return best;
}

}  // namespace fastconv::cpu
