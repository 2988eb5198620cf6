// A convolution by weight for many channels. A band of one operand is transposed, [pixel][sample]
// [channel], and the broadcast tile spreads the other one's samples over its vectors:
//
//   dw[s][tap][v] += other[s][pixel + tap][sample] * band[pixel][sample][v]
//
// There are no lanes to add up, products with padding are left out, nothing else is copied. 1x1,
// 1024 <- 256, 14 x 14, one Zen 5 core: 204 of 234 GFLOP/s, where summing over lanes reads ten
// vectors for 24 multiply-adds from L2 and has 142.
//
// A few plain images go the same way, one sample at a time.
#include "cpu/conv/weight/weight_gradient.h"

#include <algorithm>
#include <cstring>

#include "cpu/conv/direct/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {
namespace {

constexpr int64_t kBandPixels = 100;         // in lanes
constexpr int64_t kPlainPixels = 640;        // of one sample
constexpr int64_t kShareVectors = 4;         // channels of a task's band, in sixteens
constexpr int64_t kShareFloats = 48 * 1024;  // of its sums, which stay in L2 with the band
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
  const Geometry& p = s.params;
  return {x,
          s.IC_per_group,
          s.IH,
          s.IW,
          {p.stride[0], p.stride[1]},
          {p.pads[0], p.pads[2]},
          {p.dilation[0], p.dilation[1]},
          samples};
}

bool is_pointwise(const Conv2dShape& s) {
  return s.KH == 1 && s.KW == 1 && s.params.pads == std::array<int64_t, 4>{0, 0, 0, 0};
}

// Of two ways to see a 1x1 convolution, the one that transposes fewer channels. (Of plain images
// pixels that are neighbours are transposed together.)
bool transposes_x(const Conv2dShape& s, bool lanes) {
  return is_pointwise(s) && s.IC_per_group < s.OC_per_group &&
         (lanes || s.params.stride == std::array<int64_t, 2>{1, 1});
}

