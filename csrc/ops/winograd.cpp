// Winograd forward and by input: transform the tiles of x, 36 independent matrix products over
// channels, transform back. Which outputs are worth it.
#include "ops/winograd.h"

#include <algorithm>
#include <atomic>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/winograd_tiles.h"

namespace fastconv {
namespace {

std::atomic<bool> allowed{true};

// One axis of a correlation: output i meets inputs first + i .. first + i + kernel - 1, padding
// left out.
struct Axis {
  int64_t outputs, inputs, first, kernel;

  // Products of the outputs begin .. end - 1.
  double taps(int64_t begin, int64_t end) const {
    int64_t count = 0;
    for (int64_t i = first + begin; i < first + end; ++i)
      count += std::max<int64_t>(0, std::min(i + kernel, inputs) - std::max<int64_t>(i, 0));
    return double(count);
  }
};

// Forward, and by input with the weights turned and the channels exchanged; or the adjoint of
// forward, whose tiles are those of the outputs: of x there then, which is dy.
struct TiledCorrelation {
  const Conv2dShape& s;
  bool by_input, adjoint;
  int64_t K, C;  // channels of y and x
  int64_t x_rows, x_cols, y_rows, y_cols, row0, col0;

  static TiledCorrelation forward(const Conv2dShape& s) {
    return {
        s, false, false, s.OC, s.IC, s.IH, s.IW, s.OH, s.OW, -s.params.pads[0], -s.params.pads[2]};
  }
  static TiledCorrelation backward(const Conv2dShape& s) {
    return {s,
            true,
            false,
            s.IC,
            s.OC,
            s.OH,
            s.OW,
            s.IH,
            s.IW,
            s.params.pads[0] - s.KH + 1,
            s.params.pads[2] - s.KW + 1};
  }
  static TiledCorrelation adjoint_of(const Conv2dShape& s) {
    return {
        s, true, true, s.IC, s.OC, s.OH, s.OW, s.IH, s.IW, -s.params.pads[0], -s.params.pads[2]};
  }

  TileGrid grid(const WinogradPart& part) const {
    return adjoint ? grid_of(x_rows, x_cols, tile_size(s))
                   : grid_of(part.rows, part.cols, tile_size(s));
  }

  // v[point][c][tile] of the tiles begin .. end - 1 for the channels c0 .. c0 + count - 1.
  void transform_x(float* v, int64_t v_point, int64_t v_c, const float* x, const TileGrid& grid,
                   int64_t begin, int64_t end, int64_t c0, int64_t count) const {
    for_each_block(begin, end, grid.tiles(),
                   [&](int64_t block, int64_t first, int64_t n, int64_t done) {
                     const auto transform =
                         adjoint ? cpu::kernels().winograd_dy : cpu::kernels().winograd_input;
                     transform(v + c0 * v_c + done * kLanes, v_point, v_c,
                               x + (block * C + c0) * x_rows * x_cols * kLanes, count,
                               {x_rows, x_cols, adjoint ? 0 : row0, adjoint ? 0 : col0, grid.cols,
                                first, n, tile_size(s)});
                   });
  }
};

// Transformed weights u[point][k][c] of at most K channels of y.
struct Weights {
  Weights(const TiledCorrelation& correlation, int64_t K)
      : p(correlation), row(point_stride(p.C)), point(point_stride(K * row)) {}

  const TiledCorrelation& p;
  int64_t row, point;  // strides

  int64_t size() const { return kPoints * point; }

