// A convolution by weight for many channels. A tile of one operand is transposed, [pixel][sample]
// [channel], and the broadcast tile multiplies it by the other one's samples:
//
//   dw[s][tap][v] += other[s][pixel + tap][sample] * tile[pixel][sample][v]
//
// There are no lanes to add up, products with padding are left out, nothing else is copied.
//
// A few plain images go the same way, one sample at a time.
#include "cpu/conv/weight/weight_gradient.h"

#include <algorithm>
#include <cstring>

#include "cpu/conv/direct/window.h"
#include "cpu/conv/shapes.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

constexpr int64_t kTilePixels = 100;         // in lanes
constexpr int64_t kPlainPixels = 640;        // of one sample
constexpr int64_t kTaskVectors = 4;          // channels of a task's tile, in sixteens
constexpr int64_t kTaskFloats = 48 * 1024;   // of its sums, which stay in L2 with the tile
constexpr int64_t kPartialFloats = 1 << 20;  // of all slices
constexpr int64_t kTasks = 16;

// An operand, seen from the pixels of y: the one of its pixels that pixel (oh, ow) meets is
// (oh * stride + tap * dilation - pad, ...).
struct Operand {
  const float* data;
  int64_t channels, height, width;
  int64_t stride[2], pad[2], dilation[2];
  int64_t samples;  // of a pixel, side by side: a lane block, or one

  int64_t plane() const { return height * width * samples; }
};

Operand of_y(const float* dy, const Conv2dShape& s, int64_t samples) {
  return {dy, s.OC_per_group, s.OH, s.OW, {1, 1}, {0, 0}, {1, 1}, samples};
}
Operand of_x(const float* x, const Conv2dShape& s, int64_t samples) {
  const Geometry& p = s.geometry;
  return {x,
          s.IC_per_group,
          s.IH,
          s.IW,
          {p.stride[0], p.stride[1]},
          {p.pads[0], p.pads[2]},
          {p.dilation[0], p.dilation[1]},
          samples};
}

// Of two ways to see a 1x1 convolution, the one that transposes fewer channels. (Of plain images
// pixels that are neighbours are transposed together.)
bool transposes_x(const Conv2dShape& s, bool lanes) {
  return is_pointwise(s) && s.IC_per_group < s.OC_per_group &&
         (lanes || s.geometry.stride == std::array<int64_t, 2>{1, 1});
}

// Few channels are copied, see below.
bool copies(const Conv2dShape& s) {
  return s.IC_per_group < kLanes && s.geometry.dilation[0] == 1 && s.KH > 1;
}

// The outputs first .. last - 1 along an axis whose tap lies inside the image.
struct Reach {
  int64_t first, last;
};
Reach reach(const Operand& x, int axis, int64_t tap, int64_t first, int64_t last) {
  const int64_t size = axis == 0 ? x.height : x.width, stride = x.stride[axis];
  const int64_t at = tap * x.dilation[axis] - x.pad[axis];  // of output 0
  const int64_t begin = at >= 0 ? 0 : ceil_div(-at, stride);
  const int64_t end = at >= size ? 0 : (size - 1 - at) / stride + 1;
  return {std::max(first, begin), std::min(last, end)};
}

// Outputs of one block of samples: some of a row, or whole rows.
struct Tile {
  int64_t block, row, rows, begin, end;

  int64_t cols() const { return end - begin; }
};

class TransposedGradient {
 public:
  TransposedGradient(const float* dy, const float* x, int64_t blocks, bool lanes,
                     const Conv2dShape& s)
      : samples_(lanes ? kLanes : 1),
        vectors_(of_y(dy, s, samples_)),
        broadcast_(of_x(x, s, samples_)),
        transposes_x_(transposes_x(s, lanes)),
        copies_rows_(lanes && copies(s)),
        blocks_(blocks),
        groups_(s.geometry.groups),
        OH_(s.OH),
        OW_(s.OW),
        KH_(s.KH),
        KW_(s.KW) {
    if (transposes_x_) std::swap(vectors_, broadcast_);
    if (is_pointwise(s) && s.geometry.stride == std::array<int64_t, 2>{1, 1}) {
      OW_ *= OH_, OH_ = 1;
      for (Operand* operand : {&vectors_, &broadcast_})
        operand->width *= operand->height, operand->height = 1;
    }
    divide();
  }

