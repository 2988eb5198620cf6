// Winograd for a small batch. Sixteen *channels* fill the vectors: of x in the transform of tiles,
// of y in all that follows. So every number of tiles is as good as any other, down to the four of a
// map of 7 x 7, and tiles are transformed as in lane blocks; the planes of sixteen channels are
// transposed into a block first, and back at the end.
//
// The products are the broadcast tile with its operands exchanged: its vectors are transformed
// weights, and the points of a tile are broadcast.
//
//   u[chunk][point][c][k]        k: the kChunk vectors of output channels of a chunk
//   v[point][block][tile][c]     c: the channels of a block of sixteen
//   m[point][block][tile][k] = sum over c of u * v
//
// Tiles are counted through all images, f = image * tiles + tile, and divided in whole rows of
// tiles.
#include "cpu/conv/winograd/small_batch.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/winograd/phases.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

constexpr int64_t kAxisPoints = 6, kPoints = 36;  // of kernels of 3x3 to 5x5

// Two vectors by eight tiles (AVX2: six) are sums enough to hide the latency of a multiply-add;
// wider chunks were no quicker, and are fewer tasks.
constexpr int64_t kChunk = 2;

class SmallBatch {
 public:
  SmallBatch(const Conv2dShape& shape, float* y, const float* x, const float* w, const float* bias,
             const ChannelPostOps& post)
      : s(shape),
        y_(y),
        x_(x),
        w_(w),
        post_(post),
        size_(Phases(s).tile),
        grid_(grid_of(s.OH, s.OW, size_)),
        rows_(s.N * grid_.rows),
        C_(ceil_div(s.IC, kLanes)),
        K_(ceil_div(s.OC, kLanes)),
        chunk_rows_(std::max<int64_t>(1, kStripPixels / (size_ * std::max(s.IW, s.OW)))),
        u_point_(conflict_free_stride(C_ * kLanes * kChunk * kLanes)),
        scale_(K_ * kLanes),
        shift_(K_ * kLanes) {
    for (int64_t k = 0; k < K_ * kLanes; ++k) {
      const bool there = k < s.OC;
      const float start = bias && there ? bias[k] : 0.0f;
      const float scale = post.scale && there ? post.scale[k] : 1.0f;
      scale_.data()[k] = scale;
      shift_.data()[k] = start * scale + (post.scale && there ? post.shift[k] : 0.0f);
    }
  }

  bool run() {
    // Weights that would not stay in a cache are better transformed where they are needed.
    constexpr int64_t kCachedFloats = int64_t{4} << 20;
    if (rows_ > 2 * chunks() && chunks() * u_size() <= kCachedFloats)
      by_rows();
    else
      by_channels();
    return finite_.load();
  }

 private:
  static constexpr int64_t kStripPixels = 2048;  // 128 KiB of a block of channels

  int64_t chunks() const { return ceil_div(K_, kChunk); }
  int64_t u_size() const { return kPoints * u_point_; }
  int64_t v_floats_of_row() const { return kPoints * C_ * kLanes * grid_.cols; }

  // The transformed weights first; then each task takes a few rows of tiles, whose points stay in
  // L2, through everything.
  void by_rows() {
    Scratch<float> u(chunks() * u_size());
    parallel_for(chunks(), [&](int64_t chunk) { transform_w(u.data() + chunk * u_size(), chunk); });
    constexpr int64_t kOwnFloats = 128 * 1024, kTasks = 16;
    const int64_t rows =
        std::clamp<int64_t>(kOwnFloats / v_floats_of_row(), 1, ceil_div(rows_, kTasks));
    parallel_for(ceil_div(rows_, rows), [&](int64_t task) {
      const int64_t begin = task * rows * grid_.cols;
      const int64_t end = std::min(rows_, (task + 1) * rows) * grid_.cols;
      Scratch<float> v(kPoints * v_point(end - begin));
      for (int64_t block = 0; block < C_; ++block) transform_x(v.data(), begin, end, block);
      for (int64_t chunk = 0; chunk < chunks(); ++chunk)
        outputs(u.data() + chunk * u_size(), v.data(), begin, end, chunk);
    });
  }

