#include "ops/conv_pool.h"

#include <algorithm>
#include <vector>

#include "core/scratch.h"
#include "cpu/dispatch.h"
#include "ops/channels_few.h"
#include "ops/few_window.h"
#include "ops/split.h"
#include "ops/window.h"
#include "ops/winograd.h"
#include "ops/winograd_few.h"

namespace fastconv {
namespace {

constexpr int64_t kLongSum = 512;  // the weights of a tile leave room in L1

bool side_by_side(const Conv2dShape& s, const ConvStage& stage) {
  if (!stage.pool) return false;
  const PoolParams& pool = *stage.pool;
  const std::array<int64_t, 2> one{1, 1}, two{2, 2};
  return pool.kernel == two && pool.stride == two && pool.dilation == one &&
         pool.pads == std::array<int64_t, 4>{0, 0, 0, 0} &&
         !(pool.ceil_mode && (s.OH % 2 != 0 || s.OW % 2 != 0));
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

// The pixels of x that windows meet, padding included: rows x cols from (top, left).
struct Reach {
  int64_t windows_down, windows_across, windows, rows, cols, top, left;
  bool padded;

  explicit Reach(const Conv2dShape& s)
      : windows_down(s.OH / 2),
        windows_across(s.OW / 2),
        windows(windows_down * windows_across),
        rows(2 * windows_down + s.KH - 1),
        cols(2 * windows_across + s.KW - 1),
        top(-s.params.pads[0]),
        left(-s.params.pads[2]),
        padded(top < 0 || left < 0 || top + rows > s.IH || left + cols > s.IW) {}
};

// A task is a block of samples with a share of the output channels, whose gradients by weight are
// its own, and a share of the input channels, whose gradients by input are.
struct Shares {
  int64_t blocks, count, K, C;  // shares of a block; output and input channels of one

  Shares(const Conv2dShape& s, const Reach& reach, bool needs_all) : blocks(ceil_div(s.N, kLanes)) {
    constexpr int64_t kNear = 64 * 1024;  // floats
    const int64_t far = needs_all ? 1 : ceil_div(s.OC * reach.windows * kLanes, kNear);
    const int64_t wanted = std::max(far, ceil_div(tasks_wanted(), blocks));
    K = 2 * ceil_div(s.OC, 2 * wanted);  // channels are summed in pairs
    count = ceil_div(s.OC, K);
    C = ceil_div(s.IC, count);
  }
};

// What PooledSpread calls w, in the order [C][K][S + 1][S + 1][4], S the size of the kernels.
void look_up_table(float* table, const float* w, const Conv2dShape& s) {
  const int64_t S = s.KH, row = S + 2;
  parallel_for(s.IC, [&](int64_t c) {
    Scratch<float> bordered(row * row);
    float* from = bordered.data();
    std::fill_n(from, row * row, 0.0f);
    float* to = table + c * s.OC * (S + 1) * (S + 1) * 4;
    for (int64_t k = 0; k < s.OC; ++k) {
      const float* kernel = w + (k * s.IC + c) * S * S;
      for (int64_t t = 0; t < S; ++t) std::copy_n(kernel + t * S, S, from + (t + 1) * row + 1);
      for (int64_t t = 0; t <= S; ++t)
        for (int64_t u = 0; u <= S; ++u, to += 4) {
          const float *upper = from + t * row + u, *own = upper + row;
          to[0] = own[1], to[1] = own[0], to[2] = upper[1], to[3] = upper[0];
        }
    }
  });
}

// Few images: whether rows of outputs fill vectors, two of which make a vector of maxima.
bool rows_pay(const Conv2dShape& s) {
  const std::array<int64_t, 2> one{1, 1};
  const int64_t tile = 2 * cpu::kernels().width, across = s.OW / 2 * 2;
  return s.params.groups == 1 && s.params.stride == one && s.IC * s.KH * s.KW <= kLongSum &&
         4 * across >= 3 * tile * ceil_div(across, tile);
}

}  // namespace

bool conv_pool_applies(const Conv2dShape& s, const ConvStage& stage) {
  return s.N >= kLanes && side_by_side(s, stage) && s.params.groups == 1 &&
         s.IC * s.KH * s.KW <= kLongSum && winograd_part(s, Pass::forward).rows == 0;
}

bool conv_pool_few_applies(const Conv2dShape& s, const ConvStage& stage) {
  return s.N < kLanes && side_by_side(s, stage) && !winograd_few_pays(s) &&
         (rows_pay(s) || channels_few_pay(s));
}

bool conv_pool_backward_applies(const Conv2dShape& s, const ConvStage& stage) {
  constexpr int64_t kTable = 64 * 1024, kBlock = 512 * 1024;  // floats
  const std::array<int64_t, 2> one{1, 1};
  if (s.N < kLanes || !side_by_side(s, stage) || s.params.stride != one ||
      s.params.dilation != one || s.params.groups != 1 || s.KH != s.KW || (s.KH != 3 && s.KH != 5))
    return false;
  const Reach reach(s);
  return s.OC * s.IC * (s.KH + 1) * (s.KW + 1) * 4 <= kTable &&
         (s.OC * reach.windows + s.IC * reach.rows * reach.cols) * kLanes <= kBlock &&
         winograd_part(s, Pass::backward_input).rows == 0 &&
         winograd_part(s, Pass::backward_weight).rows == 0;
}

void conv_pool_forward(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, bool relu) {
  constexpr int64_t kNear = 64 * 1024;  // floats of x that output channels pass over in turn
  const Conv2dParams& p = s.params;
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
    cpu::PooledSweep sweep{};
    sweep.K = s.OC, sweep.C = s.IC;
    sweep.x_c = from.channel, sweep.x_row = p.stride[0] * from.row;
    sweep.x_col = p.stride[1] * from.col;
    sweep.w = w.data(), sweep.w_k = s.IC * s.KH * s.KW, sweep.w_c = s.KH * s.KW;
    sweep.y_k = OH * OW * kLanes, sweep.y_row = OW * kLanes;
    sweep.bias = b.defined() ? b.data() : nullptr, sweep.relu = relu;
    int64_t *x_tap = taps.data(), *w_tap = taps.data() + s.KH * s.KW;
    sweep.x_tap = x_tap, sweep.w_tap = w_tap;
    for (const Run& down : rows) {
      const int64_t row = std::max(down.begin, row0);
      sweep.rows = std::min(down.end, row_end) - row;
      if (sweep.rows <= 0) continue;
      for (const Run& across : cols) {
        sweep.cols = across.end - across.begin, sweep.taps = 0;
        for (int64_t t = down.first_tap; t < down.end_tap; ++t)
          for (int64_t u = across.first_tap; u < across.end_tap; ++u, ++sweep.taps) {
            x_tap[sweep.taps] = t * p.dilation[0] * from.row + u * p.dilation[1] * from.col;
            w_tap[sweep.taps] = t * s.KW + u;
          }
        sweep.x = from.data + 2 * (row - row0) * sweep.x_row + 2 * across.begin * sweep.x_col;
        const int64_t to = block * s.OC * sweep.y_k + row * sweep.y_row + across.begin * kLanes;
        sweep.y = y.data() + to;
        sweep.argmax = argmax.defined() ? argmax.data<uint16_t>() + to : nullptr;
        cpu::kernels().pooled_sweep(sweep);
      }
    }
  });
}