  void run(float* dw) {
    if (slices_ == 1)
      return parallel_for(tasks(), [&](int64_t task) {
        const Task own = task_at(task);
        const int64_t v_floats = own.s_count * taps_ * kLanes;
        Scratch<float> sums(own.v_count * v_floats);
        add_products(sums.data(), v_floats, own);
        for (int64_t v = 0; v < own.v_count; ++v)
          store(dw, sums.data() + v * v_floats, own.group, own.v0 + v, own.s0, own.s_count);
      });
    const int64_t slice_floats = groups_ * v_blocks_ * v_floats_;
    Scratch<float> sums(slices_ * slice_floats);
    parallel_for(tasks(), [&](int64_t task) {
      const Task own = task_at(task);
      add_products(sums.data() + own.slice * slice_floats +
                       (own.group * v_blocks_ + own.v0) * v_floats_ + own.s0 * taps_ * kLanes,
                   v_floats_, own);
    });
    parallel_for(groups_ * v_blocks_, [&](int64_t task) {
      float* sum = sums.data() + task * v_floats_;
      join_chunks(sum, sum, slices_, slice_floats, v_floats_);
      store(dw, sum, task / v_blocks_, task % v_blocks_, 0, broadcast_.channels);
    });
  }

 private:
  // Of a task: channels of both operands, and which partial sums.
  struct Task {
    int64_t slice, group, v0, v_count, s0, s_count;
  };

  void divide() {
    taps_ = KH_ * KW_;
    v_blocks_ = ceil_div(vectors_.channels, kLanes);
    v_tasks_ = ceil_div(v_blocks_, kTaskVectors);
    task_v_ = ceil_div(v_blocks_, v_tasks_);
    v_tasks_ = ceil_div(v_blocks_, task_v_);
    const int64_t pixels = samples_ == 1 ? kPlainPixels : kTilePixels;
    cols_ = ceil_div(OW_, ceil_div(OW_, pixels));
    rows_ = samples_ == 1 ? std::clamp<int64_t>(pixels / cols_, 1, OH_) : 1;
    rows_ = ceil_div(OH_, ceil_div(OH_, rows_));
    col_tiles_ = ceil_div(OW_, cols_), row_tiles_ = ceil_div(OH_, rows_);
    tiles_ = blocks_ * col_tiles_ * row_tiles_;
    v_floats_ = broadcast_.channels * taps_ * kLanes;
    slices_ = std::clamp<int64_t>(kPartialFloats / (groups_ * v_blocks_ * v_floats_), 1,
                                  std::min(tiles_, kTasks));
    task_s_ = std::clamp<int64_t>(kTaskFloats / (task_v_ * kLanes * taps_), 1, broadcast_.channels);
    while (slices_ * groups_ * v_tasks_ * ceil_div(broadcast_.channels, task_s_) < kTasks &&
           task_s_ > 24)
      task_s_ = ceil_div(task_s_, 2);
    task_s_ = ceil_div(broadcast_.channels, ceil_div(broadcast_.channels, task_s_));
    s_tasks_ = ceil_div(broadcast_.channels, task_s_);
  }

  int64_t tasks() const { return slices_ * groups_ * v_tasks_ * s_tasks_; }

  Task task_at(int64_t task) const {
    const int64_t v0 = task / s_tasks_ % v_tasks_ * task_v_, s0 = task % s_tasks_ * task_s_;
    return {task / (groups_ * v_tasks_ * s_tasks_),
            task / (v_tasks_ * s_tasks_) % groups_,
            v0,
            std::min(task_v_, v_blocks_ - v0),
            s0,
            std::min(task_s_, broadcast_.channels - s0)};
  }

  // The rows of a column of tiles are neighbours.
  Tile tile_at(int64_t i) const {
    const int64_t row = i % row_tiles_ * rows_, begin = i / row_tiles_ % col_tiles_ * cols_;
    return {i / (col_tiles_ * row_tiles_), row, std::min(rows_, OH_ - row), begin,
            std::min(begin + cols_, OW_)};
  }

