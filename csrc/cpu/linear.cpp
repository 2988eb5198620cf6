// The three products of a linear layer, none of which packs the weights.
//
// In lanes, x is [N/16][I][16]: a tile broadcasts a weight and multiplies it with the vectors of
// four blocks. Forward reads w row by row, the gradient by input column by column. The gradient by
// weight sums over samples: x goes back to plain, which is small beside the product, the lanes hold
// sixteen input features, and dy is broadcast as it lies.
#include "cpu/linear.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

constexpr int64_t kPanel = 64;              // features
constexpr int64_t kCachedFloats = 2 << 20;  // of weights, read column by column

// How many of n outputs a task computes: whole tiles of six, about 0.4 million multiply-adds (some
// 8 microseconds).
int64_t outputs_of_task(int64_t n, int64_t macs) {
  const int64_t tasks = std::clamp<int64_t>(macs / 400'000, 1, 16);
  return std::max<int64_t>(1, ceil_div(ceil_div(n, tasks), 6) * 6);
}

// y[o] = sum_i w(o, i) * x[i] over lane blocks, with w(o, i) = w[o * w_k + i * w_c].
void product_in_lanes(Array& y, const Array& x, const float* w, int64_t w_k, int64_t w_c,
                      const float* bias, bool relu) {
  const int64_t I = x.dim(1), O = y.dim(1), blocks = x.blocks();
  const int64_t step = outputs_of_task(O, blocks * kLanes * I * O);
  parallel_for(ceil_div(O, step), [&](int64_t task) {
    const int64_t o = task * step;
    BroadcastTile args{};
    args.groups = args.taps = args.rows = 1;
    args.K = std::min(step, O - o), args.C = I, args.cols = blocks;
    args.x = x.data();
    args.x_c = kLanes, args.x_col = I * kLanes;
    args.x_tap = args.w_tap = &kNoOffset;
    args.w = w + o * w_k;
    args.w_k = w_k, args.w_c = w_c;
    args.y = y.data() + o * kLanes;
    args.y_k = kLanes, args.y_col = O * kLanes;
    args.bias = bias ? bias + o : nullptr;
    args.relu = relu;
    args.tail = kLanes;
    kernels().broadcast_tile(args);
  });
}

// A small batch, plain: each output is a dot product along a row of w, sixteen features at a time.
void product_small_batch(Array& y, const Array& x, const Array& w, const float* bias, bool relu) {
  const int64_t N = x.dim(0), I = x.dim(1), O = w.dim(0);
  Scratch<int64_t> samples(N);
  for (int64_t n = 0; n < N; ++n) samples.data()[n] = n * I;
  const int64_t step = outputs_of_task(O, N * I * O);
  parallel_for(ceil_div(O, step), [&](int64_t task) {
    const int64_t o0 = task * step, K = std::min(step, O - o0);
    DotTile args{};
    args.K = K, args.J = N, args.images = args.rows = 1, args.cols = ceil_div(I, kLanes);
    args.a = w.data() + o0 * I;
    args.a_k = I, args.a_col = kLanes;
    args.b = x.data();
    args.b_col = kLanes;
    args.b_j = samples.data();
    args.out = y.data() + o0;
    args.out_k = 1, args.out_j = O;
    args.tail = static_cast<int>(I - (args.cols - 1) * kLanes);
    kernels().dot_tile(args);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t o = o0; o < o0 + K; ++o) {
        float& value = y.data()[n * O + o];
        if (bias) value += bias[o];
        if (relu && value < 0.0f) value = 0.0f;
      }
  });
}

// dx[n] = sum_o dy[n][o] * w[o], all of them plain: the lanes hold sixteen input features. w is
// read once: some rows at a time stay in L2 while all samples pass over them, and the next ones are
// prefetched. In lanes, one block of samples would leave a tile too few sums, and a tile would read
// six floats at a time of a row of w. I >= 16.
void input_gradient_along_features(float* dx, const float* dy, const float* w, int64_t N, int64_t I,
                                   int64_t O) {
  constexpr int64_t kFeatures = 1024, kRows = 64;  // of w, at a time
  const int64_t features =
      std::clamp<int64_t>(ceil_div(I, 8 * kPanel) * kPanel, 2 * kPanel, kFeatures);
  parallel_for(ceil_div(I, features), [&](int64_t task) {
    const int64_t i = task * features, width = std::min(features, I - i);
    BroadcastTile args{};
    args.groups = args.taps = args.rows = 1;
    // Behind a row's last, partial vector there is the next row (sixteen floats at least), but for
    // the last one.
    const int64_t rows = width % kLanes == 0 ? O : O - 1;
    args.K = N, args.cols = ceil_div(width, kLanes);
    args.x_c = I, args.x_col = kLanes;
    args.x_tap = args.w_tap = &kNoOffset;
    args.w_k = O, args.w_c = 1;
    args.y = dx + i;
    args.y_k = I, args.y_col = kLanes;
    args.tail = static_cast<int>(width - (args.cols - 1) * kLanes);
    args.prefetch = {kRows * I, 1, 0, kLanes, 0, 0, 1};
    for (int64_t o = 0; o < rows; o += kRows) {
      args.C = std::min(kRows, rows - o);
      args.x = w + o * I + i, args.w = dy + o;
      args.accumulate = o > 0;
      if (o + kRows >= rows) args.prefetch.offset = 0;
      kernels().broadcast_tile(args);
    }
    for (int64_t n = 0; n < N && rows < O; ++n)
      for (int64_t j = i; j < i + width; ++j) {
        const float product = dy[n * O + rows] * w[rows * I + j];
        dx[n * I + j] = rows > 0 ? dx[n * I + j] + product : product;
      }
  });
}