void conv_pool_forward_few(Array& y, const Array& x, const Array& w, const Array& b,
                           const Conv2dShape& s, bool relu) {
  if (!rows_pay(s))
    return channels_pooled_few(y.data(), x.data(), w.data(), b.defined() ? b.data() : nullptr, s,
                               relu);
  constexpr int64_t kNear = 12 * 1024, kBeyond = 32;  // floats, as the kernel may read
  const int64_t OH = s.OH / 2, OW = s.OW / 2, taps = s.KH * s.KW;
  FewWindow window(s);
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
      cpu::PooledSweep sweep{};
      sweep.K = s.OC, sweep.C = s.IC, sweep.taps = taps;
      sweep.rows = std::min(band, OH - row), sweep.cols = OW;
      sweep.x = near.data(), sweep.x_c = window.channel(), sweep.x_row = window.width;
      sweep.x_col = 1, sweep.x_tap = x_tap;
      sweep.w = w.data(), sweep.w_k = s.IC * taps, sweep.w_c = taps, sweep.w_tap = w_tap;
      sweep.y = y.data() + (n * s.OC * OH + row) * OW, sweep.y_k = OH * OW, sweep.y_row = OW;
      sweep.bias = b.defined() ? b.data() : nullptr, sweep.relu = relu;
      cpu::kernels().pooled_sweep_plain(sweep);
    }
  });
}

