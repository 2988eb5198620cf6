#include <algorithm>
#include <utility>

#include "cpu/conv/direct/window.h"
#include "cpu/conv/lanes.h"
#include "cpu/conv/pooled/pooled.h"
#include "cpu/conv/pooled/windows.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/pool.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
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
        top(-s.geometry.pads[0]),
        left(-s.geometry.pads[2]),
        padded(top < 0 || left < 0 || top + rows > s.IH || left + cols > s.IW) {}
};

// Whether the gradient by input, too, takes only the products of the maxima.
bool input_gradient_uses_argmax(const Conv2dShape& s) {
  return winograd_part(s, Pass::backward_input).rows == 0;
}

// How many tiles of windows an image has, one above the other: one in a small network, else so many
// that what a tile reads of x stays in L2. Then the gradient by input is a pass of its own.
int64_t tiles_of(const Conv2dShape& s, const Reach& reach) {
  constexpr int64_t kWhole = 512 * 1024, kNear = 64 * 1024;  // floats
  if ((s.OC * reach.windows + s.IC * reach.rows * reach.cols) * kLanes <= kWhole) return 1;
  const int64_t rows = kNear / (s.IC * reach.cols * kLanes) - s.KH + 1;
  return ceil_div(reach.windows_down, std::clamp<int64_t>(rows / 2, 2, reach.windows_down));
}

// A task is a tile of a block of samples with a chunk of the output channels, whose gradients by
// weight are its own, and a chunk of the input channels, whose gradients by input are.
struct Tiling {
  int64_t blocks, tiles, tile_rows;  // window rows of one
  int64_t chunks, K, C;              // of a tile; output and input channels of one

