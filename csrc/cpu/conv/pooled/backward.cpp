#include <algorithm>
#include <utility>

#include "cpu/conv/direct/window.h"
#include "cpu/conv/pooled/conv_pool.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

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

// Whether the gradient by input, too, takes only the products of the maxima.
bool spreads(const Conv2dShape& s) { return winograd_part(s, Pass::backward_input).rows == 0; }

// Into how many bands of windows an image is cut: one of a small network, else such that what a
// band reads of x stays in L2. Then the gradient by input is an operation of its own.
int64_t bands_of(const Conv2dShape& s, const Reach& reach) {
  constexpr int64_t kWhole = 512 * 1024, kNear = 64 * 1024;  // floats
  if ((s.OC * reach.windows + s.IC * reach.rows * reach.cols) * kLanes <= kWhole) return 1;
  const int64_t rows = kNear / (s.IC * reach.cols * kLanes) - s.KH + 1;
  return ceil_div(reach.windows_down, std::clamp<int64_t>(rows / 2, 2, reach.windows_down));
}

// A task is a band of a block of samples with a share of the output channels, whose gradients by
// weight are its own, and a share of the input channels, whose gradients by input are.
struct Shares {
  int64_t blocks, bands, band;  // window rows of one
  int64_t count, K, C;          // shares of a band; output and input channels of one

  Shares(const Conv2dShape& s, const Reach& reach, const Wanted& wanted)
      : blocks(ceil_div(s.N, kLanes)), bands(bands_of(s, reach)) {
    constexpr int64_t kNear = 64 * 1024;  // floats
    band = ceil_div(reach.windows_down, bands);
    bands = ceil_div(reach.windows_down, band);
    const bool whole = wanted.dx && bands == 1;
    const int64_t floats = s.OC * band * reach.windows_across * kLanes;
    const int64_t far = whole ? 1 : ceil_div(floats, kNear);
    const int64_t most = std::max(far, ceil_div(tasks_wanted(), blocks * bands));
    K = 2 * ceil_div(s.OC, 2 * (whole && !spreads(s) ? 1 : most));  // channels are summed in pairs
    count = ceil_div(s.OC, K);
    C = ceil_div(s.IC, count);
  }
};

// Floats of PooledInputGradient's w for a pair of channels.
int64_t table_row(const Conv2dShape& s) { return (s.KH + 1) * (s.KW + 1) * 4; }

// What PooledInputGradient calls w, in the order [C][K][S + 1][S + 1][4], S the size of the
// kernels.
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

// The sums of a block of samples.
class BlockGradients {
 public:
  BlockGradients(const Conv2dShape& s, const Reach& reach) : s_(s), reach_(reach) {}

  // dw of K output channels, whose gradients in the windows from row row0 on are g.
  void weight(float* dw, const float* x, const cpu::PooledWindows& g, int64_t row0,
              int64_t K) const {
    const int64_t rows = 2 * g.rows + s_.KH - 1;
    Scratch<float> padded(reach_.padded ? s_.IC * rows * reach_.cols * kLanes : 1);
    const Window from = take_window(x, s_.IC, s_.IH, s_.IW, reach_.top + 2 * row0, reach_.left,
                                    rows, reach_.cols, padded.data());
    const int64_t dw_k = s_.IC * s_.KH * s_.KW;
    cpu::kernels().pooled_weight_gradient(
        {K, s_.IC, s_.KH, g, from.data, from.channel, from.row, dw, dw_k});
  }

  // C channels of dx, of which table is the first one's.
  void input(float* dx, const cpu::PooledMaximum* maxima, const float* table, int64_t C) const {
    const int64_t image = s_.IH * s_.IW * kLanes;
    Scratch<float> padded(reach_.padded ? C * patch() : 1);
    cpu::PooledInputGradient sum{};
    sum.K = s_.OC, sum.C = C, sum.size = s_.KH;
    sum.rows = reach_.windows_down, sum.cols = reach_.windows_across;
    sum.maxima = maxima;
    sum.w = table, sum.w_k = table_row(s_), sum.w_c = s_.OC * sum.w_k;
    sum.dx = dx, sum.dx_c = image, sum.dx_row = s_.IW * kLanes;
    if (reach_.padded)
      sum.dx = padded.data(), sum.dx_c = patch(), sum.dx_row = reach_.cols * kLanes;
    std::fill_n(sum.dx, C * sum.dx_c, 0.0f);
    cpu::kernels().pooled_input_gradient(sum);
    if (reach_.padded)
      copy_window(padded.data(), C, reach_.rows, reach_.cols, -reach_.top, -reach_.left, s_.IH,
                  s_.IW, dx);
  }

 private:
  int64_t patch() const { return reach_.rows * reach_.cols * kLanes; }

  const Conv2dShape& s_;
  const Reach& reach_;
};

}  // namespace