  // Of the channels k0 .. k0 + count - 1 of y.
  void transform(float* u, const float* w, int64_t k0, int64_t count) const {
    const int64_t taps = p.s.KH * p.s.KW, oc = p.s.IC * taps;
    const int64_t w_k = p.by_input ? taps : oc, w_c = p.by_input ? oc : taps;
    const auto transform_pairs = [&](int64_t k, int64_t c, int64_t ahead) {
      cpu::kernels().winograd_weight(u + k * row + c, point, w + (k0 + k) * w_k + c * w_c, w_c,
                                     static_cast<int>(std::min(kLanes, p.C - c)),
                                     static_cast<int>(p.s.KH), p.by_input && !p.adjoint, ahead);
    };
    // Along the rows of w, one of which is asked for while those before it are read.
    if (p.by_input)
      parallel_for(ceil_div(p.C, kLanes), [&](int64_t block) {
        for (int64_t k = 0; k < count; ++k) transform_pairs(k, block * kLanes, kLanes * w_c);
      });
    else
      parallel_ranges(count, ceil_div(int64_t{2048}, p.C), [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k)
          for (int64_t c = 0; c < p.C; c += kLanes)
            transform_pairs(k, c, ceil_div(8 * kLanes, p.C) * w_k);
      });
  }
};

void run(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
         const WinogradPart& part, const TiledCorrelation& p, bool streaming) {
  const TileGrid grid = p.grid(part);
  const int64_t all = blocks * grid.tiles();
  // The transformed tiles of a task stay in L2 while the output channels pass over them; at least
  // four, so that the broadcast tile is square.
  constexpr int64_t kPointVectors = 1024 * 1024 / (kLanes * 4), kChunk = 32;
  int64_t cut = std::clamp<int64_t>(kPointVectors / (kPoints * p.C), 4, 48);
  const int64_t wanted = tasks_wanted();
  cut = std::min(cut, std::max<int64_t>(4, ceil_div(all, wanted)));
  if (kPoints * p.C * all <= 2 * kPointVectors && p.K >= 4 * kChunk)
    cut = all;  // a few, transformed once for all tasks
  cut = ceil_div(all, ceil_div(all, cut));
  if (p.adjoint) cut = ceil_div(cut, grid.tiles()) * grid.tiles();  // tiles overlap in an image
  const int64_t tile_cuts = ceil_div(all, cut);
  const int64_t k_cuts = std::clamp<int64_t>(wanted / tile_cuts, 1, ceil_div(p.K, kChunk));
  const int64_t k_cut = ceil_div(p.K, k_cuts);

  // Weights that would not stay in a cache anyway are transformed chunk by chunk, each time they
  // are needed: that costs less than writing them to memory and reading them again.
  constexpr int64_t kCachedFloats = int64_t{4} << 20;
  const bool in_chunks = kPoints * p.K * p.C > kCachedFloats;
  const Weights weights(p, in_chunks ? std::min(kChunk, k_cut) : p.K);
  Scratch<float> u_all(in_chunks ? 1 : weights.size());
  if (!in_chunks) weights.transform(u_all.data(), w, 0, p.K);
  // Tiles that all tasks share are transformed once.
  const int64_t v_size = kPoints * point_stride(p.C * cut * kLanes);
  Scratch<float> v_all(tile_cuts == 1 ? v_size : 1);
  if (tile_cuts == 1)
    parallel_ranges(p.C, 16, [&](int64_t begin, int64_t end) {
      p.transform_x(v_all.data(), point_stride(p.C * all * kLanes), all * kLanes, x, grid, 0, all,
                    begin, end - begin);
    });

  parallel_for(tile_cuts * k_cuts, [&](int64_t task) {
    const int64_t begin = task / k_cuts * cut, end = std::min(all, begin + cut);
    const int64_t k_begin = task % k_cuts * k_cut, k_end = std::min(p.K, k_begin + k_cut);
    const int64_t v_c = (end - begin) * kLanes;
    const int64_t v_point = point_stride(p.C * v_c), m_point = point_stride(kChunk * v_c);
    Scratch<float> v_own(tile_cuts == 1 ? 1 : v_size), m(kPoints * m_point);
    Scratch<float> u_own(in_chunks ? weights.size() : 1);
    const float* v = tile_cuts == 1 ? v_all.data() : v_own.data();
    if (tile_cuts > 1) p.transform_x(v_own.data(), v_point, v_c, x, grid, begin, end, 0, p.C);
    for (int64_t k = k_begin; k < k_end; k += kChunk) {
      const int64_t count = std::min(kChunk, k_end - k);
      if (in_chunks) weights.transform(u_own.data(), w, k, count);
      cpu::TileSweep sweep{};
      sweep.groups = kPoints, sweep.K = count, sweep.C = p.C;
      sweep.taps = sweep.rows = 1, sweep.cols = end - begin;
      sweep.x = v;
      sweep.x_group = v_point, sweep.x_c = v_c, sweep.x_col = kLanes;
      sweep.w = in_chunks ? u_own.data() : u_all.data() + k * weights.row;
      sweep.w_group = weights.point;
      sweep.w_k = weights.row, sweep.w_c = 1;
      sweep.x_tap = sweep.w_tap = &kNoOffset;
      sweep.y = m.data();
      sweep.y_group = m_point, sweep.y_k = v_c, sweep.y_col = kLanes;
      sweep.tail = kLanes;
      cpu::kernels().tile_sweep(sweep);
      for_each_block(
          begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t done) {
            float* to = y + (block * p.K + k) * p.y_rows * p.y_cols * kLanes;
            const float *from = m.data() + done * kLanes, *start = bias ? bias + k : nullptr;
            const int64_t row0 = p.adjoint ? p.row0 : 0, col0 = p.adjoint ? p.col0 : 0;
            const cpu::WinogradGrid tiles{p.y_rows,  p.y_cols, row0, col0,
                                          grid.cols, first,    n,    tile_size(p.s)};
            if (p.adjoint)
              cpu::kernels().winograd_input_adjoint(to, from, m_point, v_c, count, start, tiles);
            else
              cpu::kernels().winograd_output(to, from, m_point, v_c, count, start, relu, tiles,
                                             streaming);
          });
    }
  });
}

}  // namespace

