// All three passes are the same three steps over blocks of tiles: transform, 36 independent matrix
// products over channels, transform back. The tiles of all lane blocks are counted through,
// tile f = block * tiles + tile, so that small images fill a block of tiles together.
#include "ops/winograd.h"

#include <algorithm>
#include <atomic>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"

namespace fastconv {
namespace {

constexpr int64_t kPoints = 36;
std::atomic<bool> allowed{true};

// The 36 points of a tile are written side by side. At distances of a power of two they would all
// fall into one set of the L1 cache; one line more spreads them.
int64_t point_stride(int64_t floats) { return ceil_div(floats, kLanes) * kLanes + kLanes; }

struct Grid {
  int64_t rows, cols;  // of tiles
  int64_t tiles() const { return rows * cols; }
};

Grid grid_of(int64_t y_rows, int64_t y_cols) { return {ceil_div(y_rows, 4), ceil_div(y_cols, 4)}; }

// Products that the formula needs along one axis, padding left out.
int64_t taps_inside(int64_t outputs, int64_t inputs, int64_t pad) {
  int64_t taps = 0;
  for (int64_t i = 0; i < outputs; ++i)
    for (int64_t r = 0; r < 3; ++r) taps += i + r >= pad && i + r - pad < inputs;
  return taps;
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

// u[36][K * C] from w[K * C][3][3].
void transform_weights(float* u, const float* w, int64_t pairs, bool turned) {
  const cpu::Kernels& kernels = cpu::kernels();
  parallel_ranges(pairs, 2048, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes)
      kernels.winograd_weight(u + i, point_stride(pairs), w + i * 9,
                              static_cast<int>(std::min(kLanes, end - i)), turned);
  });
}

// Forward, and by input with the weights turned and the channels exchanged.
struct Correlation3x3 {
  int64_t K, C;  // channels of y and x
  int64_t x_rows, x_cols, y_rows, y_cols, row0, col0;
  int64_t u_k, u_c;  // strides of a matrix of u
};

const int64_t kNoOffset = 0;

void run(float* y, const float* x, const float* u, const float* bias, bool relu, int64_t blocks,
         const Correlation3x3& p) {
  const Grid grid = grid_of(p.y_rows, p.y_cols);
  const int64_t all = blocks * grid.tiles();
  // The transformed tiles of a task stay in L2 while the output channels pass over them; at least
  // four, so that the broadcast tile is square.
  constexpr int64_t kPointVectors = 1024 * 1024 / (kLanes * 4), kChunk = 32;
  int64_t cut = std::clamp<int64_t>(kPointVectors / (kPoints * p.C), 4, 48);
  cut = std::min(cut, std::max<int64_t>(4, ceil_div(all, 8)));
  cut = ceil_div(all, ceil_div(all, cut));
  const int64_t tile_cuts = ceil_div(all, cut);
  const int64_t k_cuts = std::clamp<int64_t>(8 / tile_cuts, 1, ceil_div(p.K, kChunk));
  const int64_t k_cut = ceil_div(p.K, k_cuts);
  const cpu::Kernels& kernels = cpu::kernels();

  parallel_for(tile_cuts * k_cuts, [&](int64_t task) {
    const int64_t begin = task / k_cuts * cut, end = std::min(all, begin + cut),
                  count = end - begin;
    const int64_t k_begin = task % k_cuts * k_cut, k_end = std::min(p.K, k_begin + k_cut);
    const int64_t v_c = count * kLanes;
    const int64_t v_point = point_stride(p.C * v_c), m_point = point_stride(kChunk * v_c);
    Scratch<float> v(kPoints * v_point), m(kPoints * m_point);
    for_each_block(
        begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t done) {
          kernels.winograd_input(v.data() + done * kLanes, v_point, v_c,
                                 x + block * p.C * p.x_rows * p.x_cols * kLanes, p.C,
                                 {p.x_rows, p.x_cols, p.row0, p.col0, grid.cols, first, n});
        });
    for (int64_t k = k_begin; k < k_end; k += kChunk) {
      cpu::TileSweep sweep{};
      sweep.groups = kPoints, sweep.K = std::min(kChunk, k_end - k), sweep.C = p.C;
      sweep.taps = sweep.rows = 1, sweep.cols = count;
      sweep.x = v.data();
      sweep.x_group = v_point, sweep.x_c = v_c, sweep.x_col = kLanes;
      sweep.w = u + k * p.u_k;
      sweep.w_group = point_stride(p.K * p.C), sweep.w_k = p.u_k, sweep.w_c = p.u_c;
      sweep.x_tap = sweep.w_tap = &kNoOffset;
      sweep.y = m.data();
      sweep.y_group = m_point, sweep.y_k = v_c, sweep.y_col = kLanes;
      sweep.tail = kLanes;
      kernels.tile_sweep(sweep);
      for_each_block(begin, end, grid.tiles(),
                     [&](int64_t block, int64_t first, int64_t n, int64_t done) {
                       kernels.winograd_output(y + (block * p.K + k) * p.y_rows * p.y_cols * kLanes,
                                               m.data() + done * kLanes, m_point, v_c, sweep.K,
                                               bias ? bias + k : nullptr, relu,
                                               {p.y_rows, p.y_cols, 0, 0, grid.cols, first, n});
                     });
    }
  });
}

}  // namespace

void allow_winograd(bool yes) { allowed.store(yes); }
bool winograd_allowed() { return allowed.load(); }