  // The sums of a slice over the channels of a task, [v][s][tap][16], v_floats from v to v.
  void add_products(float* out, int64_t v_floats, const Task& own) const {
    for (int64_t v = 0; v < own.v_count; ++v)
      std::fill_n(out + v * v_floats, own.s_count * taps_ * kLanes, 0.0f);
    // A line more: no two in one set of the cache.
    const int64_t row = own.v_count * kLanes + kLanes;
    const int64_t copy_cols =
        (cols_ - 1) * broadcast_.stride[1] + (KW_ - 1) * broadcast_.dilation[1] + 1;
    Scratch<float> transposed(rows_ * cols_ * samples_ * row);
    Scratch<float> copy(copies_rows_ ? own.s_count * KH_ * copy_cols * kLanes : 1);
    // What is summed over runs along a row, samples and pixels alike. Where those are no neighbours
    // the samples of a pixel are taps, and of plain images the pixels of a row are.
    const int64_t most_taps = std::max(cols_, kLanes);
    Scratch<int64_t> offsets(2 * most_taps);
    int64_t *x_tap = offsets.data(), *w_tap = x_tap + most_taps;
    for (int64_t n = 0; n < most_taps; ++n)
      x_tap[n] = n * row, w_tap[n] = samples_ == 1 ? n * broadcast_.stride[1] : n;
    BroadcastTile args{};
    args.groups = args.rows = 1, args.K = own.s_count, args.cols = own.v_count;
    args.x = transposed.data(), args.x_col = kLanes, args.x_tap = x_tap, args.w_tap = w_tap;
    args.y_col = v_floats;
    args.accumulate = true, args.tail = kLanes;
    args.prefetch_w = true, args.w_group = cols_ * broadcast_.stride[1] * samples_;

    const int64_t first = tiles_ * own.slice / slices_, last = tiles_ * (own.slice + 1) / slices_;
    for (int64_t i = first; i < last; ++i) {
      const Tile tile = tile_at(i);
      transpose(transposed.data(), row, tile, own);
      const float* image =
          broadcast_.data +
          ((tile.block * groups_ + own.group) * broadcast_.channels + own.s0) * broadcast_.plane();
      if (copies_rows_)
        products_with_copy(args, row, tile, image, copy.data(), out);
      else
        products_in_place(args, row, tile, image, out);
    }
  }

  // Of few channels the rows that a tile meets are copied, zeros around them: then all channels and
  // rows of a column of the kernel have the same distance and fill a tile together.
  void products_with_copy(BroadcastTile args, int64_t row, const Tile& tile, const float* image,
                          float* copy, float* out) const {
    const Window window = copy_window(
        image, args.K, broadcast_.height, broadcast_.width,
        tile.row * broadcast_.stride[0] - broadcast_.pad[0],
        tile.begin * broadcast_.stride[1] - broadcast_.pad[1], KH_,
        (tile.cols() - 1) * broadcast_.stride[1] + (KW_ - 1) * broadcast_.dilation[1] + 1, copy);
    args.K *= KH_, args.w_k = window.row, args.y_k = KW_ * kLanes;
    along_row(args, row, tile.cols());
    for (int64_t t = 0; t < KW_; ++t) {
      args.w = window.data + t * broadcast_.dilation[1] * kLanes;
      args.y = out + t * kLanes;
      cpu::kernels().broadcast_tile(args);
    }
  }

  // Of many channels each tap is a product of its own, without the outputs that it has beside the
  // image.
  void products_in_place(BroadcastTile args, int64_t row, const Tile& tile, const float* image,
                         float* out) const {
    args.w_k = broadcast_.plane(), args.y_k = taps_ * kLanes;
    const float* x = args.x;
    for (int64_t r = 0; r < KH_; ++r) {
      const Reach rows = reach(broadcast_, 0, r, tile.row, tile.row + tile.rows);
      if (rows.first >= rows.last) continue;
      const int64_t ih =
          rows.first * broadcast_.stride[0] + r * broadcast_.dilation[0] - broadcast_.pad[0];
      for (int64_t t = 0; t < KW_; ++t) {
        const Reach cols = reach(broadcast_, 1, t, tile.begin, tile.end);
        if (cols.first >= cols.last) continue;
        const int64_t iw =
            cols.first * broadcast_.stride[1] + t * broadcast_.dilation[1] - broadcast_.pad[1];
        if (rows.last - rows.first == 1) {
          along_row(args, row, cols.last - cols.first);
        } else {
          args.taps = cols.last - cols.first, args.C = rows.last - rows.first;
          args.x_c = tile.cols() * row, args.w_c = broadcast_.stride[0] * broadcast_.width;
        }
        args.x =
            x + ((rows.first - tile.row) * tile.cols() + cols.first - tile.begin) * samples_ * row;
        args.w = image + (ih * broadcast_.width + iw) * samples_;
        args.y = out + (r * KW_ + t) * kLanes;
        cpu::kernels().broadcast_tile(args);
      }
    }
  }

  // The sum over so many pixels of a row.
  void along_row(BroadcastTile& args, int64_t row, int64_t pixels) const {
    args.taps = broadcast_.stride[1] == 1 ? 1 : samples_;
    args.C = pixels * samples_ / args.taps;
    args.x_c = args.taps * row, args.w_c = broadcast_.stride[1] * args.taps;
  }

