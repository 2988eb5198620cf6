// Winograd by weight: du[point] = dy transformed [K][samples] * x transformed [samples][C], a
// sample being one lane of one tile; then the adjoint of the transform of weights.
#include "ops/winograd.h"

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/winograd_tiles.h"

namespace fastconv {

int64_t weight_slices(const Conv2dShape& s) {
  constexpr int64_t kMost = 8, kPartialFloats = int64_t{1} << 21;
  const int64_t all = ceil_div(s.N, kLanes) * grid_of(s.OH, s.OW, tile_size(s)).tiles();
  const int64_t slices =
      std::min({kPartialFloats / (kPoints * s.OC * s.IC), kMost, ceil_div(all, kLanes)});
  return slices < 4 ? 0 : slices;
}

namespace {

struct WeightGradient {
  const Conv2dShape& s;
  TileGrid grid;
  int64_t K, C, row;  // row: floats from sample to sample of x

  explicit WeightGradient(const Conv2dShape& shape)
      : s(shape),
        grid(grid_of(s.OH, s.OW, tile_size(s))),
        K(s.OC),
        C(s.IC),
        row(point_stride(s.IC)) {}

  int64_t taps() const { return s.KH * s.KW; }

  // v[point][c][tile] of the tiles begin .. end - 1, in lanes.
  void transform_x(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t begin,
                   int64_t end) const {
    for_each_block(
        begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t done) {
          cpu::kernels().winograd_input(v + done * kLanes, v_point, v_c,
                                        x + block * C * s.IH * s.IW * kLanes, C, x_grid(first, n));
        });
  }

  // v[point][sample][row] of one tile: transposed on its way out of the transform, sixteen channels
  // of sixteen samples at a time.
  void transform_x_transposed(float* v, int64_t v_point, const float* x, int64_t tile) const {
    const cpu::Kernels& kernels = cpu::kernels();
    constexpr int64_t kPart = kLanes * kLanes + kLanes;
    Scratch<float> lanes(kPoints * kPart);
    for (int64_t c = 0; c < C; c += kLanes) {
      const int64_t channels = std::min(kLanes, C - c);
      kernels.winograd_input(lanes.data(), kPart, kLanes,
                             x + (tile / grid.tiles() * C + c) * s.IH * s.IW * kLanes, channels,
                             x_grid(tile % grid.tiles(), 1));
      for (int64_t point = 0; point < kPoints; ++point)
        kernels.to_plain(v + point * v_point + c, row, lanes.data() + point * kPart, kLanes,
                         channels, kLanes);
    }
  }

  // m[point][k][sample] of the channels k0 .. k0 + count - 1.
  void transform_dy(float* m, int64_t m_point, int64_t m_k, const float* dy, int64_t k0,
                    int64_t count, int64_t begin, int64_t end) const {
    for_each_block(
        begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t done) {
          cpu::kernels().winograd_dy(m + done * kLanes, m_point, m_k,
                                     dy + (block * K + k0) * s.OH * s.OW * kLanes, count,
                                     {s.OH, s.OW, 0, 0, grid.cols, first, n, tile_size(s)});
        });
  }

  cpu::WinogradGrid x_grid(int64_t first, int64_t count) const {
    return {s.IH,  s.IW,  -s.params.pads[0], -s.params.pads[2], grid.cols,
            first, count, tile_size(s)};
  }

  // du[point][k][c] for a share of the channels, (+)= the product over `samples`.
  void product(float* du, int64_t du_point, int64_t du_k, const float* m, int64_t m_point,
               int64_t m_k, int64_t k_count, const float* v, int64_t v_point, int64_t c_count,
               int64_t samples, bool accumulate) const {
    cpu::TileSweep sweep{};
    sweep.groups = kPoints, sweep.K = k_count, sweep.C = samples;
    sweep.taps = sweep.rows = 1, sweep.cols = ceil_div(c_count, kLanes);
    sweep.x = v;
    sweep.x_group = v_point, sweep.x_c = row, sweep.x_col = kLanes;
    sweep.w = m;
    sweep.w_group = m_point, sweep.w_k = m_k, sweep.w_c = 1;
    sweep.x_tap = sweep.w_tap = &kNoOffset;
    sweep.y = du;
    sweep.y_group = du_point, sweep.y_k = du_k, sweep.y_col = kLanes;
    sweep.tail = static_cast<int>(c_count - (sweep.cols - 1) * kLanes);
    sweep.accumulate = accumulate;
    cpu::kernels().tile_sweep(sweep);
  }
};

