// Winograd by weight: du[point] = dy transformed [K][samples] * x transformed [samples][C], a
// sample being one lane of one tile; then the adjoint of the transform of weights. Both are sums
// over many samples for few outputs, so one operand, that with fewer channels, is transposed on its
// way out of the transform and the broadcast tile has vectors of channels: there are no lanes to
// add up.
#include "cpu/conv/winograd/winograd.h"

#include <algorithm>
#include <atomic>

#include "cpu/conv/winograd/phases.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

class WeightGradient {
 public:
  WeightGradient(const Conv2dShape& shape, const WinogradPart& part, int64_t blocks,
                 int64_t min_tasks)
      : s_(shape),
        phases_(shape, part.points),
        x_channels_(shape.IC * phases_.count),
        x_in_vectors_(x_channels_ <= shape.OC),
        K_(x_in_vectors_ ? shape.OC : x_channels_),
        C_(x_in_vectors_ ? x_channels_ : shape.OC),
        grid_(grid_of(shape.OH, shape.OW, phases_.tile)),
        all_(blocks * grid_.tiles()) {
    // What is transformed at a time should stay in L3, and repay reading and writing du.
    constexpr int64_t kStepFloats = 2 << 20, kPairsOfTile = 2048;
    const int64_t step = std::max(kStepFloats / (phases_.points * kLanes * (K_ + C_)),
                                  std::clamp<int64_t>(K_ * C_ / kPairsOfTile, 8, 48));
    step_ = ceil_div(all_, ceil_div(all_, step));
    few_tiles_ = all_ <= 4 && K_ * C_ >= 128 * 128;
    chunk_k_ = std::min<int64_t>(few_tiles_ ? 32 : 128, K_);
    chunk_c_ = std::min<int64_t>(few_tiles_ ? 128 : 64, ceil_div(C_, kLanes) * kLanes);
    k_chunks_ = ceil_div(K_, chunk_k_), c_chunks_ = ceil_div(C_, chunk_c_);
    // Up to four lines a row, sixteen rows lie in different sets of the L1 cache as they are.
    const int64_t row = ceil_div(std::min(C_, chunk_c_), kLanes) * kLanes;
    v_row_ = row <= 4 * kLanes ? row : conflict_free_stride(row);
    // A thread that has du and three tiles or more in its L2 writes no points to L3. (From the
    // shape alone, for an L2 of 2 MiB: the order of sums depends on it.) The slices' sums are added
    // up in order. A task of a larger operation has all tiles for itself.
    constexpr int64_t kFewestTiles = 3, kNearFloats = 7 << 16;
    const int64_t slices = min_tasks, all_rows = v_row_ * c_chunks_;
    const int64_t fit = (kNearFloats / phases_.points - K_ * all_rows) / (kLanes * (K_ + all_rows));
    if (fit >= kFewestTiles && all_ >= slices * fit) {
      slices_ = slices;
      step_ = ceil_div(all_ / slices, ceil_div(all_ / slices, std::min<int64_t>(fit, 16)));
    }
    v_panel_ = step_ * kLanes * v_row_;
    v_point_ = conflict_free_stride(v_panel_ * c_chunks_);
    m_k_ = step_ * kLanes, m_point_ = conflict_free_stride(K_ * m_k_);
    du_point_ = chunk_k_ * chunk_c_ + kLanes;
  }

  // Whether all of dw is finite.
  bool run(float* dw, const float* dy, const float* x) {
    if (slices_ > 0)
      run_by_slices(dw, dy, x);
    else
      run_by_points(dw, dy, x);
    return finite_.load();
  }

 private:
  void run_by_points(float* dw, const float* dy, const float* x) {
    const int64_t chunks = k_chunks_ * c_chunks_, du_chunk = phases_.points * du_point_;
    Scratch<float> v(phases_.points * v_point_), m(phases_.points * m_point_);
    if (few_tiles_) {  // du is the largest array: a chunk of it stays in L2
      transform(v.data(), m.data(), dy, x, 0, all_);
      parallel_for(chunks, [&](int64_t chunk) {
        Scratch<float> du(du_chunk);
        for (int64_t point = 0; point < phases_.points; ++point)
          product(du.data() + point * du_point_, v.data(), m.data(), point, chunk, all_, false);
        gradient(dw, du.data(), chunk, 0, 1);
      });
      return;
    }
    Scratch<float> du(chunks * du_chunk);
    for (int64_t begin = 0; begin < all_; begin += step_) {
      const int64_t tiles = std::min(step_, all_ - begin);
      transform(v.data(), m.data(), dy, x, begin, begin + tiles);
      parallel_for(phases_.points * chunks, [&](int64_t task) {  // all that reads a point together
        const int64_t point = task / chunks, chunk = task % chunks;
        product(du.data() + chunk * du_chunk + point * du_point_, v.data(), m.data(), point, chunk,
                tiles, begin > 0);
      });
    }
    constexpr int64_t kParts = 8;
    parallel_for(chunks * kParts, [&](int64_t task) {
      const int64_t chunk = task / kParts;
      gradient(dw, du.data() + chunk * du_chunk, chunk, task % kParts, kParts);
    });
  }

