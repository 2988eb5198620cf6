// The three products of a linear layer, none of which packs the weights.
//
// In lanes, x is [N/16][I][16]: spread a weight, multiply a vector of sixteen samples, four blocks
// at a time. Forward reads w row by row, the gradient by input column by column. For the gradient
// by weight the sums run over samples, so x goes back to plain (it is small beside the product) and
// the lanes hold sixteen input features; dy is spread as it lies.
#include "ops/linear.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"
#include "ops/check.h"

namespace fastconv {
namespace {

void check_weight(const Array& w) {
  check_float32("linear", "weight", w);
  if (w.ndim() != 2)
    throw ShapeError(message(
        "[linear] weight must have 2 dimensions (out_features, in_features), got ", w.shape()));
  if (w.dim(0) < 1 || w.dim(1) < 1)
    throw ShapeError(message("[linear] weight has an axis of size 0: ", w.shape()));
}

void check_matrix(const char* what, const Array& x) {
  check_float32("linear", what, x);
  if (x.ndim() != 2)
    throw ShapeError(message("[linear] ", what, " must have 2 dimensions (N, features), got ",
                             x.shape(), "; insert Flatten() before the layer"));
}

// One task for every 0.4 million multiply-adds or so (about 8 microseconds): shares of `n`, whole
// tiles.
int64_t share(int64_t n, int64_t macs) {
  const int64_t tasks = std::clamp<int64_t>(macs / 400'000, 1, 16);
  return std::max<int64_t>(1, ceil_div(ceil_div(n, tasks), 6) * 6);
}

constexpr int64_t kPanel = 64;              // features
constexpr int64_t kCachedFloats = 2 << 20;  // of weights, read column by column

const int64_t kNoOffset = 0;  // the tap table of a product: one tap, in place

// y[o] = sum_i w(o, i) * x[i] over lane blocks, with w(o, i) = w[o * w_k + i * w_c].
void product_in_lanes(Array& y, const Array& x, const float* w, int64_t w_k, int64_t w_c,
                      const float* bias, bool relu) {
  const int64_t I = x.dim(1), O = y.dim(1), blocks = x.blocks();
  const int64_t cut = share(O, blocks * kLanes * I * O);
  const cpu::Kernels& kernels = cpu::kernels();
  parallel_for(ceil_div(O, cut), [&](int64_t task) {
    const int64_t o = task * cut;
    cpu::BroadcastTile args{};
    args.groups = args.taps = args.rows = 1;
    args.K = std::min(cut, O - o), args.C = I, args.cols = blocks;
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
    kernels.broadcast_tile(args);
  });
}

// dx[n] = sum_o dy[n][o] * w[o], all of them plain: the lanes hold sixteen input features. w is
// read once, some rows at a time that stay in L2 while all samples pass over them, the next ones
// asked for. In lanes one block of samples leaves a tile too few sums, and of a row of w six floats
// are read at a time: 4096 <- 25088, 16 samples, 41 ms instead of 17; 4096 <- 4096, 128 samples, 21
// instead of 13. I >= 16.
void input_gradient_along_features(float* dx, const float* dy, const float* w, int64_t N, int64_t I,
                                   int64_t O) {
  constexpr int64_t kFeatures = 1024, kRows = 64;  // of w, at a time
  const int64_t features =
      std::clamp<int64_t>(ceil_div(I, 8 * kPanel) * kPanel, 2 * kPanel, kFeatures);
  parallel_for(ceil_div(I, features), [&](int64_t task) {
    const int64_t i = task * features, width = std::min(features, I - i);
    cpu::BroadcastTile args{};
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
      cpu::kernels().broadcast_tile(args);
    }
    for (int64_t n = 0; n < N && rows < O; ++n)
      for (int64_t j = i; j < i + width; ++j) {
        const float product = dy[n * O + rows] * w[rows * I + j];
        dx[n * I + j] = rows > 0 ? dx[n * I + j] + product : product;
      }
  });
}

// Few samples, plain: each output is a dot product along w's rows, sixteen features at a time.
Array forward_few(const Array& x, const Array& w, const float* bias, bool relu) {
  const int64_t N = x.dim(0), I = x.dim(1), O = w.dim(0);
  Array y = Array::empty({N, O});
  if (N == 0) return y;
  Scratch<int64_t> samples(N);
  for (int64_t n = 0; n < N; ++n) samples.data()[n] = n * I;
  const int64_t cut = share(O, N * I * O);
  const cpu::Kernels& kernels = cpu::kernels();
  parallel_for(ceil_div(O, cut), [&](int64_t task) {
    const int64_t o0 = task * cut, K = std::min(cut, O - o0);
    cpu::DotTile args{};
    args.K = K, args.J = N, args.images = args.rows = 1, args.cols = ceil_div(I, kLanes);
    args.a = w.data() + o0 * I;
    args.a_k = I, args.a_col = kLanes;
    args.b = x.data();
    args.b_col = kLanes;
    args.b_j = samples.data();
    args.out = y.data() + o0;
    args.out_k = 1, args.out_j = O;
    args.tail = static_cast<int>(I - (args.cols - 1) * kLanes);
    kernels.dot_tile(args);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t o = o0; o < o0 + K; ++o) {
        float& value = y.data()[n * O + o];
        if (bias) value += bias[o];
        if (relu && value < 0.0f) value = 0.0f;
      }
  });
  return y;
}

}  // namespace