  Tiling(const Conv2dShape& s, const Reach& reach, const Wanted& wanted)
      : blocks(ceil_div(s.N, kLanes)), tiles(tiles_of(s, reach)) {
    constexpr int64_t kNear = 64 * 1024;  // floats
    tile_rows = ceil_div(reach.windows_down, tiles);
    tiles = ceil_div(reach.windows_down, tile_rows);
    const bool whole = wanted.dx && tiles == 1;
    const int64_t floats = s.OC * tile_rows * reach.windows_across * kLanes;
    const int64_t far = whole ? 1 : ceil_div(floats, kNear);
    const int64_t most = std::max(far, ceil_div(kMinTasks, blocks * tiles));
    const bool divides = !whole || input_gradient_uses_argmax(s);
    K = 2 * ceil_div(s.OC, 2 * (divides ? most : 1));  // channels are summed in pairs
    chunks = ceil_div(s.OC, K);
    C = ceil_div(s.IC, chunks);
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

class PooledBackward {
 public:
  PooledBackward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                 const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                 const PoolShape& pool, const Wanted& wanted)
      : dx_(dx),
        dw_(dw),
        db_(db),
        dy_(dy),
        y_(y),
        argmax_(argmax),
        x_(x),
        w_(w),
        s_(s),
        pool_(pool),
        wanted_(wanted),
        reach_(s),
        tiling_(s, reach_, wanted),
        weights_(s.w().numel()),
        plane_(reach_.windows * kLanes),
        sums_(tiling_.blocks * tiling_.tiles),
        uses_argmax_(wanted.dx && tiling_.tiles == 1 && input_gradient_uses_argmax(s)),
        table_(uses_argmax_ ? s.IC * s.OC * table_row(s) : 1),
        dw_sums_(wanted.dw ? sums_ * weights_ : 1),
        db_sums_(sums_ * s.OC) {}

  void run() {
    if (wanted_.dx && tiling_.tiles > 1) input_through_conv_dy(dx_, dy_, y_, argmax_, kMinTasks);
    if (tiling_.tiles > 1 && !wanted_.dw && !wanted_.db) return;
    if (uses_argmax_) look_up_table(table_.data(), w_.data(), s_);
    parallel_for(sums_ * tiling_.chunks, [&](int64_t task) { run(task); });
    if (wanted_.dw) join_chunks_in_parallel(dw_.data(), dw_sums_.data(), sums_, weights_);
    if (!wanted_.db) return;
    join_chunks(db_sums_.data(), db_sums_.data(), sums_, s_.OC, s_.OC);
    for (int64_t k = 0; k < s_.OC; ++k) db_.data()[k] = static_cast<float>(db_sums_.data()[k]);
  }

 private:
  // Through the gradient of the convolution's output, of all samples or of a block.
  void input_through_conv_dy(Array dx, const Array& dy, const Array& y, const Array& argmax,
                             int64_t min_tasks) const {
    const Array conv_dy = max_pool2d_backward(dy, argmax, y, pool_);
    backward_input_in_lanes(dx, conv_dy, w_, {}, part_of(s_, dy), min_tasks);
  }

  void run(int64_t task) {
    const int64_t sum = task / tiling_.chunks, chunk = task % tiling_.chunks;
    const int64_t block = sum / tiling_.tiles, row = sum % tiling_.tiles * tiling_.tile_rows;
    if (wanted_.dx && !uses_argmax_ && tiling_.tiles == 1)
      input_through_conv_dy(dx_.block(block), dy_.block(block), y_.defined() ? y_.block(block) : y_,
                            argmax_.block(block), 1);
    const int64_t k = chunk * tiling_.K, K = std::min(tiling_.K, s_.OC - k);
    const int64_t rows = std::min(tiling_.tile_rows, reach_.windows_down - row);
    const int64_t windows = rows * reach_.windows_across, near = windows * kLanes;
    // By input the sum runs over all output channels.
    const int64_t first = uses_argmax_ ? 0 : k, channels = uses_argmax_ ? s_.OC : K;
    const int64_t at = (block * s_.OC + first) * plane_ + row * reach_.windows_across * kLanes;
    Scratch<float> masked(channels * near);
    Scratch<PooledMaximum> maxima(uses_argmax_ ? channels * windows : 1);
    mask(masked.data(), uses_argmax_ ? maxima.data() : nullptr, at, channels, windows);

    const PooledWindows own{rows,
                            reach_.windows_across,
                            masked.data() + (k - first) * near,
                            argmax_.data<uint16_t>() + at + (k - first) * plane_,
                            near,
                            plane_};
    if (wanted_.db)
      cpu::kernels().channel_sums(db_sums_.data() + sum * s_.OC + k, own.g, {1, K, near, near});
    if (wanted_.dw)
      weight_gradient(dw_sums_.data() + sum * weights_ + k * weights_ / s_.OC, own, block, row, K);
    const int64_t c = chunk * tiling_.C, C = std::min(tiling_.C, s_.IC - c);
    if (uses_argmax_ && C > 0) input_gradient(maxima.data(), block, c, C);
  }

  // The masked gradients of so many channels, from float `at` on, one after the other.
  void mask(float* masked, PooledMaximum* maxima, int64_t at, int64_t channels,
            int64_t windows) const {
    const int64_t together = tiling_.tiles == 1 ? channels : 1;
    for (int64_t k = 0; k < channels; k += together, at += together * plane_)
      cpu::kernels().pooled_relu_mask(masked + k * windows * kLanes, maxima, dy_.data() + at,
                                      y_.defined() ? y_.data() + at : nullptr,
                                      argmax_.data<uint16_t>() + at, together, windows);
  }

  // dw of K output channels, whose gradients in the windows from row `row` on are g.
  void weight_gradient(float* dw, const PooledWindows& g, int64_t block, int64_t row,
                       int64_t K) const {
    const int64_t rows = 2 * g.rows + s_.KH - 1, dw_k = s_.IC * s_.KH * s_.KW;
    Scratch<float> padded(reach_.padded ? s_.IC * rows * reach_.cols * kLanes : 1);
    const Window from =
        take_window(x_.data() + block * s_.IC * s_.IH * s_.IW * kLanes, s_.IC, s_.IH, s_.IW,
                    reach_.top + 2 * row, reach_.left, rows, reach_.cols, padded.data());
    cpu::kernels().pooled_weight_gradient(
        {K, s_.IC, s_.KH, g, from.data, from.channel, from.row, dw, dw_k});
  }

  // dx of a block of samples, of C input channels from c on.
  void input_gradient(const PooledMaximum* maxima, int64_t block, int64_t c, int64_t C) {
    const int64_t image = s_.IH * s_.IW * kLanes, patch = reach_.rows * reach_.cols * kLanes;
    float* dx = dx_.data() + (block * s_.IC + c) * image;
    Scratch<float> padded(reach_.padded ? C * patch : 1);
    PooledInputGradient sum{};
    sum.K = s_.OC, sum.C = C, sum.size = s_.KH;
    sum.rows = reach_.windows_down, sum.cols = reach_.windows_across;
    sum.maxima = maxima;
    sum.w_k = table_row(s_), sum.w_c = s_.OC * sum.w_k, sum.w = table_.data() + c * sum.w_c;
    sum.dx = dx, sum.dx_c = image, sum.dx_row = s_.IW * kLanes;
    if (reach_.padded) sum.dx = padded.data(), sum.dx_c = patch, sum.dx_row = reach_.cols * kLanes;
    std::fill_n(sum.dx, C * sum.dx_c, 0.0f);
    cpu::kernels().pooled_input_gradient(sum);
    if (reach_.padded)
      copy_window(padded.data(), C, reach_.rows, reach_.cols, -reach_.top, -reach_.left, s_.IH,
                  s_.IW, dx);
  }

  Array &dx_, &dw_, &db_;
  const Array &dy_, &y_, &argmax_, &x_, &w_;
  const Conv2dShape& s_;
  const PoolShape& pool_;
  const Wanted& wanted_;
  Reach reach_;
  Tiling tiling_;
  int64_t weights_, plane_;
  int64_t sums_;  // partial ones, side by side: one for each tile
  bool uses_argmax_;
  Scratch<float> table_, dw_sums_;
  Scratch<double> db_sums_;
};

}  // namespace

