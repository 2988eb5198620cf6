#include "cpu/conv/pooled/pooled.h"

#include <algorithm>
#include <vector>

#include "cpu/conv/direct/runs.h"
#include "cpu/conv/direct/window.h"
#include "cpu/conv/pooled/windows.h"
#include "cpu/conv/small_batch/channels.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

// Whether a sum is short enough: the weights of a tile leave room in L1. Narrow vectors make low
// tiles, which win only where pooling counts for much.
bool is_short(const Conv2dShape& s) {
  const int64_t longest = cpu::kernels().width == kLanes ? 512 : 64;
  return s.IC * s.KH * s.KW <= longest;
}

// Windows of two outputs side by side along an axis, of `kernel` taps: which pixels they meet.
std::vector<Run> window_runs(int64_t windows, int64_t pixels, int64_t kernel, int64_t stride,
                             int64_t pad, int64_t dilation) {
  return runs_of(windows, kernel, [=](int64_t i, int64_t tap) {
    const int64_t first = 2 * i * stride - pad + tap * dilation, second = first + stride;
    return second >= 0 && first < pixels;
  });
}

// Small batches: whether rows of outputs fill vectors, two of which make a vector of maxima.
bool rows_pay(const Conv2dShape& s) {
  const std::array<int64_t, 2> one{1, 1};
  const int64_t tile = 2 * cpu::kernels().width, across = s.OW / 2 * 2;
  return s.geometry.groups == 1 && s.geometry.stride == one && is_short(s) &&
         4 * across >= 3 * tile * ceil_div(across, tile);
}

}  // namespace

bool pooled_forward_applies(const Conv2dShape& s, const PostOps& post) {
  return s.N >= kLanes && pools_side_by_side(post) && s.geometry.groups == 1 && is_short(s) &&
         winograd_part(s, Pass::forward).rows == 0;
}

bool pooled_small_batch_applies(const Conv2dShape& s, const PostOps& post) {
  return s.N < kLanes && pools_side_by_side(post) && !winograd_small_batch_pays(s) &&
         (rows_pay(s) || channels_small_batch_pays(s));
}

void pooled_forward(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                    const Conv2dShape& s, bool relu) {
  constexpr int64_t kNear = 64 * 1024;  // floats of x that output channels pass over in turn
  const Geometry& g = s.geometry;
  const int64_t OH = s.OH / 2, OW = s.OW / 2, blocks = x.blocks();
  const auto row_runs = window_runs(OH, s.IH, s.KH, g.stride[0], g.pads[0], g.dilation[0]);
  const auto col_runs = window_runs(OW, s.IW, s.KW, g.stride[1], g.pads[2], g.dilation[1]);
  const int64_t x_cols = (2 * OW - 1) * g.stride[1] + (s.KW - 1) * g.dilation[1] + 1;
  const int64_t one_row = s.IC * 2 * g.stride[0] * x_cols * kLanes;
  const int64_t most =
      std::min(std::max<int64_t>(1, kNear / one_row), ceil_div(OH, ceil_div(kMinTasks, blocks)));
  const int64_t tiles = ceil_div(OH, most), tile_rows = ceil_div(OH, tiles);
  parallel_for(blocks * tiles, [&](int64_t task) {
    const int64_t block = task / tiles, row0 = task % tiles * tile_rows;
    const int64_t count = std::min(OH - row0, tile_rows);
    const int64_t x_rows = (2 * count - 1) * g.stride[0] + (s.KH - 1) * g.dilation[0] + 1;
    Scratch<float> scratch(s.IC * x_rows * x_cols * kLanes);
    Scratch<int64_t> taps(2 * s.KH * s.KW);
    const Window from =
        take_window(x.data() + block * s.IC * s.IH * s.IW * kLanes, s.IC, s.IH, s.IW,
                    2 * row0 * g.stride[0] - g.pads[0], -g.pads[2], x_rows, x_cols, scratch.data());
    PooledTile args{};
    args.K = s.OC, args.C = s.IC;
    args.x_c = from.channel, args.x_row = g.stride[0] * from.row;
    args.x_col = g.stride[1] * from.col;
    args.w = w.data(), args.w_k = s.IC * s.KH * s.KW, args.w_c = s.KH * s.KW;
    args.y_k = OH * OW * kLanes, args.y_row = OW * kLanes;
    args.bias = b.defined() ? b.data() : nullptr, args.relu = relu;
    int64_t *x_tap = taps.data(), *w_tap = taps.data() + s.KH * s.KW;
    args.x_tap = x_tap, args.w_tap = w_tap;
    for (const Run& row_run : row_runs) {
      const Overlap rows(row_run, row0, count);
      if (rows.count <= 0) continue;
      for (const Run& col_run : col_runs) {
        args.rows = rows.count, args.cols = col_run.end - col_run.begin, args.taps = 0;
        for (int64_t t = row_run.taps.first; t < row_run.taps.end; ++t)
          for (int64_t u = col_run.taps.first; u < col_run.taps.end; ++u, ++args.taps) {
            x_tap[args.taps] = t * g.dilation[0] * from.row + u * g.dilation[1] * from.col;
            w_tap[args.taps] = t * s.KW + u;
          }
        args.x = from.data + 2 * (rows.begin - row0) * args.x_row + 2 * col_run.begin * args.x_col;
        const int64_t to =
            block * s.OC * args.y_k + rows.begin * args.y_row + col_run.begin * kLanes;
        args.y = y.data() + to;
        args.argmax = argmax.defined() ? argmax.data<uint16_t>() + to : nullptr;
        cpu::kernels().pooled_tile(args);
      }
    }
  });
}

