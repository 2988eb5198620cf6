// A convolution by weight for few channels: samples stay in the lanes of both operands, the dot
// tile multiplies vectors with vectors and adds up lanes at the end of a tile of pixels.
#include <algorithm>

#include "cpu/conv/direct/window.h"
#include "cpu/conv/weight/slices.h"
#include "cpu/conv/weight/weight_gradient.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"

namespace fastconv::cpu {
namespace {

// A dy of more floats is waited for, unless it is prefetched.
constexpr int64_t kCachedFloats = 4 << 20;

// The kernel for planes takes one input and one output channel a group, and windows that reach into
// the image from every side.
bool is_depthwise(const Conv2dShape& s) {
  const Geometry& g = s.geometry;
  return s.OC_per_group == 1 && s.IC_per_group == 1 && (s.KW == 3 || s.KW == 5) &&
         g.dilation[0] == 1 && g.dilation[1] == 1 && g.stride[0] == g.stride[1] &&
         g.stride[0] <= 2 && g.pads[2] < s.KW && g.pads[3] < s.KW;
}

// A tile of samples and pixels.
struct Tile {
  int64_t block, blocks, row, rows, col, cols;
};

class DotGradient {
 public:
  DotGradient(const float* dy, const float* x, int64_t blocks, const Conv2dShape& s)
      : dy_(dy),
        x_(x),
        blocks_(blocks),
        s_(s),
        taps_(s.KH * s.KW),
        x_plane_(s.IH * s.IW * kLanes),
        y_plane_(s.OH * s.OW * kLanes) {
    // A tile long enough that summing lanes is cheap beside it, short enough that its dy stays in
    // L1 while the dot tile moves over the taps. The one dot tile of a depthwise convolution reads
    // dy but once: the less of a window is halo, the better.
    const bool one_tile = s.OC_per_group * s.IC_per_group * taps_ <= 12;
    const int64_t pixels = one_tile ? 1536 : 96, most_cols = one_tile ? 256 : 64;
    cols_ = ceil_div(s.OW, ceil_div(s.OW, most_cols));
    // Less than half of a window is halo.
    const int64_t reach = (s.KH - 1) * s.geometry.dilation[0] / s.geometry.stride[0];
    rows_ = std::clamp<int64_t>(std::max(pixels / cols_, reach), 1, s.OH);
    rows_ = ceil_div(s.OH, ceil_div(s.OH, rows_));
    tile_blocks_ = std::clamp<int64_t>(pixels / (rows_ * cols_), 1, blocks);
    constexpr int64_t kWindowVectors = 256 * 1024 / (kLanes * 4);
    C_ = std::clamp<int64_t>(kWindowVectors / (x_rows(rows_) * x_cols(cols_) * tile_blocks_), 1,
                             s.IC_per_group);
    C_ = ceil_div(s.IC_per_group, ceil_div(s.IC_per_group, C_));
    row_tiles_ = ceil_div(s.OH, rows_), col_tiles_ = ceil_div(s.OW, cols_);
  }

  void run(float* dw) const {
    const bool depthwise = is_depthwise(s_);
    const Slices slices(s_, ceil_div(blocks_, tile_blocks_) * row_tiles_ * col_tiles_);
    slices.run(dw, [&](const Slices::Task& task) {
      Scratch<float> window(tile_blocks_ * C_ * x_rows(rows_) * x_cols(cols_) * kLanes);
      Scratch<int64_t> offsets(C_ * taps_);
      for (int64_t item = task.first; item < task.last; ++item)
        for (int64_t group = task.group; group < task.end_of_groups; ++group)
          if (depthwise)
            add_depthwise(task, item, group);
          else
            add_products(task, item, group, window.data(), offsets.data());
    });
  }

 private:
  // What so many rows and columns of outputs read.
  int64_t x_rows(int64_t rows) const {
    return (rows - 1) * s_.geometry.stride[0] + (s_.KH - 1) * s_.geometry.dilation[0] + 1;
  }
  int64_t x_cols(int64_t cols) const {
    return (cols - 1) * s_.geometry.stride[1] + (s_.KW - 1) * s_.geometry.dilation[1] + 1;
  }

  Tile tile_at(int64_t item) const {
    const int64_t block = item / (row_tiles_ * col_tiles_) * tile_blocks_;
    const int64_t row = item / col_tiles_ % row_tiles_ * rows_, col = item % col_tiles_ * cols_;
    return {block, std::min(tile_blocks_, blocks_ - block),
            row,   std::min(rows_, s_.OH - row),
            col,   std::min(cols_, s_.OW - col)};
  }