void conv_pool_backward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                        const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                        const Wanted& wanted) {
  const cpu::Kernels& kernels = cpu::kernels();
  const Reach reach(s);
  const Shares shares(s, reach, wanted.dx);
  const int64_t weights = dw.defined() ? dw.stored() : 0, plane = reach.windows * kLanes;
  const int64_t patch = reach.rows * reach.cols * kLanes, image = s.IH * s.IW * kLanes;
  const int64_t w_k = (s.KH + 1) * (s.KW + 1) * 4, w_c = s.OC * w_k;
  Scratch<float> table(wanted.dx ? s.IC * w_c : 1);
  if (wanted.dx) look_up_table(table.data(), w.data(), s);
  Scratch<float> dw_parts(wanted.dw ? shares.blocks * weights : 1);
  Scratch<double> db_parts(shares.blocks * s.OC);
  float *dw_part = dw_parts.data(), *spread = table.data();
  double* db_part = db_parts.data();

  parallel_for(shares.blocks * shares.count, [&](int64_t task) {
    const int64_t block = task / shares.count, share = task % shares.count;
    const int64_t k0 = share * shares.K, K = std::min(shares.K, s.OC - k0);
    // By input the sum runs over all output channels.
    const int64_t first = wanted.dx ? 0 : k0, channels = wanted.dx ? s.OC : K;
    const int64_t at = (block * s.OC + first) * plane, n = channels * plane;
    Scratch<float> gated(n);
    Scratch<cpu::PooledMaximum> maxima(wanted.dx ? n / kLanes : 1);
    kernels.pooled_gate(gated.data(), wanted.dx ? maxima.data() : nullptr, dy.data() + at,
                        y.defined() ? y.data() + at : nullptr, argmax.data<uint16_t>() + at,
                        channels, reach.windows);
    const cpu::PooledWindows own{reach.windows_down, reach.windows_across,
                                 gated.data() + (k0 - first) * plane,
                                 argmax.data<uint16_t>() + (block * s.OC + k0) * plane};
    if (wanted.db) kernels.channel_sums(db_part + block * s.OC + k0, own.g, 1, K, plane, plane);
    if (wanted.dw) {
      Scratch<float> padded(reach.padded ? s.IC * patch : 1);
      const Window from = take_window(x.data() + block * s.IC * image, s.IC, s.IH, s.IW, reach.top,
                                      reach.left, reach.rows, reach.cols, padded.data());
      kernels.pooled_dot({K, s.IC, s.KH, own, from.data, from.channel, from.row,
                          dw_part + block * weights + k0 * s.IC * s.KH * s.KW, s.IC * s.KH * s.KW});
    }
    const int64_t c0 = share * shares.C, C = std::min(shares.C, s.IC - c0);
    if (wanted.dx && C > 0) {
      Scratch<float> padded(reach.padded ? C * patch : 1);
      float* to = dx.data() + (block * s.IC + c0) * image;
      cpu::PooledSpread sum{s.OC,
                            C,
                            s.KH,
                            reach.windows_down,
                            reach.windows_across,
                            maxima.data(),
                            spread + c0 * w_c,
                            w_k,
                            w_c,
                            to,
                            image,
                            s.IW * kLanes};
      if (reach.padded) sum.dx = padded.data(), sum.dx_c = patch, sum.dx_row = reach.cols * kLanes;
      std::fill_n(sum.dx, C * sum.dx_c, 0.0f);
      kernels.pooled_spread(sum);
      if (reach.padded)
        copy_window(padded.data(), C, reach.rows, reach.cols, -reach.top, -reach.left, s.IH, s.IW,
                    to);
    }
  });

  if (wanted.dw)
    parallel_ranges(weights, 1 << 14, [&](int64_t begin, int64_t end) {
      std::copy(dw_part + begin, dw_part + end, dw.data() + begin);
      for (int64_t block = 1; block < shares.blocks; ++block)
        for (int64_t i = begin; i < end; ++i) dw.data()[i] += dw_part[block * weights + i];
    });
  if (wanted.db)
    for (int64_t k = 0; k < s.OC; ++k) {
      double sum = 0.0;
      for (int64_t block = 0; block < shares.blocks; ++block) sum += db_part[block * s.OC + k];
      db.data()[k] = static_cast<float>(sum);
    }
}

}  // namespace fastconv