  // The points of all tiles first (or of as many as stay in L3); then each task takes a chunk of
  // output channels, and transforms its weights itself.
  void by_channels() {
    constexpr int64_t kSharedFloats = int64_t{2} << 20;
    const int64_t most = std::max<int64_t>(1, kSharedFloats / v_floats_of_row());
    const int64_t rows = ceil_div(rows_, ceil_div(rows_, most));
    Scratch<float> v(kPoints * v_point(rows * grid_.cols));
    for (int64_t row = 0; row < rows_; row += rows) {
      const int64_t begin = row * grid_.cols, end = std::min(rows_, row + rows) * grid_.cols;
      parallel_for(C_, [&](int64_t block) { transform_x(v.data(), begin, end, block); });
      parallel_for(chunks(), [&](int64_t chunk) {
        Scratch<float> u(u_size());
        transform_w(u.data(), chunk);
        outputs(u.data(), v.data(), begin, end, chunk);
      });
    }
  }

  int64_t v_point(int64_t tiles) const { return conflict_free_stride(C_ * tiles * kLanes); }

  // Calls body(image, first row of tiles, rows, tiles done before) for the tiles begin .. end - 1
  // in chunks of rows.
  template <class Body>
  void for_each_chunk(int64_t begin, int64_t end, const Body& body) const {
    for_each_block(
        begin, end, grid_.tiles(), [&](int64_t image, int64_t first, int64_t n, int64_t done) {
          const int64_t row0 = first / grid_.cols, rows = n / grid_.cols;
          for (int64_t i = 0; i < rows; i += chunk_rows_)
            body(image, row0 + i, std::min(chunk_rows_, rows - i), done + i * grid_.cols);
        });
  }

  // The points of a block of channels; channels that are not there are zero.
  void transform_x(float* v, int64_t begin, int64_t end, int64_t block) const {
    const int64_t plane = s.IH * s.IW, c = block * kLanes, tiles = end - begin;
    const int channels = static_cast<int>(std::min(kLanes, s.IC - c));
    Scratch<float> pixels(((chunk_rows_ - 1) * size_ + 6) * s.IW * kLanes);
    for_each_chunk(begin, end, [&](int64_t image, int64_t row, int64_t rows, int64_t done) {
      const int64_t top = row * size_ - s.geometry.pads[0], bottom = top + (rows - 1) * size_ + 6;
      const int64_t first = std::clamp<int64_t>(top, 0, s.IH);
      const int64_t last = std::clamp<int64_t>(bottom, first, s.IH);
      if (last > first)
        cpu::kernels().to_lanes(pixels.data(), x_ + (image * s.IC + c) * plane + first * s.IW,
                                (last - first) * s.IW, plane, channels);
      cpu::kernels().winograd_input(v + (block * tiles + done) * kLanes, v_point(tiles),
                                    tiles * kLanes, pixels.data(), 1,
                                    {last - first, s.IW, top - first, -s.geometry.pads[2],
                                     grid_.cols, 0, rows * grid_.cols, s.KH, kAxisPoints, 1});
    });
  }

  // The transformed weights of a chunk of output channels; zeros where there is no channel.
  void transform_w(float* u, int64_t chunk) const {
    const int64_t taps = s.KH * s.KW, k0 = chunk * kChunk, count = std::min(kChunk, K_ - k0);
    // Sixteen rows of weights are read a page at a time: they may come from memory.
    const int64_t step = 1152 / taps / kLanes * kLanes;
    Scratch<float> lanes(step * taps * kLanes);
    for (int64_t k = 0; k < count; ++k)
      for (int64_t c = 0; c < C_ * kLanes; c += step) {
        const int64_t oc = (k0 + k) * kLanes;
        const int64_t channels = std::min(step, s.IC - c), all = std::min(step, C_ * kLanes - c);
        cpu::kernels().to_lanes(lanes.data(), w_ + (oc * s.IC + c) * taps, channels * taps,
                                s.IC * taps, static_cast<int>(std::min(kLanes, s.OC - oc)));
        std::fill(lanes.data() + channels * taps * kLanes, lanes.data() + all * taps * kLanes,
                  0.0f);
        cpu::kernels().winograd_weight_channels(u + (c * count + k) * kLanes, u_point_,
                                                count * kLanes, lanes.data(), all,
                                                static_cast<int>(s.KH));
      }
  }