// Few channels and many tiles: sums over the tiles in the dot tile, whose runs are long enough to
// repay adding up lanes at the end. Slices of the tiles are summed side by side and added in order.
void by_slices(float* dw, const float* dy, const float* x, int64_t all, int64_t slices,
               const WeightGradient& g) {
  // One point's tiles of both operands stay in L2 while their product is taken.
  constexpr int64_t kPointVectors = 512 * 1024 / (kLanes * 4);
  const int64_t slice_tiles = ceil_div(all, slices), pairs = g.K * g.C;
  int64_t cut =
      std::clamp<int64_t>(kPointVectors / (g.C + g.K), 8, std::max<int64_t>(8, slice_tiles));
  cut = ceil_div(slice_tiles, ceil_div(slice_tiles, cut));
  const int64_t du_point = point_stride(pairs);
  Scratch<float> du(slices * kPoints * du_point);
  parallel_for(slices, [&](int64_t slice) {
    const int64_t slice_begin = all * slice / slices, slice_end = all * (slice + 1) / slices;
    const int64_t v_point = point_stride(g.C * cut * kLanes);
    const int64_t m_point = point_stride(g.K * cut * kLanes);
    Scratch<float> v(kPoints * v_point), m(kPoints * m_point);
    Scratch<int64_t> channels(g.C);
    for (int64_t begin = slice_begin; begin < slice_end; begin += cut) {
      const int64_t end = std::min(begin + cut, slice_end), stride = (end - begin) * kLanes;
      for (int64_t c = 0; c < g.C; ++c) channels.data()[c] = c * stride;
      g.transform_x(v.data(), v_point, stride, x, begin, end);
      g.transform_dy(m.data(), m_point, stride, dy, 0, g.K, begin, end);
      for (int64_t point = 0; point < kPoints; ++point) {
        cpu::DotSweep sweep{};
        sweep.K = g.K, sweep.J = g.C, sweep.images = sweep.rows = 1, sweep.cols = end - begin;
        sweep.a = m.data() + point * m_point;
        sweep.a_k = stride, sweep.a_col = kLanes;
        sweep.b = v.data() + point * v_point;
        sweep.b_col = kLanes, sweep.b_j = channels.data();
        sweep.out = du.data() + (slice * kPoints + point) * du_point;
        sweep.out_k = g.C, sweep.out_j = 1;
        sweep.accumulate = begin > slice_begin;
        sweep.tail = kLanes;
        cpu::kernels().dot_sweep(sweep);
      }
    }
  });
  parallel_ranges(pairs, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t point = 0; point < kPoints; ++point)
      for (int64_t slice = 1; slice < slices; ++slice) {
        float* sum = du.data() + point * du_point;
        const float* part = du.data() + (slice * kPoints + point) * du_point;
        for (int64_t i = begin; i < end; ++i) sum[i] += part[i];
      }
    for (int64_t i = begin; i < end; i += kLanes)
      cpu::kernels().winograd_dw(dw + i * g.taps(), du.data() + i, du_point,
                                 static_cast<int>(std::min(kLanes, end - i)),
                                 static_cast<int>(g.s.KH));
  });
}

// Many channels, whose sums are short: the broadcast tile has no lanes to add up. It wants vectors
// of channels, so x is transposed. All tiles are transformed once, then shares of the pairs of
// channels, whose du stays in L2, pass over them.
void by_channels(float* dw, const float* dy, const float* x, int64_t all, const WeightGradient& g) {
  constexpr int64_t kShareK = 32, kShareC = 128;    // 590 kB of du
  constexpr int64_t kCutFloats = int64_t{8} << 20;  // of transformed tiles, in L3 at best
  int64_t cut = std::clamp<int64_t>(kCutFloats / (kPoints * kLanes * (g.row + g.K)), 4,
                                    std::max<int64_t>(4, all));
  const int64_t cuts = ceil_div(all, cut);
  cut = ceil_div(all, cuts);
  const int64_t k_shares = ceil_div(g.K, kShareK), c_shares = ceil_div(g.C, kShareC);
  const int64_t v_point = point_stride(cut * kLanes * g.row);
  const int64_t m_k = cut * kLanes, m_point = point_stride(g.K * m_k);
  constexpr int64_t du_point = kShareK * kShareC + kLanes, du_size = kPoints * du_point;
  Scratch<float> v(kPoints * v_point), m(kPoints * m_point);
  Scratch<float> sums(cuts > 1 ? k_shares * c_shares * du_size : 1);
  for (int64_t begin = 0; begin < all; begin += cut) {
    const int64_t end = std::min(begin + cut, all), tiles = end - begin;
    parallel_for(tiles + k_shares, [&](int64_t task) {
      if (task < tiles) {
        g.transform_x_transposed(v.data() + task * kLanes * g.row, v_point, x, begin + task);
      } else {
        const int64_t k0 = (task - tiles) * kShareK;
        g.transform_dy(m.data() + k0 * m_k, m_point, m_k, dy, k0, std::min(kShareK, g.K - k0),
                       begin, end);
      }
    });
    parallel_for(k_shares * c_shares, [&](int64_t task) {
      const int64_t k0 = task / c_shares * kShareK, c0 = task % c_shares * kShareC;
      const int64_t k_count = std::min(kShareK, g.K - k0), c_count = std::min(kShareC, g.C - c0);
      Scratch<float> own(cuts > 1 ? 1 : du_size);
      float* du = cuts > 1 ? sums.data() + task * du_size : own.data();
      g.product(du, du_point, kShareC, m.data() + k0 * m_k, m_point, m_k, k_count, v.data() + c0,
                v_point, c_count, tiles * kLanes, begin > 0);
      if (end < all) return;
      for (int64_t k = 0; k < k_count; ++k)
        for (int64_t c = 0; c < c_count; c += kLanes)
          cpu::kernels().winograd_dw(
              dw + ((k0 + k) * g.C + c0 + c) * g.taps(), du + k * kShareC + c, du_point,
              static_cast<int>(std::min(kLanes, c_count - c)), static_cast<int>(g.s.KH));
    });
  }
}

}  // namespace

void winograd_backward_weight(float* dw, const float* dy, const float* x, int64_t blocks,
                              const Conv2dShape& s) {
  const WeightGradient g(s);
  const int64_t all = blocks * g.grid.tiles();
  const int64_t slices = weight_slices(s);
  if (slices > 0)
    by_slices(dw, dy, x, all, slices, g);
  else
    by_channels(dw, dy, x, all, g);
}

}  // namespace fastconv