  // The first pixel of dy of an item, in floats.
  int64_t dy_at(int64_t item) const {
    const Tile tile = tile_at(item);
    return tile.block * s_.OC * y_plane_ + (tile.row * s_.OW + tile.col) * kLanes;
  }

  void add_depthwise(const Slices::Task& task, int64_t item, int64_t group) const {
    const Tile tile = tile_at(item);
    const int64_t k = group * s_.OC_per_group + task.k;
    DepthwiseWeightTile sum{};
    sum.images = tile.blocks, sum.rows = tile.rows, sum.cols = tile.cols;
    sum.KH = s_.KH, sum.KW = s_.KW;
    sum.dy = dy_ + dy_at(item) + k * y_plane_;
    sum.dy_image = s_.OC * y_plane_, sum.dy_row = s_.OW * kLanes;
    sum.x = x_ + (tile.block * s_.IC + group) * x_plane_;
    sum.x_image = s_.IC * x_plane_, sum.x_rows = s_.IH, sum.x_cols = s_.IW;
    sum.step = s_.geometry.stride[0];
    sum.x_row = tile.row * sum.step - s_.geometry.pads[0];
    sum.x_col = tile.col * sum.step - s_.geometry.pads[2];
    sum.dw = task.dw + k * taps_;
    sum.accumulate = item > task.first;
    sum.prefetch = blocks_ * s_.IC * x_plane_ > kCachedFloats / 2;
    cpu::kernels().depthwise_weight_tile(sum);
  }

  void add_products(const Slices::Task& task, int64_t item, int64_t group, float* scratch,
                    int64_t* offsets) const {
    const Geometry& g = s_.geometry;
    const Tile tile = tile_at(item);
    const int64_t k = group * s_.OC_per_group + task.k, J = s_.IC_per_group * taps_;
    const int64_t rows = x_rows(tile.rows), cols = x_cols(tile.cols), x_image = s_.IC * x_plane_;
    const bool far = s_.OC_per_group > 1 && blocks_ * s_.OC * y_plane_ > kCachedFloats;
    for (int64_t c = 0; c < s_.IC_per_group; c += C_) {
      const int64_t C = std::min(C_, s_.IC_per_group - c), copy = C * rows * cols * kLanes;
      const float* x = x_ + tile.block * x_image + (group * s_.IC_per_group + c) * x_plane_;
      Window window{};
      for (int64_t i = tile.blocks - 1; i >= 0; --i)  // the last one taken is the first image
        window = take_window(x + i * x_image, C, s_.IH, s_.IW, tile.row * g.stride[0] - g.pads[0],
                             tile.col * g.stride[1] - g.pads[2], rows, cols, scratch + i * copy);
      int64_t* offset = offsets;
      for (int64_t channel = 0; channel < C; ++channel)
        for (int64_t r = 0; r < s_.KH; ++r)
          for (int64_t t = 0; t < s_.KW; ++t)
            *offset++ = channel * window.channel + r * g.dilation[0] * window.row +
                        t * g.dilation[1] * window.col;
      DotTile args{};
      args.K = task.K, args.J = C * taps_;
      args.images = tile.blocks, args.rows = tile.rows, args.cols = tile.cols;
      args.a = dy_ + dy_at(item) + k * y_plane_;
      args.a_k = y_plane_, args.a_image = s_.OC * y_plane_;
      args.a_row = s_.OW * kLanes, args.a_col = kLanes;
      args.b = window.data;
      args.b_image = window.data == scratch ? copy : x_image;
      args.b_row = g.stride[0] * window.row, args.b_col = g.stride[1] * window.col;
      args.b_j = offsets;
      args.out = task.dw + k * J + c * taps_;
      args.out_k = J, args.out_j = 1;
      args.a_prefetch = far && item + 1 < task.last ? dy_at(item + 1) - dy_at(item) : 0;
      args.accumulate = item > task.first;
      args.tail = kLanes;
      cpu::kernels().dot_tile(args);
    }
  }

  const float *dy_, *x_;
  int64_t blocks_;
  const Conv2dShape& s_;
  int64_t taps_, x_plane_, y_plane_;
  int64_t tile_blocks_, rows_, cols_;  // of a tile
  int64_t C_;                          // of a chunk of input channels
  int64_t row_tiles_, col_tiles_;
};

}  // namespace

void weight_gradient_dot(float* dw, const float* dy, const float* x, int64_t blocks,
                         const Conv2dShape& s) {
  DotGradient(dy, x, blocks, s).run(dw);
}

}  // namespace fastconv::cpu