  // [pixel][sample][row]: the channels of a task of the pixels of a tile.
  void transpose(float* out, int64_t row, const Tile& tile, const Task& own) const {
    const int64_t plane = vectors_.plane(), step = vectors_.stride[1] * samples_;
    const float* pixel =
        vectors_.data + (tile.block * groups_ + own.group) * vectors_.channels * plane +
        (tile.row * vectors_.stride[0] * vectors_.width + tile.begin * vectors_.stride[1]) *
            samples_;
    const int64_t pixels = tile.rows * tile.cols();
    const int64_t together = kLanes / samples_;  // plain images: sixteen pixels
    for (int64_t v = 0; v < own.v_count; ++v) {
      const int64_t c = (own.v0 + v) * kLanes, channels = std::min(kLanes, vectors_.channels - c);
      const float* from = pixel + c * plane;
      float* to = out + v * kLanes;
      int64_t i = 0;
      for (; i + together <= pixels; i += together)
        cpu::kernels().to_plain(to + i * samples_ * row, row, from + i * step, plane, channels,
                                kLanes);
      for (; i < pixels; ++i)
        for (int64_t k = 0; k < channels; ++k) to[i * row + k] = from[k * plane + i];
    }
  }

  // The gradients of sixteen of the vectors' channels and s_count of the others.
  void store(float* dw, const float* sum, int64_t group, int64_t v, int64_t s0,
             int64_t s_count) const {
    const int64_t c = v * kLanes, channels = std::min(kLanes, vectors_.channels - c);
    const int64_t J = broadcast_.channels * taps_;
    if (!transposes_x_)
      return cpu::kernels().to_plain(dw + (group * vectors_.channels + c) * J + s0 * taps_, J, sum,
                                     kLanes, s_count * taps_, static_cast<int>(channels));
    for (int64_t k = 0; k < s_count; ++k)
      std::memcpy(dw + (group * broadcast_.channels + s0 + k) * vectors_.channels + c,
                  sum + k * kLanes, static_cast<size_t>(channels) * sizeof(float));
  }

  int64_t samples_;
  Operand vectors_, broadcast_;  // what is transposed, what is broadcast
  bool transposes_x_;            // vectors_ is x, not dy
  bool copies_rows_;             // products_with_copy
  int64_t blocks_, groups_, OH_, OW_, KH_, KW_, taps_ = 0;
  int64_t v_blocks_ = 0, task_v_ = 0, v_tasks_ = 0;  // sixteens of channels of vectors_; in a task
  int64_t task_s_ = 0, s_tasks_ = 0;                 // channels of broadcast_ in a task
  int64_t rows_ = 0, cols_ = 0;                      // pixels of a tile
  int64_t row_tiles_ = 0, col_tiles_ = 0, tiles_ = 0;
  int64_t slices_ = 0, v_floats_ = 0;  // partial sums made side by side; of all of broadcast_
};

}  // namespace

// Transposing a vector costs some ten cycles, and half a cycle is gained for every use of it; with
// fewer than 32 channels the tile is narrow. A few channels must be copied, for which their kernel
// must be large.
bool weight_gradient_transposed_pays(const Conv2dShape& s, bool lanes) {
  const bool transposes = transposes_x(s, lanes);
  const int64_t channels = transposes ? s.IC_per_group : s.OC_per_group;
  const int64_t uses = transposes ? s.OC_per_group : s.IC_per_group * s.KH * s.KW;
  // Of plain images lanes would be added up after a few vectors of pixels: there it pays unless a
  // good part of the channels' vectors is empty, or a tile has too few sums to hide the latency of
  // an addition.
  if (!lanes) {
    constexpr int64_t kFewestSums = 8;
    const int64_t vectors = ceil_div(channels, kLanes),
                  broadcast = transposes ? s.OC_per_group : s.IC_per_group;
    return channels >= kLanes && 9 * channels >= 7 * kLanes * vectors && uses >= 2 * kLanes &&
           broadcast * std::min(vectors, kTaskVectors) >= kFewestSums;
  }
  if (s.IC_per_group < kLanes)
    return copies(s) && s.OC_per_group >= 2 * kLanes && s.IC_per_group * s.KH * s.KW >= 128;
  // Fewer channels than two vectors hold pay where both operands come from afar, once: from memory,
  // or from L3 if they fill one vector.
  constexpr int64_t kFarFloats = 8 << 20, kFarFloatsOfOne = 1 << 20;
  const int64_t floats = s.N * (s.IC * s.IH * s.IW + s.OC * s.OH * s.OW);
  if (s.KH * s.KW == 1 && floats >= (channels == kLanes ? kFarFloatsOfOne : kFarFloats))
    return channels >= kLanes && uses >= 2 * kLanes;
  return channels >= 2 * kLanes && uses >= 4 * kLanes;
}

void weight_gradient_transposed(float* dw, const float* dy, const float* x, int64_t blocks,
                                bool lanes, const Conv2dShape& s) {
  TransposedGradient(dy, x, blocks, lanes, s).run(dw);
}

}  // namespace fastconv::cpu
