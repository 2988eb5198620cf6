#include "ops/pooled_gradient.h"

#include <algorithm>

#include "core/scratch.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/window.h"
#include "ops/winograd.h"

namespace fastconv {
namespace {

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

// What PooledSpread calls w, in the order [K][C][KH + 1][KW + 1][4][4].
void look_up_table(float* table, const float* w, const Conv2dShape& s) {
  parallel_for(s.OC, [&](int64_t k) {
    float* to = table + k * s.IC * (s.KH + 1) * (s.KW + 1) * kLanes;
    for (int64_t c = 0; c < s.IC; ++c) {
      const float* kernel = w + (k * s.IC + c) * s.KH * s.KW;
      const auto at = [&](int64_t t, int64_t u) {
        return t >= 0 && t < s.KH && u >= 0 && u < s.KW ? kernel[t * s.KW + u] : 0.0f;
      };
      for (int64_t t = 0; t <= s.KH; ++t)
        for (int64_t u = 0; u <= s.KW; ++u, to += kLanes) {
          const float met[4] = {at(t, u), at(t, u - 1), at(t - 1, u), at(t - 1, u - 1)};
          for (int64_t i = 0; i < kLanes; ++i) to[i] = met[i % 4];
        }
    }
  });
}

}  // namespace

bool pooled_gradient_applies(const Conv2dShape& s, const ConvStage& stage) {
  constexpr int64_t kTable = 256 * 1024, kBlock = 512 * 1024;  // floats
  if (!stage.pool || s.N < kLanes) return false;
  const PoolParams& pool = *stage.pool;
  const std::array<int64_t, 2> one{1, 1}, two{2, 2};
  const bool side_by_side = pool.kernel == two && pool.stride == two && pool.dilation == one &&
                            pool.pads == std::array<int64_t, 4>{0, 0, 0, 0} &&
                            !(pool.ceil_mode && (s.OH % 2 != 0 || s.OW % 2 != 0));
  const bool plain = s.params.stride == one && s.params.dilation == one && s.params.groups == 1;
  if (!side_by_side || !plain || s.KH != s.KW || (s.KH != 3 && s.KH != 5)) return false;
  const Reach reach(s);
  return s.OC * s.IC * (s.KH + 1) * (s.KW + 1) * kLanes <= kTable &&
         (s.OC * reach.windows + s.IC * reach.rows * reach.cols) * kLanes <= kBlock &&
         winograd_part(s, Pass::backward_input).rows == 0 &&
         winograd_part(s, Pass::backward_weight).rows == 0;
}

void pooled_gradient(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                     const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                     const Wanted& wanted) {
  const cpu::Kernels& kernels = cpu::kernels();
  const Reach reach(s);
  const Shares shares(s, reach, wanted.dx);
  const int64_t weights = dw.defined() ? dw.stored() : 0, plane = reach.windows * kLanes;
  const int64_t patch = reach.rows * reach.cols * kLanes, image = s.IH * s.IW * kLanes;
  const int64_t w_c = (s.KH + 1) * (s.KW + 1) * kLanes;
  Scratch<float> table(wanted.dx ? s.OC * s.IC * w_c : 1);
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
    Scratch<float> gated(y.defined() ? n : 1);
    cpu::PooledWindows windows{reach.windows_down, reach.windows_across, dy.data() + at,
                               argmax.data<uint16_t>() + at};
    if (y.defined()) {
      kernels.binary(cpu::Binary::relu_backward, gated.data(), dy.data() + at, y.data() + at, n,
                     0.0f, false);
      windows.g = gated.data();
    }
    cpu::PooledWindows own = windows;
    own.g += (k0 - first) * plane, own.argmax += (k0 - first) * plane;
    if (wanted.db) kernels.channel_sums(db_part + block * s.OC + k0, own.g, 1, K, plane, plane);
    if (wanted.dw) {
      Scratch<float> padded(reach.padded ? s.IC * patch : 1);
      const Window from = take_window(x.data() + block * s.IC * image, s.IC, s.IH, s.IW, reach.top,
                                      reach.left, reach.rows, reach.cols, padded.data());
      kernels.pooled_dot({K, s.IC, s.KH, own, from.data, from.channel, from.row,
                          dw_part + block * weights + k0 * s.IC * s.KH * s.KW,
                          s.IC * s.KH * s.KW});
    }
    const int64_t c0 = share * shares.C, C = std::min(shares.C, s.IC - c0);
    if (wanted.dx && C > 0) {
      Scratch<uint32_t> position(n);
      std::copy_n(windows.argmax, n, position.data());
      Scratch<float> padded(reach.padded ? C * patch : 1);
      float* to = dx.data() + (block * s.IC + c0) * image;
      cpu::PooledSpread sum{s.OC,      C,   s.KH, windows, spread + c0 * w_c, s.IC * w_c, w_c,
                            position.data(), to,  image,   s.IW * kLanes};
      if (reach.padded)
        sum.dx = padded.data(), sum.dx_c = patch, sum.dx_row = reach.cols * kLanes;
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
