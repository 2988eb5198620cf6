// Winograd forward and by input: transform the tiles of x, 36 independent matrix products over
// channels, transform back.
#include "cpu/conv/winograd/winograd.h"

#include <algorithm>
#include <atomic>

#include "cpu/conv/winograd/phases.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/cache_size.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// Forward, and by input with the weights flipped and the channels exchanged; or the adjoint of
// forward, whose tiles are those of the outputs: of x there then, which is dy. Of the two images,
// that of the convolution's input has the phases of the stride.
struct TiledCorrelation {
  struct Image {
    int64_t channels, phases, rows, cols, row0, col0, stride;  // from row0, col0 on there are tiles
  };

  const Conv2dShape& s;
  bool by_input, adjoint;
  Image x, y;
  Phases phases;
  TileGrid grid;
  int64_t K = y.channels * y.phases, C = x.channels * x.phases;

  static TiledCorrelation forward(const Conv2dShape& s, const WinogradPart& part) {
    const Geometry& p = s.geometry;
    const Phases phases(s, part.points);
    return {s,
            false,
            false,
            {s.IC, p.stride[0] * p.stride[0], s.IH, s.IW, -p.pads[0], -p.pads[2], p.stride[0]},
            {s.OC, 1, s.OH, s.OW, 0, 0, 1},
            phases,
            grid_of(part.rows, part.cols, phases.tile)};
  }
  static TiledCorrelation backward(const Conv2dShape& s, const WinogradPart& part) {
    const Geometry& p = s.geometry;
    const Phases phases(s, part.points);
    const Positions rows(phases, p.pads[0], part.rows), cols(phases, p.pads[2], part.cols);
    const int64_t before = phases.taps - 1, stride = phases.stride;
    return {s,
            true,
            false,
            {s.OC, 1, s.OH, s.OW, rows.first - before, cols.first - before, 1},
            {s.IC, phases.count, s.IH, s.IW, rows.first * stride - p.pads[0],
             cols.first * stride - p.pads[2], stride},
            phases,
            grid_of(rows.count, cols.count, phases.tile)};
  }
  static TiledCorrelation adjoint_of(const Conv2dShape& s, const WinogradPart& part) {
    const Phases phases(s, part.points);
    return {s,
            true,
            true,
            {s.OC, 1, s.OH, s.OW, 0, 0, 1},
            {s.IC, 1, s.IH, s.IW, -s.geometry.pads[0], -s.geometry.pads[2], 1},
            phases,
            grid_of(s.OH, s.OW, phases.tile)};
  }

  WinogradGrid tiles(const Image& image, int64_t phase, int64_t first, int64_t count) const {
    int64_t row = image.row0, col = image.col0;
    if (image.phases > 1) {
      const WinogradTaps at = phases[phase];
      row += at.row, col += at.col;
      if (by_input) {
        row -= Positions::higher(phases, at.row) * image.stride;
        col -= Positions::higher(phases, at.col) * image.stride;
      }
    }
    return {image.rows,  image.cols,         row,         col, grid.cols, first, count,
            phases.taps, phases.axis_points, image.stride};
  }

  // v[point][c][tile] of the tiles begin .. end - 1 for the channels from c0 on.
  void transform_x(float* v, int64_t v_point, int64_t v_c, const float* images, int64_t begin,
                   int64_t end, int64_t c0, int64_t count) const {
    const auto transform = adjoint ? cpu::kernels().winograd_dy : cpu::kernels().winograd_input;
    for_each_block(
        begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t tiles_done) {
          for_each_block(c0, c0 + count, x.channels,
                         [&](int64_t phase, int64_t c, int64_t channels, int64_t done) {
                           transform(v + done * v_c + tiles_done * kLanes, v_point, v_c,
                                     images + (block * x.channels + c) * x.rows * x.cols * kLanes,
                                     channels, tiles(x, phase, first, n));
                         });
        });
  }

  // What the points m[point][k][tile] of the same tiles make of the channels k0 .. k0 + count - 1.
  // Returns whether all of it is finite.
  bool transform_y(float* images, const float* m, int64_t m_point, int64_t m_k, int64_t begin,
                   int64_t end, int64_t k0, int64_t count, const float* bias, bool relu,
                   bool streaming) const {
    bool finite = true;
    for_each_block(
        begin, end, grid.tiles(), [&](int64_t block, int64_t first, int64_t n, int64_t tiles_done) {
          for_each_block(k0, k0 + count, y.channels,
                         [&](int64_t phase, int64_t k, int64_t channels, int64_t done) {
                           float* to = images + (block * y.channels + k) * y.rows * y.cols * kLanes;
                           const float* from = m + done * m_k + tiles_done * kLanes;
                           const float* start = bias ? bias + k : nullptr;
                           const WinogradGrid at = tiles(y, phase, first, n);
                           const Kernels& kernels = cpu::kernels();
                           finite &= adjoint
                                         ? kernels.winograd_input_adjoint(to, from, m_point, m_k,
                                                                          channels, start, at,
                                                                          first + n == grid.tiles())
                                         : kernels.winograd_output(to, from, m_point, m_k, channels,
                                                                   start, relu, at, streaming);
                         });
        });
    return finite;
  }
};