bool conv_pool_backward_applies(const Conv2dShape& s, const ConvStage& stage) {
  constexpr int64_t kTable = 64 * 1024, kBlock = 512 * 1024, kPartials = 2 << 20;  // floats
  constexpr int64_t kMinBlocks = 4;  // where tasks are whole blocks
  const std::array<int64_t, 2> one{1, 1};
  if (s.N < kLanes || !pools_side_by_side(s, stage) || s.params.stride != one ||
      s.params.dilation != one || s.params.groups != 1 || s.KH != s.KW || (s.KH != 3 && s.KH != 5))
    return false;
  const Reach reach(s);
  const int64_t blocks = ceil_div(s.N, kLanes), bands = bands_of(s, reach);
  if (blocks * bands * s.w().numel() > kPartials) return false;
  if (bands > 1) {
    if (s.IC * (s.KH + 3) * reach.cols * kLanes > kBlock) return false;
  } else if (spreads(s)) {
    if (s.IC * s.OC * table_row(s) > kTable) return false;
  } else if (blocks < kMinBlocks || s.OC * s.OH * s.OW * kLanes > kBlock) {
    return false;
  }
  // Cycles for a window and a pair of channels, as measured.
  const bool wide = cpu::kernels().width == kLanes;
  const double window = s.KH == 3 ? (wide ? 18.0 : 41.0) : (wide ? 52.0 : 115.0);
  const WinogradPart part = winograd_part(s, Pass::backward_weight);
  return part.rows == 0 || double(blocks * reach.windows) * window < part.cost;
}

void conv_pool_backward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                        const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                        const ConvStage& stage, const Wanted& wanted) {
  const cpu::Kernels& kernels = cpu::kernels();
  const Reach reach(s);
  const Shares shares(s, reach, wanted);
  const BlockGradients sums(s, reach);
  const int64_t weights = s.w().numel(), plane = reach.windows * kLanes;
  const int64_t parts = shares.blocks * shares.bands;
  const bool spread = wanted.dx && shares.bands == 1 && spreads(s);
  // Through the gradient of the convolution's output, of all samples or of a block.
  const auto input_through_conv_dy = [&](Array to, const Array& dy, const Array& y,
                                         const Array& argmax) {
    const Shape conv_y{to.dim(0), s.OC, s.OH, s.OW};
    conv2d_backward_input_into(to, max_pool2d_backward(dy, argmax, y, conv_y, *stage.pool), w,
                               s.params);
  };
  if (wanted.dx && shares.bands > 1) input_through_conv_dy(dx, dy, y, argmax);
  if (shares.bands > 1 && !wanted.dw && !wanted.db) return;
  Scratch<float> table(spread ? s.IC * s.OC * table_row(s) : 1);
  if (spread) look_up_table(table.data(), w.data(), s);
  Scratch<float> dw_parts(wanted.dw ? parts * weights : 1);
  Scratch<double> db_parts(parts * s.OC);
  float *dw_part = dw_parts.data(), *from_table = table.data();
  double* db_part = db_parts.data();

  parallel_for(parts * shares.count, [&](int64_t task) {
    const int64_t part = task / shares.count, share = task % shares.count;
    const int64_t block = part / shares.bands, row0 = part % shares.bands * shares.band;
    if (wanted.dx && !spread && shares.bands == 1)
      input_through_conv_dy(dx.block(block), dy.block(block),
                            y.defined() ? y.block(block) : Array(), argmax.block(block));
    const int64_t k0 = share * shares.K, K = std::min(shares.K, s.OC - k0);
    // By input the sum runs over all output channels.
    const int64_t first = spread ? 0 : k0, channels = spread ? s.OC : K;
    const int64_t rows = std::min(shares.band, reach.windows_down - row0);
    const int64_t windows = rows * reach.windows_across, near = windows * kLanes;
    const int64_t at = (block * s.OC + first) * plane + row0 * reach.windows_across * kLanes;
    Scratch<float> gated(channels * near);
    Scratch<cpu::PooledMaximum> maxima(spread ? channels * windows : 1);
    const auto gate = [&](int64_t k, int64_t count) {
      const int64_t from = at + k * plane;
      kernels.pooled_relu_mask(gated.data() + k * near, spread ? maxima.data() : nullptr,
                               dy.data() + from, y.defined() ? y.data() + from : nullptr,
                               argmax.data<uint16_t>() + from, count, windows);
    };
    if (shares.bands == 1)
      gate(0, channels);
    else
      for (int64_t k = 0; k < channels; ++k) gate(k, 1);
    const cpu::PooledWindows own{rows,
                                 reach.windows_across,
                                 gated.data() + (k0 - first) * near,
                                 argmax.data<uint16_t>() + at + (k0 - first) * plane,
                                 near,
                                 plane};
    if (wanted.db) kernels.channel_sums(db_part + part * s.OC + k0, own.g, 1, K, near, near);
    if (wanted.dw)
      sums.weight(dw_part + part * weights + k0 * weights / s.OC,
                  x.data() + block * s.IC * s.IH * s.IW * kLanes, own, row0, K);
    const int64_t c0 = share * shares.C, C = std::min(shares.C, s.IC - c0);
    if (spread && C > 0)
      sums.input(dx.data() + (block * s.IC + c0) * s.IH * s.IW * kLanes, maxima.data(),
                 from_table + c0 * s.OC * table_row(s), C);
  });

  if (wanted.dw)
    parallel_ranges(weights, 1 << 14, [&](int64_t begin, int64_t end) {
      std::copy(dw_part + begin, dw_part + end, dw.data() + begin);
      for (int64_t part = 1; part < parts; ++part)
        for (int64_t i = begin; i < end; ++i) dw.data()[i] += dw_part[part * weights + i];
    });
  if (wanted.db)
    for (int64_t k = 0; k < s.OC; ++k) {
      double sum = 0.0;
      for (int64_t part = 0; part < parts; ++part) sum += db_part[part * s.OC + k];
      db.data()[k] = static_cast<float>(sum);
    }
}

}  // namespace fastconv