  // y of a chunk of output channels in the tiles begin .. end - 1.
  void outputs(const float* u, const float* v, int64_t begin, int64_t end, int64_t chunk) {
    const int64_t k0 = chunk * kChunk, count = std::min(kChunk, K_ - k0);
    const int64_t tiles = end - begin, block = tiles * kLanes;
    const int64_t m_point = conflict_free_stride(kChunk * block);
    Scratch<float> m(kPoints * m_point);
    int64_t u_tap[kLanes], v_tap[kLanes];  // the channels of a block
    for (int64_t i = 0; i < kLanes; ++i) u_tap[i] = i * count * kLanes, v_tap[i] = i;
    BroadcastTile args{};
    args.groups = kPoints, args.K = tiles, args.C = C_, args.taps = kLanes;
    args.rows = 1, args.cols = count;
    args.x = u;
    args.x_group = u_point_, args.x_c = kLanes * count * kLanes, args.x_col = kLanes;
    args.x_tap = u_tap;
    args.w = v;
    args.w_group = v_point(tiles), args.w_k = kLanes, args.w_c = block;
    args.w_tap = v_tap;
    args.y = m.data();
    args.y_group = m_point, args.y_k = kLanes, args.y_col = block;
    args.tail = kLanes;
    cpu::kernels().broadcast_tile(args);

    const int64_t plane = s.OH * s.OW;
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float low = post_.plus ? -kInfinity : post_.low;  // with an addend, after it
    const float high = post_.plus ? kInfinity : post_.high;
    Scratch<float> pixels(chunk_rows_ * size_ * s.OW * kLanes);
    for_each_chunk(begin, end, [&](int64_t image, int64_t row, int64_t rows, int64_t done) {
      const int64_t first = row * size_, height = std::min(rows * size_, s.OH - first);
      for (int64_t k = 0; k < count; ++k) {
        const int64_t oc = (k0 + k) * kLanes;
        if (!cpu::kernels().winograd_output_channels(
                pixels.data(), m.data() + k * block + done * kLanes, m_point, block, 1,
                scale_.data() + oc, shift_.data() + oc, low, high,
                {height, s.OW, 0, 0, grid_.cols, 0, rows * grid_.cols, s.KH, kAxisPoints, 1}))
          finite_.store(false, std::memory_order_relaxed);
        const int64_t channels = std::min(kLanes, s.OC - oc);
        const int64_t at = (image * s.OC + oc) * plane + first * s.OW;
        cpu::kernels().to_plain(y_ + at, plane, pixels.data(), kLanes, height * s.OW,
                                static_cast<int>(channels));
        if (post_.plus)
          for (int64_t c = 0; c < channels; ++c)
            apply_post_ops(y_ + at + c * plane,
                           {nullptr, nullptr, post_.plus + at + c * plane, post_.low, post_.high},
                           height * s.OW);
      }
    });
  }

  const Conv2dShape& s;
  float* y_;
  const float *x_, *w_;
  const ChannelPostOps& post_;
  int64_t size_;  // outputs along a side of a tile
  TileGrid grid_;
  int64_t rows_;        // of tiles, in all images
  int64_t C_, K_;       // blocks of sixteen channels
  int64_t chunk_rows_;  // rows of tiles that are transposed at a time
  int64_t u_point_;
  Scratch<float> scale_, shift_;
  std::atomic<bool> finite_{true};
};

}  // namespace

double winograd_small_batch_cycles(const Conv2dShape& s) {
  // Of a tile, a vector of weights and an image for each block of channels.
  const double input = 430.0, output = 350.0, weight = s.KH == 3 ? 165.0 : 330.0, image = 800.0;
  const double N = double(s.N);
  const double C = double(ceil_div(s.IC, kLanes)), K = double(ceil_div(s.OC, kLanes));
  const double tiles = N * double(grid_of(s.OH, s.OW, Phases(s).tile).tiles());
  // With a single tile the sums wait for their own additions.
  const double products = 1.05 * double(kPoints) * std::max(tiles, 2.0);
  return (products + weight) * C * double(kLanes) * K + tiles * (input * C + output * K) +
         image * N * (C + K);
}

bool winograd_small_batch_pays(const Conv2dShape& s) {
  if (!winograd_applies(s) || s.geometry.stride[0] > 1 || s.KH < 3) return false;
  const double vectors = double(s.N * ceil_div(s.OH * (s.OW + s.KW - 1), kLanes));
  return winograd_small_batch_cycles(s) < 1.05 * vectors * double(s.KH * s.KW * s.IC * s.OC);
}

bool winograd_forward_small_batch(float* y, const float* x, const float* w, const float* bias,
                                  const Conv2dShape& s, const ChannelPostOps& post) {
  return SmallBatch(s, y, x, w, bias, post).run();
}

}  // namespace fastconv::cpu
