// The broadcast tile over sixteen neighbouring pixels: the way of all convolutions of plain images
// that nothing special suits better.
//
// The window of a tile of output rows (or of all, once for several tasks) is copied with its
// padding (small_batch/window.h). Where rows are long, each is computed by itself, straight into y.
// Where they are short, a row of outputs runs on into the next without a gap, and the width - OW
// values between rows are computed and dropped.
#include "cpu/conv/small_batch/windowed.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/small_batch/task_channels.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

class Windowed {
 public:
  Windowed(float* y, const float* x, const float* w, const float* bias, const Conv2dShape& s,
           const ChannelPostOps& post)
      : y_(y),
        x_(x),
        w_(w),
        bias_(bias),
        s_(s),
        post_(post),
        taps_(s.KH * s.KW),
        window_(s),
        tile_rows_(choose_rows()),
        tiles_(ceil_div(s.OH, tile_rows_)),
        K_(channels_of_task(s.OC_per_group, s.geometry.groups * tiles_)),
        k_tasks_(ceil_div(s.OC_per_group, K_)),
        vectors_(ceil_div((tile_rows_ - 1) * window_.width + s.OW, kLanes)),
        by_row_(pays_by_row()),
        shares_image_(k_tasks_ > 1),
        offsets_(2 * taps_) {
    window_.set_rows(shares_image_ ? s.OH : tile_rows_);
    window_.taps(x_tap());
    for (int64_t t = 0; t < taps_; ++t) w_tap()[t] = t;
  }

  void run() {
    const int64_t channels = shares_image_ ? s_.IC : 0;  // copied before the tasks
    Scratch<float> image(floats_of(channels));
    clear_end(image.data(), channels);
    const int64_t macs = K_ * s_.IC_per_group * taps_ * tile_rows_ * s_.OW;
    for (int64_t n = 0; n < s_.N; ++n) {
      for_chunks(channels, window_.channel() * 4, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
          window_.copy(image.data() + c * window_.channel(), plane_of_x(n, c), 0, s_.OH);
      });
      const int64_t tasks = s_.geometry.groups * k_tasks_ * tiles_;
      for_chunks(tasks, macs / 16, [&](int64_t begin, int64_t end) {
        Scratch<float> own(shares_image_ ? 0 : floats_of(s_.IC_per_group));
        if (!shares_image_) clear_end(own.data(), s_.IC_per_group);
        Scratch<float> sums(by_row_ ? 0 : K_ * vectors_ * kLanes);
        for (int64_t task = begin; task < end; ++task)
          run(n, task, shares_image_ ? image.data() : own.data(), sums.data());
      });
    }
  }

 private:
  // All weights pass for each tile: one near L1 where that is some rows, else one in L2.
  int64_t choose_rows() const {
    constexpr int64_t kL1 = 12 * 1024, kL2 = 64 * 1024, kFewRows = 4;
    const int64_t reach = (s_.KH - 1) * s_.geometry.dilation[0] / s_.geometry.stride[0];
    const int64_t row = s_.IC_per_group * window_.width * window_.phase_rows * window_.phase_cols;
    int64_t most = kL1 / row - reach;
    if (most < std::min(kFewRows, s_.OH)) most = kL2 / row - reach;
    int64_t tiles = ceil_div(s_.OH, std::clamp<int64_t>(most, 1, s_.OH));
    if (tiles > 1) tiles += tiles % 2;
    return ceil_div(s_.OH, tiles);
  }

  // In multiply-adds of vectors for an output channel; taking rows apart again costs some ten a
  // row, and rows of less than four vectors make poor tiles.
  bool pays_by_row() const {
    const int64_t length = s_.IC_per_group * taps_, across = ceil_div(s_.OW, kLanes);
    return across >= 4 &&
           tile_rows_ * across * length <= vectors_ * length + tile_rows_ * (10 + 4 * across);
  }

  // The last vector may read past the end.
  int64_t floats_of(int64_t channels) const { return channels * window_.channel() + kLanes; }
  void clear_end(float* windows, int64_t channels) const {
    std::fill_n(windows + channels * window_.channel(), kLanes, 0.0f);
  }

  const float* plane_of_x(int64_t n, int64_t c) const {
    return x_ + (n * s_.IC + c) * s_.IH * s_.IW;
  }

  // windows: of the whole image, or the task's own, to be copied.
  void run(int64_t n, int64_t task, float* windows, float* sums) const {
    const int64_t C = s_.IC_per_group, plane = s_.OH * s_.OW;
    const int64_t row = task % tiles_ * tile_rows_, rows = std::min(tile_rows_, s_.OH - row);
    const int64_t k_task = task / tiles_ % k_tasks_, group = task / (tiles_ * k_tasks_);
    const int64_t k = group * s_.OC_per_group + k_task * K_;
    const int64_t at = (n * s_.OC + k) * plane + row * s_.OW;
    if (!shares_image_)
      for (int64_t c = 0; c < C; ++c)
        window_.copy(windows + c * window_.channel(), plane_of_x(n, group * C + c), row, rows);
    const ChannelPostOps post = post_ops_from(post_, k, at);
    BroadcastTile args{};
    args.groups = 1, args.taps = taps_, args.C = C;
    args.K = std::min(K_, s_.OC_per_group - k_task * K_);
    args.x = windows;
    if (shares_image_) args.x += group * C * window_.channel() + row * window_.width;
    args.x_c = window_.channel(), args.x_row = window_.width, args.x_col = kLanes;
    args.x_tap = x_tap();
    args.w = w_ + k * C * taps_;
    args.w_k = C * taps_, args.w_c = taps_;
    args.w_tap = w_tap();
    args.bias = bias_ ? bias_ + k : nullptr;
    args.y_col = kLanes;
    if (by_row_) {
      args.rows = rows, args.cols = ceil_div(s_.OW, kLanes);
      args.y = y_ + at, args.y_k = plane, args.y_row = s_.OW;
      args.tail = static_cast<int>(s_.OW - (args.cols - 1) * kLanes);
      args.post_ops = &post;
      cpu::kernels().broadcast_tile(args);
      return;
    }
    args.rows = 1, args.cols = ceil_div((rows - 1) * window_.width + s_.OW, kLanes);
    args.y = sums, args.y_k = vectors_ * kLanes;
    args.tail = kLanes;
    args.post_ops = post.plus ? nullptr : &post;
    cpu::kernels().broadcast_tile(args);
    for (int64_t i = 0; i < args.K; ++i) {
      const float* from = sums + i * args.y_k;
      float* to = y_ + at + i * plane;
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(from + r * window_.width, s_.OW, to + r * s_.OW);
      if (post.plus) apply_post_ops(to, post_ops_from(post, i, i * plane), rows * s_.OW);
    }
  }

  int64_t* x_tap() const { return offsets_.data(); }
  int64_t* w_tap() const { return offsets_.data() + taps_; }

  float* y_;
  const float *x_, *w_, *bias_;
  const Conv2dShape& s_;
  const ChannelPostOps& post_;
  int64_t taps_;
  SmallBatchWindow window_;
  int64_t tile_rows_, tiles_;  // output rows of a tile, tiles of an image
  int64_t K_, k_tasks_;        // output channels of a task, tasks of a group
  int64_t vectors_;            // of a tile whose rows run on
  bool by_row_;                // each row of outputs by itself
  bool shares_image_;          // one window of the whole image for all tasks
  Scratch<int64_t> offsets_;
};

}  // namespace

void windowed_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& s, const ChannelPostOps& post) {
  Windowed(y, x, w, bias, s, post).run();
}

}  // namespace fastconv::cpu
