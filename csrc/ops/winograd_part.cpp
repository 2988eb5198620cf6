// Which outputs of a convolution Winograd's algorithm computes quicker than the formula: a model of
// its cost, from the shape alone.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "ops/winograd.h"
#include "ops/winograd_tiles.h"

namespace fastconv {
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

}  // namespace

void allow_winograd(bool yes) { allowed.store(yes); }
bool winograd_allowed() { return allowed.load(); }

bool winograd_applies(const Conv2dShape& s) {
  const Conv2dParams& p = s.params;
  if (!allowed.load() || s.KH != s.KW || p.stride[0] != p.stride[1] || p.stride[0] >= s.KH ||
      p.dilation != std::array<int64_t, 2>{1, 1} || p.groups != 1)
    return false;
  const Phases phases(s);
  constexpr int64_t kMostTaps = 5, kFewestX = 12, kFewestY = 16;  // channels that repay transforms
  return phases.taps <= kMostTaps && s.IC * phases.count >= kFewestX && s.OC >= kFewestY;
}

WinogradPart winograd_part(const Conv2dShape& s, Pass pass) {
  const Conv2dParams& p = s.params;
  const WinogradPart none{0, 0};
  if (!winograd_applies(s)) return none;
  const Phases phases(s);
  const int64_t size = phases.tile, stride = phases.stride;
  const bool by_weight = pass == Pass::backward_weight, by_input = pass == Pass::backward_input;
  const Axis y_rows{s.OH, s.IH, -p.pads[0], s.KH, stride};
  const Axis y_cols{s.OW, s.IW, -p.pads[2], s.KW, stride};
  // Cycles for each pair of channels, of a core with one product a cycle; transforms as measured.
  const double blocks = double(ceil_div(s.N, kLanes)), IC = double(s.IC), OC = double(s.OC);
  const double direct = blocks * y_rows.taps(0, s.OH) * y_cols.taps(0, s.OW);
  // Transforms of six by six points, and of other pixels at the other end; short sums begin and end
  // more often.
  const double six = 220.0;
  const double other = size == 4 ? 220.0 : size == 3 ? 160.0 : 110.0;
  const double x_channels = IC * double(phases.count), sum = by_input ? OC : x_channels;
  const double vectors = std::min(x_channels, OC) / double(kLanes);  // by weight, filled or not
  const double overhead = by_weight ? 1.1 * std::ceil(vectors) / vectors : 1.05 * (1 + 6 / sum);
  double tile = phases.products() * overhead;
  double once = 16.0 * double(phases.count);
  if (by_weight)
    tile += (2 * six * x_channels + other * OC) / (IC * OC), once *= 36.0 / 16.0;
  else if (by_input)
    tile += (six * OC + other * x_channels) / (IC * OC);
  else
    tile += (six * x_channels + other * OC) / (IC * OC);
  WinogradPart best = none;
  double best_cost = 0.9 * 1.05 * direct;
  if (stride > 1) {
    // By input, all that windows meet.
    const auto met = [&](int64_t outputs, int64_t pad, int64_t inputs) {
      return std::clamp<int64_t>((outputs - 1) * stride + s.KH - pad, 0, inputs);
    };
    const int64_t rows = by_input ? met(s.OH, p.pads[0], s.IH) : s.OH;
    const int64_t cols = by_input ? met(s.OW, p.pads[2], s.IW) : s.OW;
    if (rows == 0 || cols == 0) return none;
    const TileGrid grid = by_input ? grid_of(Positions(phases, p.pads[0], rows).count,
                                             Positions(phases, p.pads[2], cols).count, size)
                                   : grid_of(rows, cols, size);
    return blocks * tile * double(grid.tiles()) + once < best_cost ? WinogradPart{rows, cols}
                                                                   : none;
  }
  const Axis rows = by_input ? Axis{s.IH, s.OH, p.pads[0] - s.KH + 1, s.KH, 1} : y_rows;
  const Axis cols = by_input ? Axis{s.IW, s.OW, p.pads[2] - s.KW + 1, s.KW, 1} : y_cols;
  // A tile for one last row (or column) costs more than its products, which are few beside padding.
  constexpr double kStrip = 1.5;
  for (const int64_t R : {rows.outputs, rows.outputs - 1})
    for (const int64_t C : {cols.outputs, cols.outputs - 1}) {
      if ((R < rows.outputs && (R % size != 0 || R == 0 || by_weight)) ||
          (C < cols.outputs && (C % size != 0 || C == 0 || by_weight)))
        continue;
      const double strips = rows.taps(R, rows.outputs) * cols.taps(0, cols.outputs) +
                            rows.taps(0, R) * cols.taps(C, cols.outputs);
      const double cost =
          blocks * (tile * double(grid_of(R, C, size).tiles()) + kStrip * strips) + once;
      if (cost < best_cost) best = {R, C}, best_cost = cost;
    }
  if (by_input) {
    // All tiles of an image must stay in L2 together; adding up its pixels costs more than writing.
    constexpr int64_t kMostVectors = 24 * 1024;
    const int64_t tiles = grid_of(s.OH, s.OW, size).tiles();
    const double adjoint = 1.1 * double(phases.points) + (other * OC + 1.6 * six * IC) / (IC * OC);
    const double cost = blocks * adjoint * double(tiles) + once;
    if (phases.points * s.OC * tiles <= kMostVectors && cost < best_cost) best = {s.IH, s.IW, true};
  }
  return best;
}

}  // namespace fastconv