  // The tasks are slices of the tiles, each with a du of its own.
  void run_by_slices(float* dw, const float* dy, const float* x) {
    const int64_t chunks = k_chunks_ * c_chunks_, du_chunk = phases_.points * du_point_;
    const int64_t du_slice = chunks * du_chunk;
    Scratch<float> du(slices_ * du_slice);
    parallel_for(slices_, [&](int64_t slice) {
      Scratch<float> v(phases_.points * v_point_), m(phases_.points * m_point_);
      const int64_t first = all_ * slice / slices_, last = all_ * (slice + 1) / slices_;
      for (int64_t begin = first; begin < last; begin += step_) {
        const int64_t tiles = std::min(step_, last - begin);
        transform_tiles(v.data(), m.data(), dy, x, begin, begin + tiles);
        for (int64_t point = 0; point < phases_.points; ++point)
          for (int64_t chunk = 0; chunk < chunks; ++chunk)
            product(du.data() + slice * du_slice + chunk * du_chunk + point * du_point_, v.data(),
                    m.data(), point, chunk, tiles, begin > first);
      }
    });
    constexpr int64_t kParts = 16;
    parallel_for(chunks * kParts, [&](int64_t task) {
      const int64_t chunk = task / kParts, part = task % kParts;
      join_slices(du.data() + chunk * du_chunk, du_slice, chunk, part, kParts);
      gradient(dw, du.data() + chunk * du_chunk, chunk, part, kParts);
    });
  }

  // Adds to the first slice of a part of a chunk what the others have there.
  void join_slices(float* du, int64_t du_slice, int64_t chunk, int64_t part, int64_t parts) const {
    const int64_t k_count = std::min(chunk_k_, K_ - chunk / c_chunks_ * chunk_k_);
    const int64_t begin = k_count * part / parts * chunk_c_;
    const int64_t end = k_count * (part + 1) / parts * chunk_c_;
    for (int64_t point = 0; point < phases_.points; ++point, du += du_point_)
      for (int64_t slice = 1; slice < slices_; ++slice)
        for (int64_t i = begin; i < end; ++i) du[i] += du[slice * du_slice + i];
  }

  // v[point][c / share_c][sample][v_row] and m[point][k][sample] of the tiles begin .. end - 1.
  void transform(float* v, float* m, const float* dy, const float* x, int64_t begin,
                 int64_t end) const {
    const int64_t chunk = std::clamp<int64_t>((end - begin) / 8, 1, 4);
    parallel_for(ceil_div(end - begin, chunk), [&](int64_t task) {
      const int64_t first = task * chunk, sample = first * kLanes;
      transform_tiles(v + sample * v_row_, m + sample, dy, x, begin + first,
                      std::min(begin + first + chunk, end));
    });
  }

  // Neighbours together, since longer runs of pixels are read; what is transposed one by one, since
  // all points of a tile stay in L1.
  void transform_tiles(float* v, float* m, const float* dy, const float* x, int64_t begin,
                       int64_t end) const {
    const float *c_images = x_in_vectors_ ? x : dy, *k_images = x_in_vectors_ ? dy : x;
    for_each_block(
        begin, end, grid_.tiles(), [&](int64_t block, int64_t tile, int64_t n, int64_t done) {
          const int64_t at = done * kLanes;
          for (int64_t i = 0; i < n; ++i)
            transpose_points(v + (at + i * kLanes) * v_row_, c_images, block, tile + i);
          points(m + at, m_point_, m_k_, k_images, !x_in_vectors_, block, tile, n, 0, K_);
        });
  }

  // The points of n tiles of one block, of the channels from `first` on: of x, or of dy.
  void points(float* to, int64_t point, int64_t channel, const float* images, bool of_x,
              int64_t block, int64_t tile, int64_t n, int64_t first, int64_t channels) const {
    const Kernels& kernels = cpu::kernels();
    if (!of_x) {
      const float* image = images + (block * s_.OC + first) * s_.OH * s_.OW * kLanes;
      kernels.winograd_dy(
          to, point, channel, image, channels,
          {s_.OH, s_.OW, 0, 0, grid_.cols, tile, n, phases_.taps, phases_.axis_points, 1});
      return;
    }
    for_each_block(first, first + channels, s_.IC,
                   [&](int64_t phase, int64_t c, int64_t count, int64_t done) {
                     const WinogradTaps at = phases_[phase];
                     kernels.winograd_input(
                         to + done * channel, point, channel,
                         images + (block * s_.IC + c) * s_.IH * s_.IW * kLanes, count,
                         {s_.IH, s_.IW, at.row - s_.geometry.pads[0], at.col - s_.geometry.pads[2],
                          grid_.cols, tile, n, phases_.taps, at.points, at.stride});
                   });
  }

