// The broadcast tile with its operands exchanged: vectors hold output channels, and pixels are
// broadcast. Pixels fill vectors badly where rows are short: 7 x 7, run on with padding, takes four
// for 49 of them.
#include "cpu/conv/small_batch/channels.h"

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/small_batch/window.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {

bool channels_small_batch_pays(const Conv2dShape& s) {
  // The pixels of a row are as many sums at a time. They hide the latency of a multiply-add where a
  // block of channels is one vector, not where it is two.
  constexpr int64_t kFewest = 5;
  if (cpu::kernels().width < kLanes || s.OC_per_group % kLanes != 0 || s.OW < kFewest) return false;
  // In multiply-adds of vectors for sixteen channels. Transposing the weights and the result takes
  // some ten for each vector of either, and a twentieth is to be gained.
  const int64_t length = s.IC_per_group * s.KH * s.KW, pixels = s.OH * s.OW;
  const int64_t run_on = ceil_div((s.OH - 1) * SmallBatchWindow(s).width + s.OW, kLanes);
  const int64_t by_channel = pixels * length + 10 * (length + pixels);
  const int64_t by_pixel = kLanes * (run_on * length + s.OH * 10);
  return by_channel + by_channel / 20 < by_pixel;
}

namespace {

// put(n, k, K, sums): of image n the output channels k .. k + K - 1, as [K / 16][OH * OW][16].
template <class Put>
void for_channels_of_images(const float* x, const float* w, const Conv2dShape& s, const Put& put) {
  const int64_t taps = s.KH * s.KW, C = s.IC_per_group, length = C * taps, pixels = s.OH * s.OW;
  SmallBatchWindow window(s);
  window.set_rows(s.OH);
  Scratch<int64_t> offsets(2 * taps);
  int64_t *x_tap = offsets.data(), *w_tap = x_tap + taps;
  window.taps(x_tap);
  for (int64_t t = 0; t < taps; ++t) w_tap[t] = t * kLanes;
  constexpr int64_t kTransposed = 64 * 1024;  // floats of weights at a time, in L2
  const bool two = s.OC_per_group % (2 * kLanes) == 0 && 2 * kLanes * length <= kTransposed;
  const int64_t blocks = two ? 2 : 1, K = blocks * kLanes;
  const Kernels& kernels = cpu::kernels();
  Scratch<float> image(s.IC * window.channel());
  for (int64_t n = 0; n < s.N; ++n) {
    for_chunks(s.IC, window.channel() * 4, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        window.copy(image.data() + c * window.channel(), x + (n * s.IC + c) * s.IH * s.IW, 0, s.OH);
    });
    for_chunks(s.OC / K, blocks * pixels * length, [&](int64_t begin, int64_t end) {
      Scratch<float> transposed(K * length), sums(K * pixels);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t k = task * K, group = k / s.OC_per_group;
        for (int64_t block = 0; block < blocks; ++block)
          kernels.to_lanes(transposed.data() + block * length * kLanes,
                           w + (k + block * kLanes) * length, length, length, kLanes);
        BroadcastTile args{};
        args.groups = s.OH, args.K = s.OW, args.C = C, args.taps = taps;
        args.rows = 1, args.cols = blocks;
        args.x = transposed.data();
        args.x_c = taps * kLanes, args.x_col = length * kLanes, args.x_tap = w_tap;
        args.w = image.data() + group * C * window.channel();
        args.w_group = window.width, args.w_k = 1, args.w_c = window.channel();
        args.w_tap = x_tap;
        args.y = sums.data();
        args.y_group = s.OW * kLanes, args.y_k = kLanes, args.y_col = pixels * kLanes;
        args.tail = kLanes;
        kernels.broadcast_tile(args);
        put(n, k, K, sums.data());
      }
    });
  }
}

// K planes of y, with post-ops, from sums [K / 16][pixels][16].
void put_planes(float* y, const float* sums, const float* bias, int64_t K, int64_t pixels,
                const ChannelPostOps& post) {
  const Kernels& kernels = cpu::kernels();
  for (int64_t k = 0; k < K; k += kLanes)
    kernels.to_plain(y + k * pixels, pixels, sums + k * pixels, kLanes, pixels, kLanes);
  Scratch<float> ends(3 * K);
  float *mean = ends.data(), *scale = mean + K, *shift = scale + K;
  for (int64_t k = 0; k < K; ++k) {
    mean[k] = 0.0f, scale[k] = post.scale ? post.scale[k] : 1.0f;
    shift[k] = (post.scale ? post.shift[k] : 0.0f) + (bias ? scale[k] * bias[k] : 0.0f);
  }
  kernels.channel_affine({y, y, post.plus, mean, scale, shift, post.low, post.high, false},
                         {0, K, K, pixels});
}

}  // namespace

void channels_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& s, const ChannelPostOps& post) {
  const int64_t pixels = s.OH * s.OW;
  for_channels_of_images(x, w, s, [&](int64_t n, int64_t k, int64_t K, const float* sums) {
    const int64_t at = (n * s.OC + k) * pixels;
    put_planes(y + at, sums, bias ? bias + k : nullptr, K, pixels, post_ops_from(post, k, at));
  });
}

void channels_pooled_small_batch(float* y, const float* x, const float* w, const float* bias,
                                 const Conv2dShape& s, bool relu) {
  const int64_t OH = s.OH / 2, OW = s.OW / 2, windows = OH * OW;
  const PoolWindow shape{s.OH, s.OW, OH, OW, 2, 2, 2, 2, 0, 0, 1, 1, kLanes};
  for_channels_of_images(x, w, s, [&](int64_t n, int64_t k, int64_t K, const float* sums) {
    Scratch<float> maxima(K * windows);
    cpu::kernels().max_pool(maxima.data(), nullptr, sums, K / kLanes, shape, false);
    put_planes(y + (n * s.OC + k) * windows, maxima.data(), bias ? bias + k : nullptr, K, windows,
               post_ops_of(relu ? Activation::relu : Activation::none));
  });
}

}  // namespace fastconv::cpu