void allow_winograd(bool yes) { allowed.store(yes); }
bool winograd_allowed() { return allowed.load(); }

bool winograd_applies(const Conv2dShape& s) {
  const Conv2dParams& p = s.params;
  return allowed.load() && s.KH == s.KW && s.KH >= 3 && s.KH <= 5 && p.stride[0] == 1 &&
         p.stride[1] == 1 && p.dilation[0] == 1 && p.dilation[1] == 1 && p.groups == 1 &&
         s.IC >= 12 && s.OC >= 16;  // with fewer, too few products to repay the transforms
}

WinogradPart winograd_part(const Conv2dShape& s, Pass pass) {
  const Conv2dParams& p = s.params;
  const WinogradPart none{0, 0};
  const int64_t size = tile_size(s);
  if (!winograd_applies(s)) return none;
  // Cycles for each pair of channels, of a core with one product a cycle; transforms as measured.
  const double blocks = double(ceil_div(s.N, kLanes)), IC = double(s.IC), OC = double(s.OC);
  const bool by_input = pass == Pass::backward_input;
  const Axis rows =
      by_input ? Axis{s.IH, s.OH, p.pads[0] - s.KH + 1, s.KH} : Axis{s.OH, s.IH, -p.pads[0], s.KH};
  const Axis cols =
      by_input ? Axis{s.IW, s.OW, p.pads[2] - s.KW + 1, s.KW} : Axis{s.OW, s.IW, -p.pads[2], s.KW};
  const double direct = blocks * rows.taps(0, rows.outputs) * cols.taps(0, cols.outputs);
  // Transforms of six by six points, and of fewer pixels at the other end.
  const double six = 220.0, few = size == 4 ? 220.0 : size == 3 ? 160.0 : 110.0;
  const double in = by_input ? OC : IC, out = by_input ? IC : OC;
  double tile = 1.1 * double(kPoints) + (six * in + few * out) / (IC * OC), once = 16.0;
  if (pass == Pass::backward_weight) {
    tile = 1.1 * double(kPoints) + (2 * six * IC + 0.7 * few * OC) / (IC * OC);
    once = 36.0;
  }
  WinogradPart best = none;
  double best_cost = 0.9 * 1.05 * direct;
  // A tile for one last row (or column) costs more than its products, which are few beside padding.
  constexpr double kStrip = 1.5;
  for (const int64_t R : {rows.outputs, rows.outputs - 1})
    for (const int64_t C : {cols.outputs, cols.outputs - 1}) {
      if ((R < rows.outputs && (R % size != 0 || R == 0 || pass == Pass::backward_weight)) ||
          (C < cols.outputs && (C % size != 0 || C == 0 || pass == Pass::backward_weight)))
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
    const double adjoint = 1.1 * double(kPoints) + (few * in + 1.6 * six * out) / (IC * OC);
    const double cost = blocks * adjoint * double(tiles) + once;
    if (kPoints * s.OC * tiles <= kMostVectors && cost < best_cost) best = {s.IH, s.IW, true};
  }
  return best;
}

void winograd_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Conv2dShape& s, const WinogradPart& part,
                      bool streaming) {
  run(y, x, w, bias, relu, blocks, part, TiledCorrelation::forward(s), streaming);
}

void winograd_backward_input(float* dx, const float* dy, const float* w, const float* bias,
                             int64_t blocks, const Conv2dShape& s, const WinogradPart& part,
                             bool streaming) {
  const auto p = part.adjoint ? TiledCorrelation::adjoint_of(s) : TiledCorrelation::backward(s);
  run(dx, dy, w, bias, false, blocks, part, p, streaming);
}

}  // namespace fastconv