bool pooled_backward_applies(const Conv2dShape& s, const PostOps& post) {
  constexpr int64_t kTable = 64 * 1024, kBlock = 512 * 1024, kPartials = 2 << 20;  // floats
  constexpr int64_t kMinBlocks = 4;  // where tasks are whole blocks
  const std::array<int64_t, 2> one{1, 1};
  if (s.N < kLanes || !pools_side_by_side(post) || s.geometry.stride != one ||
      s.geometry.dilation != one || s.geometry.groups != 1 || s.KH != s.KW ||
      (s.KH != 3 && s.KH != 5))
    return false;
  const Reach reach(s);
  const int64_t blocks = ceil_div(s.N, kLanes), tiles = tiles_of(s, reach);
  if (blocks * tiles * s.w().numel() > kPartials) return false;
  if (tiles > 1) {
    if (s.IC * (s.KH + 3) * reach.cols * kLanes > kBlock) return false;
  } else if (input_gradient_uses_argmax(s)) {
    if (s.IC * s.OC * table_row(s) > kTable) return false;
  } else if (blocks < kMinBlocks || s.OC * s.OH * s.OW * kLanes > kBlock) {
    return false;
  }
  // Cycles for a window and a pair of channels.
  const bool wide = cpu::kernels().width == kLanes;
  const double window = s.KH == 3 ? (wide ? 18.0 : 41.0) : (wide ? 52.0 : 115.0);
  const WinogradPart part = winograd_part(s, Pass::backward_weight);
  return part.rows == 0 || double(blocks * reach.windows) * window < part.cost;
}

void pooled_backward(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                     const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                     const PoolShape& pool, const Wanted& wanted) {
  PooledBackward(dx, dw, db, dy, y, argmax, x, w, s, pool, wanted).run();
}

}  // namespace fastconv::cpu