// A part of the products: so many channels, from k0 and c0 on.
struct ChannelChunk {
  int64_t k0, K, c0, C;
};

// Transformed weights u[point][k][c] of at most so many channels of y and x.
struct Weights {
  Weights(const TiledCorrelation& correlation, int64_t K, int64_t C)
      : p(correlation), row(conflict_free_stride(C)), point(conflict_free_stride(K * row)) {}

  const TiledCorrelation& p;
  int64_t row, point;  // strides

  int64_t size() const { return p.phases.points * point; }

  void transform(float* u, const float* w, const ChannelChunk& part) const {
    const int64_t w_ic = p.s.KH * p.s.KW, w_oc = p.s.IC * w_ic;
    const int64_t w_c = p.by_input ? w_oc : w_ic, w_k = p.by_input ? w_ic : w_oc;
    // The kernels of channel k of y and of those of x that follow `from` in the same phase, sixteen
    // at most. Returns how many.
    const auto transform_pairs = [&](int64_t k, int64_t from, int64_t ahead) {
      const int64_t of_y = part.k0 + k, of_x = part.c0 + from, c = of_x % p.x.channels;
      const int64_t pairs = std::min({kLanes, p.x.channels - c, part.C - from});
      const int64_t phase = of_y / p.y.channels + of_x / p.x.channels;
      cpu::kernels().winograd_weight(
          u + k * row + from, point, w + of_y % p.y.channels * w_k + c * w_c, w_c,
          static_cast<int>(pairs), p.phases[phase], p.by_input && !p.adjoint, ahead);
      return pairs;
    };
    // Along the rows of w, one of which is prefetched while those before it are read.
    if (p.by_input)
      parallel_for(ceil_div(part.C, kLanes), [&](int64_t block) {
        for (int64_t k = 0; k < part.K; ++k) transform_pairs(k, block * kLanes, kLanes * w_c);
      });
    else
      for_chunks(part.K, part.C * 16, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k)
          for (int64_t c = 0; c < part.C;)
            c += transform_pairs(k, c, ceil_div(8 * kLanes, part.C) * w_k);
      });
  }
};

// The products of a part of the channels and of `tiles` tiles at the points first .. last - 1:
// m[point][k][tile] (+)= u[point][k][c] * v[point][c][tile].
struct Products {
  const Weights& weights;
  int64_t tiles, v_point, m_point;

  void operator()(float* m, const float* v, const float* u, const ChannelChunk& part, int64_t first,
                  int64_t last, bool accumulate) const {
    // Weights that no L2 holds are prefetched.
    constexpr int64_t kNear = 1 << 20;
    const TiledCorrelation& p = weights.p;
    BroadcastTile args{};
    args.taps = args.rows = 1, args.cols = tiles;
    args.x_group = v_point, args.x_c = tiles * kLanes, args.x_col = kLanes;
    args.w_group = weights.point, args.w_k = weights.row, args.w_c = 1;
    args.x_tap = args.w_tap = &cpu::kNoOffset;
    args.y_group = m_point, args.y_k = tiles * kLanes, args.y_col = kLanes;
    args.tail = kLanes;
    args.accumulate = accumulate, args.prefetch_w = weights.size() > kNear;
    for (int64_t point = first; point < last; point += args.groups) {
      const Phases::Range phases = p.phases.at_point(point, p.by_input);
      args.groups = 1;
      while (point + args.groups < last &&
             p.phases.at_point(point + args.groups, p.by_input) == phases)
        ++args.groups;
      // The channels of these phases, of y by input, else of x.
      const int64_t per_phase = p.by_input ? p.y.channels : p.x.channels;
      const int64_t from = p.by_input ? part.k0 : part.c0, all = p.by_input ? part.K : part.C;
      const int64_t begin = std::clamp<int64_t>(phases.first * per_phase - from, 0, all);
      const int64_t end = std::clamp<int64_t>(phases.last * per_phase - from, 0, all);
      const int64_t k_begin = p.by_input ? begin : 0, k_end = p.by_input ? end : part.K;
      const int64_t c_begin = p.by_input ? 0 : begin, c_end = p.by_input ? part.C : end;
      float* to = m + point * m_point;
      args.K = k_end - k_begin, args.C = c_end - c_begin;
      args.x = v + point * v_point + c_begin * args.x_c;
      args.w = u + point * weights.point + k_begin * weights.row + c_begin;
      args.y = to + k_begin * args.y_k;
      for (int64_t g = 0; g < args.groups && !accumulate; ++g, to += m_point) {
        const int64_t none = args.C == 0 ? part.K : k_begin;
        std::fill_n(to, none * args.y_k, 0.0f);
        std::fill(to + k_end * args.y_k, to + part.K * args.y_k, 0.0f);
      }
      if (args.K > 0 && args.C > 0) cpu::kernels().broadcast_tile(args);
    }
  }
};