  // The same of one tile with sixteen channels of sixteen samples at a time transposed.
  void transpose_points(float* v, const float* images, int64_t block, int64_t tile) const {
    const int64_t part = conflict_free_stride(kLanes * kLanes);
    Scratch<float> lanes(phases_.points * part);
    for (int64_t c = 0; c < C_; c += kLanes) {
      const int64_t channels = std::min(kLanes, C_ - c);
      points(lanes.data(), part, kLanes, images, x_in_vectors_, block, tile, 1, c, channels);
      float* to = v + c / chunk_c_ * v_panel_ + c % chunk_c_;
      for (int64_t point = 0; point < phases_.points; ++point)
        cpu::kernels().to_plain(to + point * v_point_, v_row_, lanes.data() + point * part, kLanes,
                                channels, kLanes);
    }
  }

  // du[k][c] (+)= the product over the samples of `tiles` tiles at one point, for a chunk of the
  // pairs of channels, unless nobody reads it. Cut so that what a tile of the product passes over
  // again stays in L2.
  void product(float* du, const float* v, const float* m, int64_t point, int64_t chunk,
               int64_t tiles, bool accumulate) const {
    constexpr int64_t kSamples = 256, kFarPairs = 160 * 160;  // fewer are read from L2 in time
    const int64_t k = chunk / c_chunks_ * chunk_k_, c_chunk = chunk % c_chunks_;
    const int64_t k_count = std::min(chunk_k_, K_ - k);
    const int64_t c = c_chunk * chunk_c_, c_count = std::min(chunk_c_, C_ - c);
    const Phases::Range phases = phases_.at_point(point, false);
    const int64_t x_begin = x_in_vectors_ ? c : k, x_count = x_in_vectors_ ? c_count : k_count;
    if (x_begin >= phases.last * s_.IC || x_begin + x_count <= phases.first * s_.IC) return;
    BroadcastTile args{};
    args.groups = args.taps = args.rows = 1;
    args.K = k_count, args.cols = ceil_div(c_count, kLanes);
    args.x_c = v_row_, args.x_col = kLanes, args.w_k = m_k_, args.w_c = 1;
    args.x_tap = args.w_tap = &cpu::kNoOffset;
    args.y = du, args.y_k = chunk_c_, args.y_col = kLanes;
    args.tail = static_cast<int>(c_count - (args.cols - 1) * kLanes);
    args.prefetch_w = K_ * C_ >= kFarPairs;
    for (int64_t sample = 0; sample < tiles * kLanes; sample += kSamples) {
      args.C = std::min(kSamples, tiles * kLanes - sample);
      args.x = v + point * v_point_ + c_chunk * v_panel_ + sample * v_row_;
      args.w = m + point * m_point_ + k * m_k_ + sample;
      args.accumulate = accumulate || sample > 0;
      cpu::kernels().broadcast_tile(args);
    }
  }

  // One of `parts` parts of the pairs of a chunk.
  void gradient(float* dw, const float* du, int64_t chunk, int64_t part, int64_t parts) {
    const int64_t k0 = chunk / c_chunks_ * chunk_k_, c0 = chunk % c_chunks_ * chunk_c_;
    const int64_t k_count = std::min(chunk_k_, K_ - k0), c_count = std::min(chunk_c_, C_ - c0);
    const int64_t w_ic = s_.KH * s_.KW, w_oc = s_.IC * w_ic;
    for (int64_t k = k_count * part / parts; k < k_count * (part + 1) / parts; ++k)
      for (int64_t c = 0; c < c_count;) {
        const int64_t oc = x_in_vectors_ ? k0 + k : c0 + c, x = x_in_vectors_ ? c0 + c : k0 + k;
        const int64_t phase = x / s_.IC, ic = x % s_.IC;
        int64_t pairs = std::min(kLanes, c_count - c);
        if (x_in_vectors_) pairs = std::min(pairs, s_.IC - ic);
        if (!cpu::kernels().winograd_dw(dw + oc * w_oc + ic * w_ic, x_in_vectors_ ? w_ic : w_oc,
                                        du + k * chunk_c_ + c, du_point_, static_cast<int>(pairs),
                                        phases_[phase]))
          finite_.store(false, std::memory_order_relaxed);
        c += pairs;
      }
  }

  const Conv2dShape& s_;
  Phases phases_;
  int64_t x_channels_;  // by phases of the stride
  bool x_in_vectors_;   // transposed is x, not dy
  int64_t K_, C_;       // channels of what is broadcast, of what is transposed
  TileGrid grid_;
  int64_t all_, step_;  // tiles; those transformed at a time
  int64_t slices_ = 0;  // of the tiles, where each is a task; 0: the tasks are points
  bool few_tiles_;
  int64_t chunk_k_, chunk_c_, k_chunks_, c_chunks_;  // pairs of channels of a task
  int64_t v_row_, v_panel_, v_point_, m_k_, m_point_, du_point_;
  std::atomic<bool> finite_{true};
};

}  // namespace

bool winograd_backward_weight(float* dw, const float* dy, const float* x, int64_t blocks,
                              const Conv2dShape& s, const WinogradPart& part, int64_t min_tasks) {
  return WeightGradient(s, part, blocks, min_tasks).run(dw, dy, x);
}

}  // namespace fastconv::cpu