Array linear_forward(const Array& x, const Array& w, const Array& b, bool relu) {
  check_matrix("input", x);
  check_weight(w);
  const int64_t O = w.dim(0), I = w.dim(1);
  if (x.dim(1) != I)
    throw ShapeError(message("[linear] input has ", x.dim(1),
                             " features per sample, weight expects ", I, ": input ", x.shape(),
                             ", weight ", w.shape()));
  if (b.defined()) {
    check_float32("linear", "bias", b);
    if (b.ndim() != 1 || b.dim(0) != O)
      throw ShapeError(message("[linear] bias must have shape (", O, "), got ", b.shape()));
  }
  const Array weight = to_plain(w);
  const float* bias = b.defined() ? b.data() : nullptr;
  if (!x.in_lanes()) return forward_few(x, weight, bias, relu);
  Array y = Array::empty({x.dim(0), O}, DType::float32, Layout::lanes);
  if (x.dim(0) > 0) product_in_lanes(y, x, weight.data(), I, 1, bias, relu);
  return y;
}

Array linear_backward_input(const Array& dy_any, const Array& w) {
  check_matrix("dy", dy_any);
  check_weight(w);
  const int64_t O = w.dim(0), I = w.dim(1);
  if (dy_any.dim(1) != O)
    throw ShapeError(message("[linear] the gradient of the output has ", dy_any.dim(1),
                             " features per sample, weight gives ", O, ": dy ", dy_any.shape(),
                             ", weight ", w.shape()));
  const Array weight = to_plain(w);
  if (dy_any.dim(0) > 0 && I >= kLanes && (dy_any.blocks() == 1 || O * I >= kCachedFloats)) {
    const Array plain = to_plain(dy_any);
    Array along = Array::empty({plain.dim(0), I});
    input_gradient_along_features(along.data(), plain.data(), weight.data(), plain.dim(0), I, O);
    return as_layout(along, dy_any.layout());
  }
  const Array dy = to_lanes(dy_any);
  Array dx = Array::empty({dy.dim(0), I}, DType::float32, Layout::lanes);
  if (dy.dim(0) > 0) product_in_lanes(dx, dy, weight.data(), 1, I, nullptr, false);
  return as_layout(dx, dy_any.layout());
}

namespace {

// Panels: [ceil(features / kPanel)][N][kPanel], the last one zero-filled.
void to_panels(float* panels, const Array& x) {
  const int64_t N = x.dim(0), I = x.dim(1), count = ceil_div(I, kPanel);
  const cpu::Kernels& kernels = cpu::kernels();
  parallel_for(count, [&](int64_t p) {
    float* panel = panels + p * N * kPanel;
    const int64_t width = std::min(kPanel, I - p * kPanel);
    if (width < kPanel) std::fill_n(panel, N * kPanel, 0.0f);
    for (int64_t n = 0; n < N; n += kLanes) {
      const int samples = static_cast<int>(std::min(kLanes, N - n));
      if (x.in_lanes())
        kernels.to_plain(panel + n * kPanel, kPanel,
                         x.data() + (n / kLanes * I + p * kPanel) * kLanes, kLanes, width, samples);
      else
        for (int i = 0; i < samples; ++i)
          std::copy_n(x.data() + (n + i) * I + p * kPanel, width, panel + (n + i) * kPanel);
    }
  });
}

}  // namespace

Array linear_backward_weight(const Array& dy_any, const Array& x) {
  check_matrix("input", x);
  check_matrix("dy", dy_any);
  if (x.dim(0) != dy_any.dim(0))
    throw ShapeError(
        message("[linear] input and gradient must have the same number of samples: input ",
                x.shape(), ", dy ", dy_any.shape()));
  const int64_t N = x.dim(0), I = x.dim(1), O = dy_any.dim(1);
  Array dw = Array::empty({O, I});
  if (N == 0) {
    std::fill_n(dw.data(), O * I, 0.0f);
    return dw;
  }
  const Array dy = to_lanes(dy_any);
  const int64_t panel_count = ceil_div(I, kPanel);
  Scratch<float> panels(panel_count * N * kPanel);
  to_panels(panels.data(), x);

  const int64_t o_cut = share(O, N * O * std::min(I, kPanel)), o_cuts = ceil_div(O, o_cut);
  const cpu::Kernels& kernels = cpu::kernels();
  // The samples are the taps: where each one begins.
  Scratch<int64_t> taps(2 * N);
  int64_t *x_tap = taps.data(), *dy_tap = taps.data() + N;
  for (int64_t n = 0; n < N; ++n) {
    x_tap[n] = n * kPanel;
    dy_tap[n] = n / kLanes * O * kLanes + n % kLanes;
  }
  // Rows of dw first: a thread's share is then what it reads of w, and what it will update.
  parallel_for(panel_count * o_cuts, [&](int64_t task) {
    const int64_t p = task % panel_count, o = task / panel_count * o_cut;
    const int64_t width = std::min(kPanel, I - p * kPanel);
    cpu::BroadcastTile args{};
    args.groups = args.C = args.rows = 1;
    args.K = std::min(o_cut, O - o), args.taps = N;
    args.cols = ceil_div(width, kLanes);
    args.x = panels.data() + p * N * kPanel;
    args.x_col = kLanes;
    args.x_tap = x_tap, args.w_tap = dy_tap;
    args.w = dy.data() + o * kLanes;
    args.w_k = kLanes;
    args.y = dw.data() + o * I + p * kPanel;
    args.y_k = I, args.y_col = kLanes;
    args.tail = static_cast<int>(width - (args.cols - 1) * kLanes);
    args.streaming = I % kLanes == 0 && O * I >= kStreamedFloats;
    kernels.broadcast_tile(args);
  });
  return dw;
}

}  // namespace fastconv
