#include "cpu/conv/pooled/conv_pool.h"

#include <algorithm>
#include <vector>

#include "cpu/conv/direct/window.h"
#include "cpu/conv/small_batch/channels.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv {
namespace {

// Whether a sum is short enough: the weights of a tile leave room in L1. Narrow vectors make low
// tiles, which win only where pooling counts for much.
bool is_short(const Conv2dShape& s) {
  const int64_t longest = cpu::kernels().width == kLanes ? 512 : 64;
  return s.IC * s.KH * s.KW <= longest;
}

// Windows begin .. end - 1 along an axis of which an output meets a pixel with the taps first_tap
// .. end_tap - 1 only.
struct Run {
  int64_t begin, end, first_tap, end_tap;
};

std::vector<Run> runs_of(int64_t windows, int64_t pixels, int64_t kernel, int64_t stride,
                         int64_t pad, int64_t dilation) {
  std::vector<Run> runs;
  for (int64_t i = 0; i < windows; ++i) {
    const int64_t lowest = 2 * i * stride - pad, highest = lowest + stride;
    Run run{i, i + 1, 0, kernel};
    while (run.first_tap < kernel && highest + run.first_tap * dilation < 0) ++run.first_tap;
    while (run.end_tap > run.first_tap && lowest + (run.end_tap - 1) * dilation >= pixels)
      --run.end_tap;
    if (!runs.empty() && runs.back().first_tap == run.first_tap &&
        runs.back().end_tap == run.end_tap)
      runs.back().end = run.end;
    else
      runs.push_back(run);
  }
  return runs;
}

// Few images: whether rows of outputs fill vectors, two of which make a vector of maxima.
bool rows_pay(const Conv2dShape& s) {
  const std::array<int64_t, 2> one{1, 1};
  const int64_t tile = 2 * cpu::kernels().width, across = s.OW / 2 * 2;
  return s.params.groups == 1 && s.params.stride == one && is_short(s) &&
         4 * across >= 3 * tile * ceil_div(across, tile);
}

}  // namespace

bool pools_side_by_side(const Conv2dShape& s, const ConvStage& stage) {
  if (!stage.pool) return false;
  const PoolParams& pool = *stage.pool;
  const std::array<int64_t, 2> one{1, 1}, two{2, 2};
  return pool.kernel == two && pool.stride == two && pool.dilation == one &&
         pool.pads == std::array<int64_t, 4>{0, 0, 0, 0} &&
         !(pool.ceil_mode && (s.OH % 2 != 0 || s.OW % 2 != 0));
}

bool conv_pool_applies(const Conv2dShape& s, const ConvStage& stage) {
  return s.N >= kLanes && pools_side_by_side(s, stage) && s.params.groups == 1 && is_short(s) &&
         winograd_part(s, Pass::forward).rows == 0;
}

bool conv_pool_small_batch_applies(const Conv2dShape& s, const ConvStage& stage) {
  return s.N < kLanes && pools_side_by_side(s, stage) && !winograd_small_batch_pays(s) &&
         (rows_pay(s) || channels_few_pay(s));
}

