// A convolution by weight for many channels. A band of one operand is transposed, [pixel][sample]
// [channel], and the broadcast tile spreads the other one's samples over its vectors:
//
//   dw[s][tap][v] += other[s][pixel + tap][sample] * band[pixel][sample][v]
//
// There are no lanes to add up, products with padding are left out, nothing else is copied. 1x1,
// 1024 <- 256, 14 x 14, one Zen 5 core: 204 of 234 GFLOP/s, where summing over lanes reads ten
// vectors for 24 multiply-adds from L2 and has 142.
#include "ops/weight_gradient.h"

#include <algorithm>
#include <cstring>

#include "core/scratch.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "ops/window.h"

namespace fastconv {
namespace {

constexpr int64_t kBandPixels = 100;
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

  int64_t plane() const { return height * width * kLanes; }
};

Operand of_y(const float* dy, const Conv2dShape& s) {
  return {dy, s.OC_per_group, s.OH, s.OW, {1, 1}, {0, 0}, {1, 1}};
}
Operand of_x(const float* x, const Conv2dShape& s) {
  const Conv2dParams& p = s.params;
  return {x,
          s.IC_per_group,
          s.IH,
          s.IW,
          {p.stride[0], p.stride[1]},
          {p.pads[0], p.pads[2]},
          {p.dilation[0], p.dilation[1]}};
}

bool is_pointwise(const Conv2dShape& s) {
  return s.KH == 1 && s.KW == 1 && s.params.pads == std::array<int64_t, 4>{0, 0, 0, 0};
}

// Of two ways to see a 1x1 convolution, the one that transposes fewer channels.
bool transposes_x(const Conv2dShape& s) {
  return is_pointwise(s) && s.IC_per_group < s.OC_per_group;
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

// A piece of a row of outputs, in one block of samples.
struct Band {
  int64_t block, row, begin, end;
};

class ByChannels {
 public:
  ByChannels(const float* dy, const float* x, int64_t blocks, const Conv2dShape& s)
      : vectors_(of_y(dy, s)),
        spread_(of_x(x, s)),
        blocks_(blocks),
        groups_(s.params.groups),
        OH_(s.OH),
        OW_(s.OW),
        KH_(s.KH),
        KW_(s.KW) {
    turned_ = transposes_x(s);
    if (turned_) std::swap(vectors_, spread_);
    if (is_pointwise(s) && s.params.stride == std::array<int64_t, 2>{1, 1}) {
      OW_ *= OH_, OH_ = 1;
      for (Operand* operand : {&vectors_, &spread_})
        operand->width *= operand->height, operand->height = 1;
    }
    copies_ = copies(s);
    cut();
  }

  void run(float* dw) {
    Scratch<float> sums(slices_ * slice_floats_);
    parallel_for(slices_ * groups_ * v_cuts_ * s_cuts_,
                 [&](int64_t task) { share(sums.data(), task); });
    parallel_for(groups_ * v_blocks_, [&](int64_t task) { finish(dw, sums.data(), task); });
  }

 private:
  void cut() {
    taps_ = KH_ * KW_;
    v_blocks_ = ceil_div(vectors_.channels, kLanes);
    v_cuts_ = ceil_div(v_blocks_, kShareVectors);
    v_share_ = ceil_div(v_blocks_, v_cuts_);
    v_cuts_ = ceil_div(v_blocks_, v_share_);
    cols_ = ceil_div(OW_, ceil_div(OW_, kBandPixels));
    col_cuts_ = ceil_div(OW_, cols_);
    bands_ = blocks_ * col_cuts_ * OH_;
    v_floats_ = spread_.channels * taps_ * kLanes;
    slice_floats_ = groups_ * v_blocks_ * v_floats_;
    slices_ = std::clamp<int64_t>(kPartialFloats / slice_floats_, 1, std::min(bands_, kTasks));
    s_share_ = std::clamp<int64_t>(kShareFloats / (v_share_ * kLanes * taps_), 1, spread_.channels);
    while (slices_ * groups_ * v_cuts_ * ceil_div(spread_.channels, s_share_) < kTasks &&
           s_share_ > 24)
      s_share_ = ceil_div(s_share_, 2);
    s_share_ = ceil_div(spread_.channels, ceil_div(spread_.channels, s_share_));
    s_cuts_ = ceil_div(spread_.channels, s_share_);
  }

  // The rows of a column of bands are neighbours.
  Band band_at(int64_t i) const {
    const int64_t begin = i / OH_ % col_cuts_ * cols_;
    return {i / (col_cuts_ * OH_), i % OH_, begin, std::min(begin + cols_, OW_)};
  }

  // The sums of one slice over a share of the channels of both operands:
  // [slice][group][v / 16][s][tap][16].
  void share(float* sums, int64_t task) const {
    const int64_t slice = task / (groups_ * v_cuts_ * s_cuts_);
    const int64_t group = task / (v_cuts_ * s_cuts_) % groups_;
    const int64_t v0 = task / s_cuts_ % v_cuts_ * v_share_, s0 = task % s_cuts_ * s_share_;
    const int64_t v_count = std::min(v_share_, v_blocks_ - v0);
    const int64_t s_count = std::min(s_share_, spread_.channels - s0);
    float* out =
        sums + slice * slice_floats_ + (group * v_blocks_ + v0) * v_floats_ + s0 * taps_ * kLanes;
    for (int64_t v = 0; v < v_count; ++v)
      std::fill_n(out + v * v_floats_, s_count * taps_ * kLanes, 0.0f);

    const int64_t row = v_count * kLanes + kLanes;  // a line more: no two in one set of the cache
    const int64_t copy_cols = (cols_ - 1) * spread_.stride[1] + (KW_ - 1) * spread_.dilation[1] + 1;
    Scratch<float> transposed(cols_ * kLanes * row);
    Scratch<float> copy(copies_ ? s_count * KH_ * copy_cols * kLanes : 1);
    // The samples of a pixel are taps or, where pixels are neighbours, steps like all others.
    const int64_t taps = spread_.stride[1] == 1 ? 1 : kLanes;
    int64_t x_tap[kLanes], w_tap[kLanes];
    for (int64_t n = 0; n < taps; ++n) x_tap[n] = n * row, w_tap[n] = n;
    cpu::TileSweep sweep{};
    sweep.groups = sweep.rows = 1, sweep.K = s_count, sweep.taps = taps, sweep.cols = v_count;
    sweep.x_c = taps * row, sweep.x_col = kLanes, sweep.x_tap = x_tap;
    sweep.w_c = spread_.stride[1] * taps, sweep.w_tap = w_tap;
    sweep.y_col = v_floats_;
    sweep.accumulate = true, sweep.tail = kLanes;
    sweep.asks_for_w = true, sweep.w_group = cols_ * spread_.stride[1] * kLanes;

    const int64_t first = bands_ * slice / slices_, last = bands_ * (slice + 1) / slices_;
    for (int64_t i = first; i < last; ++i) {
      const Band band = band_at(i);
      transpose(transposed.data(), row, band, group, v0, v_count);
      sweep.x = transposed.data();
      const float* image =
          spread_.data + ((band.block * groups_ + group) * spread_.channels + s0) * spread_.plane();
      if (copies_)
        products_with_copy(sweep, band, image, copy.data(), out);
      else
        products_in_place(sweep, band, image, out);
    }
  }

  // Of few channels the rows that a band meets are copied, zeros around them: then all channels and
  // rows of a column of the kernel have the same distance and fill a tile together.
  void products_with_copy(cpu::TileSweep& sweep, const Band& band, const float* image, float* copy,
                          float* out) const {
    const int64_t channels = sweep.K, pixels = band.end - band.begin;
    const Window window =
        copy_window(image, channels, spread_.height, spread_.width,
                    band.row * spread_.stride[0] - spread_.pad[0],
                    band.begin * spread_.stride[1] - spread_.pad[1], KH_,
                    (pixels - 1) * spread_.stride[1] + (KW_ - 1) * spread_.dilation[1] + 1, copy);
    sweep.K = channels * KH_, sweep.w_k = window.row, sweep.y_k = KW_ * kLanes;
    sweep.C = pixels * kLanes / sweep.taps;
    for (int64_t t = 0; t < KW_; ++t) {
      sweep.w = window.data + t * spread_.dilation[1] * kLanes;
      sweep.y = out + t * kLanes;
      cpu::kernels().tile_sweep(sweep);
    }
    sweep.K = channels;
  }

  // Of many channels each tap is a product of its own, without the outputs that it has beside the
  // image.
  void products_in_place(cpu::TileSweep& sweep, const Band& band, const float* image,
                         float* out) const {
    sweep.w_k = spread_.plane(), sweep.y_k = taps_ * kLanes;
    const float* x = sweep.x;
    const int64_t pixel = kLanes / sweep.taps * sweep.x_c;
    for (int64_t r = 0; r < KH_; ++r) {
      const Reach rows = reach(spread_, 0, r, band.row, band.row + 1);
      if (rows.first >= rows.last) continue;
      const int64_t ih = band.row * spread_.stride[0] + r * spread_.dilation[0] - spread_.pad[0];
      for (int64_t t = 0; t < KW_; ++t) {
        const Reach cols = reach(spread_, 1, t, band.begin, band.end);
        if (cols.first >= cols.last) continue;
        const int64_t iw =
            cols.first * spread_.stride[1] + t * spread_.dilation[1] - spread_.pad[1];
        sweep.C = (cols.last - cols.first) * kLanes / sweep.taps;
        sweep.x = x + (cols.first - band.begin) * pixel;
        sweep.w = image + (ih * spread_.width + iw) * kLanes;
        sweep.y = out + (r * KW_ + t) * kLanes;
        cpu::kernels().tile_sweep(sweep);
      }
    }
    sweep.x = x;
  }

  // [pixel][sample][row]: v_count * 16 channels of the pixels of a band.
  void transpose(float* out, int64_t row, const Band& band, int64_t group, int64_t v0,
                 int64_t v_count) const {
    const int64_t plane = vectors_.plane(), step = vectors_.stride[1] * kLanes;
    const float* pixel =
        vectors_.data + (band.block * groups_ + group) * vectors_.channels * plane +
        (band.row * vectors_.stride[0] * vectors_.width + band.begin * vectors_.stride[1]) * kLanes;
    for (int64_t v = 0; v < v_count; ++v) {
      const int64_t c = (v0 + v) * kLanes, channels = std::min(kLanes, vectors_.channels - c);
      for (int64_t i = 0; i < band.end - band.begin; ++i)
        cpu::kernels().to_plain(out + i * kLanes * row + v * kLanes, row,
                                pixel + c * plane + i * step, plane, channels, kLanes);
    }
  }

  // Adds up the slices of sixteen of the vectors' channels, in order, and moves them to where they
  // belong.
  void finish(float* dw, float* sums, int64_t task) const {
    const int64_t group = task / v_blocks_, v = task % v_blocks_ * kLanes;
    const int64_t channels = std::min(kLanes, vectors_.channels - v), J = v_floats_ / kLanes;
    float* sum = sums + task * v_floats_;
    for (int64_t slice = 1; slice < slices_; ++slice) {
      const float* part = sum + slice * slice_floats_;
      for (int64_t i = 0; i < v_floats_; ++i) sum[i] += part[i];
    }
    if (!turned_)
      return cpu::kernels().to_plain(dw + (group * vectors_.channels + v) * J, J, sum, kLanes, J,
                                     static_cast<int>(channels));
    for (int64_t k = 0; k < spread_.channels; ++k)
      std::memcpy(dw + (group * spread_.channels + k) * vectors_.channels + v, sum + k * kLanes,
                  static_cast<size_t>(channels) * sizeof(float));
  }

  Operand vectors_, spread_;  // what is transposed, what is spread
  bool turned_;               // vectors_ is x, not dy
  bool copies_;               // products_with_copy
  int64_t blocks_, groups_, OH_, OW_, KH_, KW_, taps_;
  int64_t v_blocks_, v_share_, v_cuts_;       // sixteens of channels of vectors_; in a task
  int64_t s_share_, s_cuts_;                  // channels of spread_ in a task
  int64_t cols_, col_cuts_, bands_;           // pixels of a band
  int64_t slices_, slice_floats_, v_floats_;  // partial sums made side by side
};

}  // namespace

// Transposing a vector costs some ten cycles, and half a cycle is gained for every use of it; with
// fewer than 32 channels the tile is narrow. A few channels must be copied, for which their kernel
// must be large. Strided taps of an image that no cache holds are waited for: there copies of whole
// windows are quicker (128 -> 128, 3x3, stride 2, 56 x 56: 11.3 ms instead of 13.1).
bool weight_by_channels_pays(const Conv2dShape& s) {
  constexpr int64_t kCachedFloats = 4 << 20;
  const bool strided = s.params.stride[1] > 1 && s.KH * s.KW > 1;
  if (s.IC_per_group < kLanes)
    return copies(s) && s.OC_per_group >= 2 * kLanes && s.IC_per_group * s.KH * s.KW >= 128;
  if (strided && s.IC * s.IH * s.IW * kLanes > kCachedFloats) return false;
  const int64_t channels = transposes_x(s) ? s.IC_per_group : s.OC_per_group;
  const int64_t uses = transposes_x(s) ? s.OC_per_group : s.IC_per_group * s.KH * s.KW;
  // Fewer channels than two vectors hold pay where both operands come from memory, once.
  constexpr int64_t kFarFloats = 8 << 20;
  if (s.KH * s.KW == 1 && s.N * (s.IC * s.IH * s.IW + s.OC * s.OH * s.OW) >= kFarFloats)
    return channels >= kLanes && uses >= 2 * kLanes;
  return channels >= 2 * kLanes && uses >= 4 * kLanes;
}

void weight_by_channels(float* dw, const float* dy, const float* x, int64_t blocks,
                        const Conv2dShape& s) {
  ByChannels(dy, x, blocks, s).run(dw);
}

}  // namespace fastconv