// Panels: [ceil(features / kPanel)][N][kPanel], the last one zero-filled.
void to_panels(float* panels, const Array& x) {
  const int64_t N = x.dim(0), I = x.dim(1), count = ceil_div(I, kPanel);
  parallel_for(count, [&](int64_t p) {
    float* panel = panels + p * N * kPanel;
    const int64_t width = std::min(kPanel, I - p * kPanel);
    if (width < kPanel) std::fill_n(panel, N * kPanel, 0.0f);
    for (int64_t n = 0; n < N; n += kLanes) {
      const int samples = static_cast<int>(std::min(kLanes, N - n));
      if (x.in_lanes())
        kernels().to_plain(panel + n * kPanel, kPanel,
                           x.data() + (n / kLanes * I + p * kPanel) * kLanes, kLanes, width,
                           samples);
      else
        for (int i = 0; i < samples; ++i)
          std::copy_n(x.data() + (n + i) * I + p * kPanel, width, panel + (n + i) * kPanel);
    }
  });
}

// dw[o][i] = sum_n dy[n][o] * x[n][i]. Tasks take the panels of some rows of dw one after the
// other: a thread then reads and later updates neighbouring rows of w.
void weight_gradient(Array& dw, const Array& dy, const float* panels, int64_t N) {
  const int64_t O = dw.dim(0), I = dw.dim(1), panel_count = ceil_div(I, kPanel);
  const int64_t step = outputs_of_task(O, N * O * std::min(I, kPanel)), steps = ceil_div(O, step);
  // The samples are the taps: where each one begins.
  Scratch<int64_t> taps(2 * N);
  int64_t *x_tap = taps.data(), *dy_tap = taps.data() + N;
  for (int64_t n = 0; n < N; ++n) {
    x_tap[n] = n * kPanel;
    dy_tap[n] = n / kLanes * O * kLanes + n % kLanes;
  }
  parallel_for(panel_count * steps, [&](int64_t task) {
    const int64_t p = task % panel_count, o = task / panel_count * step;
    const int64_t width = std::min(kPanel, I - p * kPanel);
    BroadcastTile args{};
    args.groups = args.C = args.rows = 1;
    args.K = std::min(step, O - o), args.taps = N;
    args.cols = ceil_div(width, kLanes);
    args.x = panels + p * N * kPanel;
    args.x_col = kLanes;
    args.x_tap = x_tap, args.w_tap = dy_tap;
    args.w = dy.data() + o * kLanes;
    args.w_k = kLanes;
    args.y = dw.data() + o * I + p * kPanel;
    args.y_k = I, args.y_col = kLanes;
    args.tail = static_cast<int>(width - (args.cols - 1) * kLanes);
    args.streaming = I % kLanes == 0 && O * I >= kStreamedFloats;
    kernels().broadcast_tile(args);
  });
}

}  // namespace

std::pair<Array, Array> linear(const Array& x_any, const Array& w, const Array& b,
                               Activation activation, Use) {
  const Array x = x_any.dim(0) >= kLanes ? to_lanes(x_any) : x_any, weight = to_plain(w);
  const float* bias = b.defined() ? b.data() : nullptr;
  const bool relu = activation == Activation::relu;
  Array y = Array::empty({x.dim(0), w.dim(0)}, DType::float32, x.layout());
  if (x.dim(0) == 0) return {y, x};
  if (x.in_lanes())
    product_in_lanes(y, x, weight.data(), w.dim(1), 1, bias, relu);
  else
    product_small_batch(y, x, weight, bias, relu);
  if (activation == Activation::relu6) y = unary(Unary::relu6, y, 0.0f, 0.0f);
  return {y, x};
}

Array linear_backward_input(const Array& dy_any, const Array& w) {
  const int64_t O = w.dim(0), I = w.dim(1);
  const Array weight = to_plain(w);
  if (dy_any.dim(0) > 0 && I >= kLanes && (dy_any.blocks() == 1 || O * I >= kCachedFloats)) {
    const Array dy = to_plain(dy_any);
    Array dx = Array::empty({dy.dim(0), I});
    input_gradient_along_features(dx.data(), dy.data(), weight.data(), dy.dim(0), I, O);
    return as_layout(dx, dy_any.layout());
  }
  const Array dy = to_lanes(dy_any);
  Array dx = Array::empty({dy.dim(0), I}, DType::float32, Layout::lanes);
  if (dy.dim(0) > 0) product_in_lanes(dx, dy, weight.data(), 1, I, nullptr, false);
  return as_layout(dx, dy_any.layout());
}

Array linear_backward_weight(const Array& dy_any, const Array& x) {
  const int64_t N = x.dim(0), I = x.dim(1), O = dy_any.dim(1);
  Array dw = Array::empty({O, I});
  if (N == 0) {
    std::fill_n(dw.data(), O * I, 0.0f);
    return dw;
  }
  const Array dy = to_lanes(dy_any);
  Scratch<float> panels(ceil_div(I, kPanel) * N * kPanel);
  to_panels(panels.data(), x);
  weight_gradient(dw, dy, panels.data(), N);
  return dw;
}

}  // namespace fastconv::cpu