// The tasks are tiles, as many at a time as stay in L2 with all their channels while the output
// channels pass over them; at least three, so that the broadcast tile is nearly square.
bool run_by_tiles(float* y, const float* x, const float* w, const float* bias, bool relu,
                  int64_t all, const TiledCorrelation& p, bool streaming, int64_t min_tasks) {
  constexpr int64_t kPointVectors = 1024 * 1024 / (kLanes * 4);
  const int64_t points = p.phases.points;
  int64_t tiles_of_task = std::clamp<int64_t>(kPointVectors / (points * p.C), 4, 48);
  tiles_of_task = std::min(tiles_of_task, std::max<int64_t>(4, ceil_div(all, min_tasks)));
  if (tiles_of_task == 4 && all % 12 == 0 && all < 16 * tiles_of_task)
    tiles_of_task = 3;  // 36 tiles: nine tasks are too uneven
  tiles_of_task = ceil_div(all, ceil_div(all, tiles_of_task));
  if (p.adjoint)
    tiles_of_task =
        ceil_div(tiles_of_task, p.grid.tiles()) * p.grid.tiles();  // tiles of an image overlap
  // Inside a task of a larger operation, whose arrays are in L2 too, fewer at a time: with their
  // results in half of it.
  const int64_t half = l2_bytes() / 2 / (points * (p.C + 32) * kLanes * 4);
  const int64_t most =
      min_tasks == 1 ? std::min(tiles_of_task, std::max<int64_t>(3, half)) : tiles_of_task;
  const int64_t step = ceil_div(tiles_of_task, ceil_div(tiles_of_task, most));
  // Where the points of all channels do not stay in L2, they are read again for each chunk of
  // output channels: in chunks as large as leave their results there, 32 channels or 64.
  const bool far = points * p.C * step * kLanes * 4 > l2_bytes() / 2;
  const int64_t chunk = far && points * 64 * step * kLanes * 4 <= l2_bytes() / 3 ? 64 : 32;
  const int64_t tile_tasks = ceil_div(all, tiles_of_task);
  const int64_t k_tasks = std::clamp<int64_t>(min_tasks / tile_tasks, 1, ceil_div(p.K, chunk));
  const int64_t k_step = ceil_div(p.K, k_tasks);

  // Weights that would not stay in a cache anyway are transformed chunk by chunk, each time they
  // are needed: that costs less than writing them to memory and reading them again.
  constexpr int64_t kCachedFloats = int64_t{4} << 20;
  const bool in_chunks = points * p.K * p.C > kCachedFloats;
  const Weights weights(p, in_chunks ? std::min(chunk, k_step) : p.K, p.C);
  Scratch<float> u_all(in_chunks ? 1 : weights.size());
  if (!in_chunks) weights.transform(u_all.data(), w, {0, p.K, 0, p.C});

  std::atomic<bool> finite{true};
  parallel_for(tile_tasks * k_tasks, [&](int64_t task) {
    const int64_t first = task / k_tasks * tiles_of_task,
                  last = std::min(all, first + tiles_of_task);
    const int64_t k_begin = task % k_tasks * k_step, k_end = std::min(p.K, k_begin + k_step);
    for (int64_t begin = first; begin < last; begin += step) {
      const int64_t end = std::min(last, begin + step);
      const int64_t row = (end - begin) * kLanes;
      const Products products{weights, end - begin, conflict_free_stride(p.C * row),
                              conflict_free_stride(chunk * row)};
      Scratch<float> v(points * products.v_point), m(points * products.m_point);
      Scratch<float> u_own(in_chunks ? weights.size() : 1);
      p.transform_x(v.data(), products.v_point, row, x, begin, end, 0, p.C);
      for (int64_t k = k_begin; k < k_end; k += chunk) {
        const ChannelChunk part{k, std::min(chunk, k_end - k), 0, p.C};
        if (in_chunks) weights.transform(u_own.data(), w, part);
        const float* u = in_chunks ? u_own.data() : u_all.data() + k * weights.row;
        products(m.data(), v.data(), u, part, 0, points, false);
        if (!p.transform_y(y, m.data(), products.m_point, row, begin, end, k, part.K, bias, relu,
                           streaming))
          finite.store(false, std::memory_order_relaxed);
      }
    }
  });
  return finite.load();
}