bool winograd_pays(const Conv2dShape& s, Pass pass) {
  const Conv2dParams& p = s.params;
  if (!allowed.load() || s.KH != 3 || s.KW != 3 || p.stride[0] != 1 || p.stride[1] != 1 ||
      p.dilation[0] != 1 || p.dilation[1] != 1 || p.groups != 1)
    return false;
  if (s.IC < 16 || s.OC < 16) return false;  // too few products to repay the transforms
  // Cycles for each pair of channels, of a core with one product a cycle; transforms as measured.
  const bool by_input = pass == Pass::backward_input;
  const int64_t blocks = ceil_div(s.N, kLanes);
  const int64_t tiles = blocks * (by_input ? grid_of(s.IH, s.IW) : grid_of(s.OH, s.OW)).tiles();
  const double pairs = double(s.IC) * double(s.OC), products = 1.1 * kPoints * double(tiles);
  const double direct = 1.05 * double(blocks * taps_inside(s.OH, s.IH, p.pads[0]) *
                                      taps_inside(s.OW, s.IW, p.pads[2]));
  double transforms = 220.0 * double(tiles) * double(s.IC + s.OC) / pairs + 16.0;
  if (pass == Pass::backward_weight)
    transforms =
        300.0 * double(tiles) * (8.0 * double(s.IC) + double(s.OC)) / pairs + 4.0 * kPoints + 30.0;
  return products + transforms < 0.9 * direct;
}

void winograd_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Conv2dShape& s) {
  Scratch<float> u(kPoints * point_stride(s.OC * s.IC));
  transform_weights(u.data(), w, s.OC * s.IC, false);
  run(y, x, u.data(), bias, relu, blocks,
      {s.OC, s.IC, s.IH, s.IW, s.OH, s.OW, -s.params.pads[0], -s.params.pads[2], s.IC, 1});
}

void winograd_backward_input(float* dx, const float* dy, const float* w, const float* bias,
                             int64_t blocks, const Conv2dShape& s) {
  Scratch<float> u(kPoints * point_stride(s.OC * s.IC));
  transform_weights(u.data(), w, s.OC * s.IC, true);
  run(dx, dy, u.data(), bias, false, blocks,
      {s.IC, s.OC, s.OH, s.OW, s.IH, s.IW, s.params.pads[0] - 2, s.params.pads[2] - 2, 1, s.IC});
}

void winograd_backward_weight(float* dw, const float* dy, const float* x, int64_t blocks,
                              const Conv2dShape& s) {
  const Grid grid = grid_of(s.OH, s.OW);
  const int64_t all = blocks * grid.tiles(), K = s.OC, C = s.IC, pairs = K * C;
  // Slices of the tiles are summed side by side and added in order; shares of the output channels
  // give the threads work where the sums are too large to have many of them.
  constexpr int64_t kTasks = 8, kPartialFloats = int64_t{1} << 22;
  const int64_t slices = std::clamp<int64_t>(kPartialFloats / (kPoints * pairs), 1,
                                             std::min(kTasks, ceil_div(all, 16)));
  const int64_t k_cuts = std::clamp<int64_t>(kTasks / slices, 1, ceil_div(K, 24));
  const int64_t k_cut = ceil_div(K, k_cuts);
  // One point's tiles of both operands stay in L2 while their product is taken.
  constexpr int64_t kPointVectors = 512 * 1024 / (kLanes * 4);
  const int64_t slice_tiles = ceil_div(all, slices);
  int64_t cut = std::clamp<int64_t>(kPointVectors / (C + k_cut), 8, slice_tiles);
  cut = ceil_div(slice_tiles, ceil_div(slice_tiles, cut));
  const cpu::Kernels& kernels = cpu::kernels();
  const int64_t du_point = point_stride(pairs);
  Scratch<float> du(slices * kPoints * du_point);

  parallel_for(slices * k_cuts, [&](int64_t task) {
    const int64_t slice = task / k_cuts, k0 = task % k_cuts * k_cut,
                  k_count = std::min(k_cut, K - k0);
    const int64_t slice_begin = all * slice / slices, slice_end = all * (slice + 1) / slices;
    const int64_t v_point = point_stride(C * cut * kLanes);
    const int64_t m_point = point_stride(k_count * cut * kLanes);
    Scratch<float> v(kPoints * v_point), m(kPoints * m_point);
    Scratch<int64_t> channels(C);
    for (int64_t begin = slice_begin; begin < slice_end; begin += cut) {
      const int64_t end = std::min(begin + cut, slice_end), count = end - begin,
                    stride = count * kLanes;
      for (int64_t c = 0; c < C; ++c) channels.data()[c] = c * stride;
      for_each_block(
          begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t done) {
            kernels.winograd_input(
                v.data() + done * kLanes, v_point, stride, x + block * C * s.IH * s.IW * kLanes, C,
                {s.IH, s.IW, -s.params.pads[0], -s.params.pads[2], grid.cols, first, n});
            kernels.winograd_dy(m.data() + done * kLanes, m_point, stride,
                                dy + (block * K + k0) * s.OH * s.OW * kLanes, k_count,
                                {s.OH, s.OW, 0, 0, grid.cols, first, n});
          });
      for (int64_t point = 0; point < kPoints; ++point) {
        cpu::DotSweep sweep{};
        sweep.K = k_count, sweep.J = C, sweep.images = sweep.rows = 1, sweep.cols = count;
        sweep.a = m.data() + point * m_point;
        sweep.a_k = stride, sweep.a_col = kLanes;
        sweep.b = v.data() + point * v_point;
        sweep.b_col = kLanes, sweep.b_j = channels.data();
        sweep.out = du.data() + (slice * kPoints + point) * du_point + k0 * C;
        sweep.out_k = C, sweep.out_j = 1;
        sweep.accumulate = begin > slice_begin;
        sweep.tail = kLanes;
        kernels.dot_sweep(sweep);
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
      kernels.winograd_dw(dw + i * 9, du.data() + i, du_point,
                          static_cast<int>(std::min(kLanes, end - i)));
  });
}

}  // namespace fastconv