// Few channels are copied, see below.
bool copies(const Conv2dShape& s) {
  return s.IC_per_group < kLanes && s.params.dilation[0] == 1 && s.KH > 1;
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

// Outputs of one block of samples: a piece of a row, or whole rows.
struct Band {
  int64_t block, row, rows, begin, end;

  int64_t cols() const { return end - begin; }
};

class ByChannels {
 public:
  ByChannels(const float* dy, const float* x, int64_t blocks, bool lanes, const Conv2dShape& s)
      : samples_(lanes ? kLanes : 1),
        vectors_(of_y(dy, s, samples_)),
        spread_(of_x(x, s, samples_)),
        turned_(transposes_x(s, lanes)),
        copies_(lanes && copies(s)),
        blocks_(blocks),
        groups_(s.params.groups),
        OH_(s.OH),
        OW_(s.OW),
        KH_(s.KH),
        KW_(s.KW) {
    if (turned_) std::swap(vectors_, spread_);
    if (is_pointwise(s) && s.params.stride == std::array<int64_t, 2>{1, 1}) {
      OW_ *= OH_, OH_ = 1;
      for (Operand* operand : {&vectors_, &spread_})
        operand->width *= operand->height, operand->height = 1;
    }
    cut();
  }

  void run(float* dw) {
    if (slices_ == 1)
      return parallel_for(tasks(), [&](int64_t task) {
        const Share own = share_of(task);
        const int64_t v_floats = own.s_count * taps_ * kLanes;
        Scratch<float> sums(own.v_count * v_floats);
        add_up(sums.data(), v_floats, own);
        for (int64_t v = 0; v < own.v_count; ++v)
          put(dw, sums.data() + v * v_floats, own.group, own.v0 + v, own.s0, own.s_count);
      });
    const int64_t slice_floats = groups_ * v_blocks_ * v_floats_;
    Scratch<float> sums(slices_ * slice_floats);
    parallel_for(tasks(), [&](int64_t task) {
      const Share own = share_of(task);
      add_up(sums.data() + own.slice * slice_floats + (own.group * v_blocks_ + own.v0) * v_floats_ +
                 own.s0 * taps_ * kLanes,
             v_floats_, own);
    });
    parallel_for(groups_ * v_blocks_, [&](int64_t task) {
      float* sum = sums.data() + task * v_floats_;
      for (int64_t slice = 1; slice < slices_; ++slice) {
        const float* part = sum + slice * slice_floats;
        for (int64_t i = 0; i < v_floats_; ++i) sum[i] += part[i];
      }
      put(dw, sum, task / v_blocks_, task % v_blocks_, 0, spread_.channels);
    });
  }

 private:
  // Of a task: channels of both operands, and which partial sums.
  struct Share {
    int64_t slice, group, v0, v_count, s0, s_count;
  };

  void cut() {
    taps_ = KH_ * KW_;
    v_blocks_ = ceil_div(vectors_.channels, kLanes);
    v_cuts_ = ceil_div(v_blocks_, kShareVectors);
    v_share_ = ceil_div(v_blocks_, v_cuts_);
    v_cuts_ = ceil_div(v_blocks_, v_share_);
    const int64_t pixels = samples_ == 1 ? kPlainPixels : kBandPixels;
    cols_ = ceil_div(OW_, ceil_div(OW_, pixels));
    rows_ = samples_ == 1 ? std::clamp<int64_t>(pixels / cols_, 1, OH_) : 1;
    rows_ = ceil_div(OH_, ceil_div(OH_, rows_));
    col_cuts_ = ceil_div(OW_, cols_), row_cuts_ = ceil_div(OH_, rows_);
    bands_ = blocks_ * col_cuts_ * row_cuts_;
    v_floats_ = spread_.channels * taps_ * kLanes;
    slices_ = std::clamp<int64_t>(kPartialFloats / (groups_ * v_blocks_ * v_floats_), 1,
                                  std::min(bands_, kTasks));
    s_share_ = std::clamp<int64_t>(kShareFloats / (v_share_ * kLanes * taps_), 1, spread_.channels);
    while (slices_ * groups_ * v_cuts_ * ceil_div(spread_.channels, s_share_) < kTasks &&
           s_share_ > 24)
      s_share_ = ceil_div(s_share_, 2);
    s_share_ = ceil_div(spread_.channels, ceil_div(spread_.channels, s_share_));
    s_cuts_ = ceil_div(spread_.channels, s_share_);
  }

  int64_t tasks() const { return slices_ * groups_ * v_cuts_ * s_cuts_; }

  Share share_of(int64_t task) const {
    const int64_t v0 = task / s_cuts_ % v_cuts_ * v_share_, s0 = task % s_cuts_ * s_share_;
    return {task / (groups_ * v_cuts_ * s_cuts_),
            task / (v_cuts_ * s_cuts_) % groups_,
            v0,
            std::min(v_share_, v_blocks_ - v0),
            s0,
            std::min(s_share_, spread_.channels - s0)};
  }

  // The rows of a column of bands are neighbours.
  Band band_at(int64_t i) const {
    const int64_t row = i % row_cuts_ * rows_, begin = i / row_cuts_ % col_cuts_ * cols_;
    return {i / (col_cuts_ * row_cuts_), row, std::min(rows_, OH_ - row), begin,
            std::min(begin + cols_, OW_)};
  }

  // The sums of a slice over a share of the channels, [v][s][tap][16], v_floats from v to v.
  void add_up(float* out, int64_t v_floats, const Share& own) const {
    for (int64_t v = 0; v < own.v_count; ++v)
      std::fill_n(out + v * v_floats, own.s_count * taps_ * kLanes, 0.0f);
    // A line more: no two in one set of the cache.
    const int64_t row = own.v_count * kLanes + kLanes;
    const int64_t copy_cols = (cols_ - 1) * spread_.stride[1] + (KW_ - 1) * spread_.dilation[1] + 1;
    Scratch<float> transposed(rows_ * cols_ * samples_ * row);
    Scratch<float> copy(copies_ ? own.s_count * KH_ * copy_cols * kLanes : 1);
    // What is summed over runs along a row, samples and pixels alike. Where those are no neighbours
    // the samples of a pixel are taps, and of plain images the pixels of a row are.
    const int64_t most_taps = std::max(cols_, kLanes);
    Scratch<int64_t> offsets(2 * most_taps);
    int64_t *x_tap = offsets.data(), *w_tap = x_tap + most_taps;
    for (int64_t n = 0; n < most_taps; ++n)
      x_tap[n] = n * row, w_tap[n] = samples_ == 1 ? n * spread_.stride[1] : n;
    cpu::BroadcastTile args{};
    args.groups = args.rows = 1, args.K = own.s_count, args.cols = own.v_count;
    args.x = transposed.data(), args.x_col = kLanes, args.x_tap = x_tap, args.w_tap = w_tap;
    args.y_col = v_floats;
    args.accumulate = true, args.tail = kLanes;
    args.prefetch_w = true, args.w_group = cols_ * spread_.stride[1] * samples_;

    const int64_t first = bands_ * own.slice / slices_, last = bands_ * (own.slice + 1) / slices_;
    for (int64_t i = first; i < last; ++i) {
      const Band band = band_at(i);
      transpose(transposed.data(), row, band, own);
      const float* image =
          spread_.data +
          ((band.block * groups_ + own.group) * spread_.channels + own.s0) * spread_.plane();
      if (copies_)
        products_with_copy(args, row, band, image, copy.data(), out);
      else
        products_in_place(args, row, band, image, out);
    }
  }

  // Of few channels the rows that a band meets are copied, zeros around them: then all channels and
  // rows of a column of the kernel have the same distance and fill a tile together.
  void products_with_copy(cpu::BroadcastTile args, int64_t row, const Band& band,
                          const float* image, float* copy, float* out) const {
    const Window window = copy_window(
        image, args.K, spread_.height, spread_.width, band.row * spread_.stride[0] - spread_.pad[0],
        band.begin * spread_.stride[1] - spread_.pad[1], KH_,
        (band.cols() - 1) * spread_.stride[1] + (KW_ - 1) * spread_.dilation[1] + 1, copy);
    args.K *= KH_, args.w_k = window.row, args.y_k = KW_ * kLanes;
    along_row(args, row, band.cols());
    for (int64_t t = 0; t < KW_; ++t) {
      args.w = window.data + t * spread_.dilation[1] * kLanes;
      args.y = out + t * kLanes;
      cpu::kernels().broadcast_tile(args);
    }
  }

  // Of many channels each tap is a product of its own, without the outputs that it has beside the
  // image.
  void products_in_place(cpu::BroadcastTile args, int64_t row, const Band& band, const float* image,
                         float* out) const {
    args.w_k = spread_.plane(), args.y_k = taps_ * kLanes;
    const float* x = args.x;
    for (int64_t r = 0; r < KH_; ++r) {
      const Reach rows = reach(spread_, 0, r, band.row, band.row + band.rows);
      if (rows.first >= rows.last) continue;
      const int64_t ih = rows.first * spread_.stride[0] + r * spread_.dilation[0] - spread_.pad[0];
      for (int64_t t = 0; t < KW_; ++t) {
        const Reach cols = reach(spread_, 1, t, band.begin, band.end);
        if (cols.first >= cols.last) continue;
        const int64_t iw =
            cols.first * spread_.stride[1] + t * spread_.dilation[1] - spread_.pad[1];
        if (rows.last - rows.first == 1) {
          along_row(args, row, cols.last - cols.first);
        } else {
          args.taps = cols.last - cols.first, args.C = rows.last - rows.first;
          args.x_c = band.cols() * row, args.w_c = spread_.stride[0] * spread_.width;
        }
        args.x =
            x + ((rows.first - band.row) * band.cols() + cols.first - band.begin) * samples_ * row;
        args.w = image + (ih * spread_.width + iw) * samples_;
        args.y = out + (r * KW_ + t) * kLanes;
        cpu::kernels().broadcast_tile(args);
      }
    }
  }

  // The sum over so many pixels of a row.
  void along_row(cpu::BroadcastTile& args, int64_t row, int64_t pixels) const {
    args.taps = spread_.stride[1] == 1 ? 1 : samples_;
    args.C = pixels * samples_ / args.taps;
    args.x_c = args.taps * row, args.w_c = spread_.stride[1] * args.taps;
  }

  // [pixel][sample][row]: a share of the channels of the pixels of a band.
  void transpose(float* out, int64_t row, const Band& band, const Share& own) const {
    const int64_t plane = vectors_.plane(), step = vectors_.stride[1] * samples_;
    const float* pixel =
        vectors_.data + (band.block * groups_ + own.group) * vectors_.channels * plane +
        (band.row * vectors_.stride[0] * vectors_.width + band.begin * vectors_.stride[1]) *
            samples_;
    const int64_t pixels = band.rows * band.cols();
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
  void put(float* dw, const float* sum, int64_t group, int64_t v, int64_t s0,
           int64_t s_count) const {
    const int64_t c = v * kLanes, channels = std::min(kLanes, vectors_.channels - c);
    const int64_t J = spread_.channels * taps_;
    if (!turned_)
      return cpu::kernels().to_plain(dw + (group * vectors_.channels + c) * J + s0 * taps_, J, sum,
                                     kLanes, s_count * taps_, static_cast<int>(channels));
    for (int64_t k = 0; k < s_count; ++k)
      std::memcpy(dw + (group * spread_.channels + s0 + k) * vectors_.channels + c,
                  sum + k * kLanes, static_cast<size_t>(channels) * sizeof(float));
  }

  int64_t samples_;
  Operand vectors_, spread_;  // what is transposed, what is spread
  bool turned_;               // vectors_ is x, not dy
  bool copies_;               // products_with_copy
  int64_t blocks_, groups_, OH_, OW_, KH_, KW_, taps_ = 0;
  int64_t v_blocks_ = 0, v_share_ = 0, v_cuts_ = 0;  // sixteens of channels of vectors_; in a task
  int64_t s_share_ = 0, s_cuts_ = 0;                 // channels of spread_ in a task
  int64_t rows_ = 0, cols_ = 0;                      // pixels of a band
  int64_t row_cuts_ = 0, col_cuts_ = 0, bands_ = 0;
  int64_t slices_ = 0, v_floats_ = 0;  // partial sums made side by side; of all of spread_
};

}  // namespace

// Transposing a vector costs some ten cycles, and half a cycle is gained for every use of it; with
// fewer than 32 channels the tile is narrow. A few channels must be copied, for which their kernel
// must be large.
bool weight_by_channels_pays(const Conv2dShape& s, bool lanes) {
  const bool turned = transposes_x(s, lanes);
  const int64_t channels = turned ? s.IC_per_group : s.OC_per_group;
  const int64_t uses = turned ? s.OC_per_group : s.IC_per_group * s.KH * s.KW;
  // Of plain images lanes would be added up after a few vectors of pixels: there it pays unless a
  // good part of the channels' vectors is empty, or a tile has too few sums to hide the latency of
  // an addition.
  if (!lanes) {
    constexpr int64_t kFewestSums = 8;
    const int64_t vectors = ceil_div(channels, kLanes),
                  spread = turned ? s.OC_per_group : s.IC_per_group;
    return channels >= kLanes && 9 * channels >= 7 * kLanes * vectors && uses >= 2 * kLanes &&
           spread * std::min(vectors, kShareVectors) >= kFewestSums;
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
  ByChannels(dy, x, blocks, lanes, s).run(dw);
}

}  // namespace fastconv