void conv_pool_forward(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, bool relu) {
  constexpr int64_t kNear = 64 * 1024;  // floats of x that output channels pass over in turn
  const Geometry& p = s.params;
  const std::vector<Run> rows =
                             runs_of(s.OH / 2, s.IH, s.KH, p.stride[0], p.pads[0], p.dilation[0]),
                         cols =
                             runs_of(s.OW / 2, s.IW, s.KW, p.stride[1], p.pads[2], p.dilation[1]);
  const int64_t OH = s.OH / 2, OW = s.OW / 2, blocks = x.blocks();
  const int64_t in_cols = (2 * OW - 1) * p.stride[1] + (s.KW - 1) * p.dilation[1] + 1;
  const auto in_rows = [&](int64_t windows) {
    return (2 * windows - 1) * p.stride[0] + (s.KH - 1) * p.dilation[0] + 1;
  };
  const int64_t one_row = s.IC * 2 * p.stride[0] * in_cols * kLanes;
  const int64_t most = std::min(std::max<int64_t>(1, kNear / one_row),
                                ceil_div(OH, ceil_div(tasks_wanted(), blocks)));
  const int64_t bands = ceil_div(OH, most), band = ceil_div(OH, bands);
  parallel_for(blocks * bands, [&](int64_t task) {
    const int64_t block = task / bands, row0 = task % bands * band;
    const int64_t row_end = std::min(OH, row0 + band), height = in_rows(row_end - row0);
    const int64_t top = 2 * row0 * p.stride[0] - p.pads[0];
    Scratch<float> scratch(s.IC * height * in_cols * kLanes);
    Scratch<int64_t> taps(2 * s.KH * s.KW);
    const Window from = take_window(x.data() + block * s.IC * s.IH * s.IW * kLanes, s.IC, s.IH,
                                    s.IW, top, -p.pads[2], height, in_cols, scratch.data());
    cpu::PooledTile args{};
    args.K = s.OC, args.C = s.IC;
    args.x_c = from.channel, args.x_row = p.stride[0] * from.row;
    args.x_col = p.stride[1] * from.col;
    args.w = w.data(), args.w_k = s.IC * s.KH * s.KW, args.w_c = s.KH * s.KW;
    args.y_k = OH * OW * kLanes, args.y_row = OW * kLanes;
    args.bias = b.defined() ? b.data() : nullptr, args.relu = relu;
    int64_t *x_tap = taps.data(), *w_tap = taps.data() + s.KH * s.KW;
    args.x_tap = x_tap, args.w_tap = w_tap;
    for (const Run& down : rows) {
      const int64_t row = std::max(down.begin, row0);
      args.rows = std::min(down.end, row_end) - row;
      if (args.rows <= 0) continue;
      for (const Run& across : cols) {
        args.cols = across.end - across.begin, args.taps = 0;
        for (int64_t t = down.first_tap; t < down.end_tap; ++t)
          for (int64_t u = across.first_tap; u < across.end_tap; ++u, ++args.taps) {
            x_tap[args.taps] = t * p.dilation[0] * from.row + u * p.dilation[1] * from.col;
            w_tap[args.taps] = t * s.KW + u;
          }
        args.x = from.data + 2 * (row - row0) * args.x_row + 2 * across.begin * args.x_col;
        const int64_t to = block * s.OC * args.y_k + row * args.y_row + across.begin * kLanes;
        args.y = y.data() + to;
        args.argmax = argmax.defined() ? argmax.data<uint16_t>() + to : nullptr;
        cpu::kernels().pooled_tile(args);
      }
    }
  });
}

void conv_pool_forward_small_batch(Array& y, const Array& x, const Array& w, const Array& b,
                                   const Conv2dShape& s, bool relu) {
  if (!rows_pay(s))
    return channels_pooled_few(y.data(), x.data(), w.data(), b.defined() ? b.data() : nullptr, s,
                               relu);
  constexpr int64_t kNear = 12 * 1024, kBeyond = 32;  // floats, as the kernel may read
  const int64_t OH = s.OH / 2, OW = s.OW / 2, taps = s.KH * s.KW;
  SmallBatchWindow window(s);
  const int64_t one_row = 2 * s.IC * window.width;
  const int64_t most = std::clamp<int64_t>(kNear / one_row, 1, OH);
  const int64_t bands = ceil_div(OH, most), band = ceil_div(OH, bands);
  window.set_rows(2 * band);
  Scratch<int64_t> offsets(2 * taps);
  int64_t *x_tap = offsets.data(), *w_tap = x_tap + taps;
  window.taps(x_tap);
  for (int64_t t = 0; t < taps; ++t) w_tap[t] = t;
  for_shares(s.N * bands, s.OC * s.IC * taps * band * OW / 4, [&](int64_t begin, int64_t end) {
    const int64_t floats = s.IC * window.channel();
    Scratch<float> near(floats + kBeyond);
    std::fill_n(near.data() + floats, kBeyond, 0.0f);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t n = task / bands, row = task % bands * band;
      for (int64_t c = 0; c < s.IC; ++c)
        window.copy(near.data() + c * window.channel(), x.data() + (n * s.IC + c) * s.IH * s.IW,
                    2 * row, 2 * band);
      cpu::PooledTile args{};
      args.K = s.OC, args.C = s.IC, args.taps = taps;
      args.rows = std::min(band, OH - row), args.cols = OW;
      args.x = near.data(), args.x_c = window.channel(), args.x_row = window.width;
      args.x_col = 1, args.x_tap = x_tap;
      args.w = w.data(), args.w_k = s.IC * taps, args.w_c = taps, args.w_tap = w_tap;
      args.y = y.data() + (n * s.OC * OH + row) * OW, args.y_k = OH * OW, args.y_row = OW;
      args.bias = b.defined() ? b.data() : nullptr, args.relu = relu;
      cpu::kernels().pooled_tile_plain(args);
    }
  });
}

}  // namespace fastconv