// The tasks are points: for a few tiles, whose weights are the largest array. A chunk of them is
// transformed at a time, by all threads, and read once. So many channels that all chunks together
// stay in L3.
bool run_by_points(float* y, const float* x, const float* w, const float* bias, bool relu,
                   int64_t all, const TiledCorrelation& p, bool streaming) {
  constexpr int64_t kVFloats = 3 << 19, kUFloats = 1 << 20;
  const int64_t row = all * kLanes, points = p.phases.points;
  const auto even = [](int64_t channels, int64_t most) {
    return ceil_div(ceil_div(channels, ceil_div(channels, std::max(kLanes, most))), kLanes) *
           kLanes;
  };
  const int64_t c_step = even(p.C, kVFloats / (points * row));
  const int64_t k_step = even(p.K, kUFloats / (points * c_step));
  const Weights weights(p, k_step, c_step);
  const Products products{weights, all, conflict_free_stride(c_step * row),
                          conflict_free_stride(p.K * row)};
  Scratch<float> v(points * products.v_point), u(weights.size()), m(points * products.m_point);
  for (int64_t c = 0; c < p.C; c += c_step) {
    const int64_t C = std::min(c_step, p.C - c);
    parallel_ranges(C, 16, [&](int64_t begin, int64_t end) {
      p.transform_x(v.data() + begin * row, products.v_point, row, x, 0, all, c + begin,
                    end - begin);
    });
    for (int64_t k = 0; k < p.K; k += k_step) {
      const ChannelChunk part{k, std::min(k_step, p.K - k), c, C};
      weights.transform(u.data(), w, part);
      parallel_for(points, [&](int64_t point) {
        products(m.data() + k * row, v.data(), u.data(), part, point, point + 1, c > 0);
      });
    }
  }
  constexpr int64_t kShare = 8;
  std::atomic<bool> finite{true};
  parallel_for(ceil_div(p.K, kShare), [&](int64_t task) {
    const int64_t k = task * kShare;
    if (!p.transform_y(y, m.data() + k * row, products.m_point, row, 0, all, k,
                       std::min(kShare, p.K - k), bias, relu, streaming))
      finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

bool run(float* y, const float* x, const float* w, const float* bias, bool relu, int64_t blocks,
         const TiledCorrelation& p, bool streaming, int64_t min_tasks) {
  constexpr int64_t kFewTiles = 16, kFewPixels = 4608;
  const int64_t all = blocks * p.grid.tiles();
  const bool few = all <= kFewTiles && p.K * all <= kFewPixels;
  if (few && min_tasks > 1) return run_by_points(y, x, w, bias, relu, all, p, streaming);
  return run_by_tiles(y, x, w, bias, relu, all, p, streaming, min_tasks);
}

}  // namespace

bool winograd_forward(float* y, const float* x, const float* w, const float* bias, bool relu,
                      int64_t blocks, const Conv2dShape& s, const WinogradPart& part,
                      bool streaming, int64_t min_tasks) {
  return run(y, x, w, bias, relu, blocks, TiledCorrelation::forward(s, part), streaming, min_tasks);
}

bool winograd_backward_input(float* dx, const float* dy, const float* w, const float* bias,
                             int64_t blocks, const Conv2dShape& s, const WinogradPart& part,
                             bool streaming, int64_t min_tasks) {
  const auto p =
      part.adjoint ? TiledCorrelation::adjoint_of(s, part) : TiledCorrelation::backward(s, part);
  return run(dx, dy, w, bias, false, blocks, p, streaming, min_tasks);
}

}  // namespace fastconv::cpu