void pooled_forward_small_batch(Array& y, const Array& x, const Array& w, const Array& b,
                                const Conv2dShape& s, bool relu) {
  if (!rows_pay(s))
    return channels_pooled_small_batch(y.data(), x.data(), w.data(),
                                       b.defined() ? b.data() : nullptr, s, relu);
  constexpr int64_t kNear = 12 * 1024, kBeyond = 32;  // floats, as the kernel may read
  const int64_t OH = s.OH / 2, OW = s.OW / 2, taps = s.KH * s.KW;
  SmallBatchWindow window(s);
  const int64_t one_row = 2 * s.IC * window.width;
  const int64_t most = std::clamp<int64_t>(kNear / one_row, 1, OH);
  const int64_t tiles = ceil_div(OH, most), tile_rows = ceil_div(OH, tiles);
  window.set_rows(2 * tile_rows);
  Scratch<int64_t> offsets(2 * taps);
  int64_t *x_tap = offsets.data(), *w_tap = x_tap + taps;
  window.taps(x_tap);
  for (int64_t t = 0; t < taps; ++t) w_tap[t] = t;
  for_chunks(s.N * tiles, s.OC * s.IC * taps * tile_rows * OW / 4, [&](int64_t begin, int64_t end) {
    const int64_t floats = s.IC * window.channel();
    Scratch<float> near(floats + kBeyond);
    std::fill_n(near.data() + floats, kBeyond, 0.0f);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / tiles, row = task % tiles * tile_rows;
      for (int64_t c = 0; c < s.IC; ++c)
        window.copy(near.data() + c * window.channel(), x.data() + (n * s.IC + c) * s.IH * s.IW,
                    2 * row, 2 * tile_rows);
      PooledTile args{};
      args.K = s.OC, args.C = s.IC, args.taps = taps;
      args.rows = std::min(tile_rows, OH - row), args.cols = OW;
      args.x = near.data(), args.x_c = window.channel(), args.x_row = window.width;
      args.x_col = 1, args.x_tap = x_tap;
      args.w = w.data(), args.w_k = s.IC * taps, args.w_c = taps, args.w_tap = w_tap;
      args.y = y.data() + (n * s.OC * OH + row) * OW, args.y_k = OH * OW, args.y_row = OW;
      args.bias = b.defined() ? b.data() : nullptr, args.relu = relu;
      cpu::kernels().pooled_tile_plain(args);
    }
  });
}

}  // namespace fastconv::cpu
