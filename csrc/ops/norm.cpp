#include "ops/norm.h"

#include <cmath>
#include <limits>

#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "ops/channels.h"

namespace fastconv {
namespace {

// A vector over the channels; fill when it is undefined.
class PerChannel {
 public:
  PerChannel(const char* op, const char* what, const Array& given, int64_t C, float fill) {
    if (!given.defined()) {
      values_ = Array::empty({C});
      std::fill_n(values_.data(), C, fill);
      return;
    }
    check_float32(op, what, given);
    if (given.shape() != Shape{C})
      throw ShapeError(message("[", op, "] ", what, " must have shape (", C,
                               ",), one value a channel, got ", given.shape()));
    values_ = to_plain(given);
  }
  float operator[](int64_t c) const { return values_.data()[c]; }
  const float* data() const { return values_.data(); }

 private:
  Array values_;
};

// sums[c * K + k], k < K: sums of channel c, made by kernel(to, first outer group, groups,
// channels), which writes K numbers a channel; pieces are added in order.
template <int K, class Kernel>
void sum_channels(double* sums, const ChannelWise& v, Channels of, const Kernel& kernel) {
  const int64_t pieces = outer_pieces(v);
  Scratch<double> parts(pieces * of.count * K);
  double* to = parts.data();
  for_channel_pieces(v, of, [&](int64_t piece, int64_t o, int64_t groups, Channels some) {
    kernel(to + (piece * of.count + some.first - of.first) * K, o, groups, some);
  });
  for (int64_t c = 0; c < of.count; ++c)
    for (int k = 0; k < K; ++k) {
      double total = 0.0;
      for (int64_t piece = 0; piece < pieces; ++piece) total += to[(piece * of.count + c) * K + k];
      sums[(of.first + c) * K + k] = total;
    }
}

// Moments of every channel, pieces joined in order (Chan, Golub, LeVeque 1979).
void moments_of(cpu::Moments* moments, const Array& x, Channels of) {
  const ChannelWise v = channel_wise(x);
  const int64_t pieces = outer_pieces(v);
  Scratch<cpu::Moments> parts(pieces * of.count);
  cpu::Moments* to = parts.data();
  const cpu::Kernels& kernels = cpu::kernels();
  for_channel_pieces(v, of, [&](int64_t piece, int64_t o, int64_t groups, Channels some) {
    const int lanes = o + groups == v.outer ? v.lanes : static_cast<int>(kLanes);
    kernels.channel_moments(to + piece * of.count + some.first - of.first,
                            x.data() + (o * v.C + some.first) * v.inner, groups, some.count,
                            v.inner, v.C * v.inner, lanes);
  });
  for (int64_t c = 0; c < of.count; ++c) {
    cpu::Moments all = to[c];
    for (int64_t piece = 1; piece < pieces; ++piece) {
      const cpu::Moments& next = to[piece * of.count + c];
      const double count = all.count + next.count, delta = next.mean - all.mean;
      all.mean += delta * next.count / count;
      all.sum_squares += next.sum_squares + delta * delta * all.count * next.count / count;
      all.count = count;
    }
    moments[of.first + c] = all;
  }
}

// body(first plane, planes) for planes of these channels that lie one behind the other, in the
// outer groups from `begin` to end - 1.
template <class Body>
void for_planes(const ChannelWise& v, Channels of, int64_t begin, int64_t end, const Body& body) {
  for_shares((end - begin) * of.count, v.inner, [&](int64_t at, int64_t last) {
    while (at < last) {
      const int64_t o = begin + at / of.count, c = at % of.count;
      const int64_t planes = std::min(last - at, of.count - c);
      body(o * v.C + of.first + c, planes);
      at += planes;
    }
  });
}

// y = act((x - mean) * scale + shift + plus); y and plus in the layout of x.
struct Affine {
  const float *mean, *scale, *shift;
  float low, high;
  Array plus;

  Affine(const float* m, const float* a, const float* b, const Epilogue& epilogue, Layout layout)
      : mean(m), scale(a), shift(b) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    low = epilogue.relu ? 0.0f : -kInfinity;
    high = epilogue.relu ? static_cast<float>(epilogue.cap) : kInfinity;
    if (epilogue.plus.defined()) plus = as_layout(epilogue.plus, layout);
  }
  void run(Array& y, const Array& x, Channels of) const {
    const ChannelWise v = channel_wise(x);
    const bool streaming = streams(y);
    for_planes(v, of, 0, v.outer, [&](int64_t first, int64_t planes) {
      cpu::kernels().channel_affine(y.data(), x.data(), plus.data(), first, planes, v.C, v.inner,
                                    mean, scale, shift, low, high, streaming);
    });
  }
};

void check_plus(const Array& x, const Array& plus) {
  if (!plus.defined()) return;
  check_float32("batch_norm", "plus", plus);
  check_same_shape("batch_norm", "plus", plus, "input", x);
}

// Of these channels dbias = sum of dy, dweight = sum of dy * (x - mean) * inv_std; sums keeps both
// in double.
void parameter_gradients(BatchNormGradients& g, double* sums, const Array& dy, const Array& x,
                         const cpu::ReluMask& gate, const float* mean, const double* inv_std,
                         Channels of) {
  const ChannelWise v = channel_wise(x);
  const cpu::Kernels& kernels = cpu::kernels();
  if (v.outer > 0)
    sum_channels<2>(sums, v, of, [&](double* to, int64_t o, int64_t groups, Channels some) {
      const int64_t c = some.first, at = (o * v.C + c) * v.inner;
      const cpu::ReluMask from{gate.y ? gate.y + at : nullptr,
                               gate.scale ? gate.scale + c : nullptr,
                               gate.shift ? gate.shift + c : nullptr, gate.high};
      kernels.channel_dots(to, dy.data() + at, x.data() + at, from, mean + c, groups, some.count,
                           v.inner, v.C * v.inner);
    });
  else
    std::fill_n(sums + 2 * of.first, 2 * of.count, 0.0);
  for (int64_t c = of.first; c < of.first + of.count; ++c) {
    g.dbias.data()[c] = static_cast<float>(sums[2 * c]);
    g.dweight.data()[c] = static_cast<float>(sums[2 * c + 1] * inv_std[c]);
  }
}

// running += momentum * (batch - running)
void update_running(Array& running, const char* what, int64_t C, double momentum,
                    const double* batch) {
  if (!running.defined()) return;
  const PerChannel checked("batch_norm", what, running, C, 0.0f);
  if (running.in_lanes())
    throw std::invalid_argument(
        message("[batch_norm] ", what, " must be plain to be updated in place"));
  for (int64_t c = 0; c < C; ++c)
    running.data()[c] = static_cast<float>((1.0 - momentum) * checked[c] + momentum * batch[c]);
  running.written();
}

}  // namespace

Array channel_sum(const Array& x_any) {
  check_channels("channel_sum", "input", x_any);
  const Array x = as_layout(x_any, layout_for(x_any));
  const ChannelWise v = channel_wise(x);
  Array y = Array::zeros({v.C});
  if (v.outer == 0) return y;
  const cpu::Kernels& kernels = cpu::kernels();
  Scratch<double> sums(v.C);
  sum_channels<1>(sums.data(), v, Channels{0, v.C},
                  [&](double* to, int64_t o, int64_t groups, Channels some) {
                    kernels.channel_sums(to, x.data() + (o * v.C + some.first) * v.inner, groups,
                                         some.count, v.inner, v.C * v.inner);
                  });
  for (int64_t c = 0; c < v.C; ++c) y.data()[c] = static_cast<float>(sums.data()[c]);
  return y;
}

BatchNorm batch_norm_train(const Array& x_any, const Array& weight_any, const Array& bias_any,
                           Array running_mean, Array running_var, double momentum, double eps,
                           const Epilogue& epilogue) {
  const char* const op = "batch_norm";
  check_channels(op, "input", x_any);
  check_plus(x_any, epilogue.plus);
  const int64_t C = x_any.dim(1), count = x_any.shape().numel() / C;
  const PerChannel weight(op, "weight", weight_any, C, 1.0f), bias(op, "bias", bias_any, C, 0.0f);
  const PerChannel checked_mean(op, "running_mean", running_mean, C, 0.0f);
  const PerChannel checked_var(op, "running_var", running_var, C, 0.0f);
  if (count == 1)
    throw std::invalid_argument(
        message("[batch_norm] training needs more than one value a channel, the "
                "input is ",
                x_any.shape(), "; use a larger batch, or model.eval()"));
  if (count == 0)  // nothing to normalise or to learn from
    return {Array::empty(x_any.shape(), DType::float32, x_any.layout()), Array::zeros({C}),
            Array::zeros({C})};
  const Array x = as_layout(x_any, layout_for(x_any));

  Scratch<cpu::Moments> moments(C);
  BatchNorm out{Array::empty(x.shape(), DType::float32, x.layout()), Array::empty({C}),
                Array::empty({C})};
  Scratch<float> scale(C);
  Scratch<double> means(C), unbiased(C);
  const Affine affine(out.mean.data(), scale.data(), bias.data(), epilogue, x.layout());
  for_channels(channel_wise(x), [&](Channels of) {
    moments_of(moments.data(), x, of);
    for (int64_t c = of.first; c < of.first + of.count; ++c) {
      const cpu::Moments& m = moments.data()[c];
      const double inv_std = 1.0 / std::sqrt(m.sum_squares / m.count + eps);
      means.data()[c] = m.mean;
      unbiased.data()[c] = m.sum_squares / (m.count - 1.0);
      out.mean.data()[c] = static_cast<float>(m.mean);
      out.inv_std.data()[c] = static_cast<float>(inv_std);
      scale.data()[c] = weight[c] * out.inv_std.data()[c];
    }
    affine.run(out.y, x, of);
  });
  update_running(running_mean, "running_mean", C, momentum, means.data());
  update_running(running_var, "running_var", C, momentum, unbiased.data());
  out.y = as_layout(out.y, x_any.layout());
  return out;
}

Array batch_norm_eval(const Array& x_any, const Array& weight_any, const Array& bias_any,
                      const Array& mean_any, const Array& var_any, double eps,
                      const Epilogue& epilogue) {
  const char* const op = "batch_norm";
  check_channels(op, "input", x_any);
  check_plus(x_any, epilogue.plus);
  const int64_t C = x_any.dim(1);
  const PerChannel weight(op, "weight", weight_any, C, 1.0f), bias(op, "bias", bias_any, C, 0.0f);
  const PerChannel mean(op, "running_mean", mean_any, C, 0.0f),
      var(op, "running_var", var_any, C, 1.0f);
  const Array x = as_layout(x_any, layout_for(x_any));
  Scratch<float> scale(C);
  for (int64_t c = 0; c < C; ++c)
    scale.data()[c] = static_cast<float>(weight[c] / std::sqrt(static_cast<double>(var[c]) + eps));
  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  Affine(mean.data(), scale.data(), bias.data(), epilogue, x.layout()).run(y, x, Channels{0, C});
  return as_layout(y, x_any.layout());
}

ChannelMap batch_norm_map(int64_t C, const NormStatistics& norm) {
  const char* const op = "batch_norm";
  const PerChannel weight(op, "weight", norm.weight, C, 1.0f), bias(op, "bias", norm.bias, C, 0.0f);
  const PerChannel mean(op, "running_mean", norm.mean, C, 0.0f),
      var(op, "running_var", norm.var, C, 1.0f);
  ChannelMap map{Array::empty({C}), Array::empty({C})};
  for (int64_t c = 0; c < C; ++c) {
    const double scale = weight[c] / std::sqrt(static_cast<double>(var[c]) + norm.eps);
    map.scale.data()[c] = static_cast<float>(scale);
    map.shift.data()[c] = static_cast<float>(bias[c] - scale * mean[c]);
  }
  return map;
}

BatchNormGradients batch_norm_train_backward(const Array& dy_any, const Array& x_any,
                                             const Array& weight_any, const Array& mean_any,
                                             const Array& inv_std_any, const BehindNorm& behind) {
  const char* const op = "batch_norm_backward";
  check_channels(op, "input", x_any);
  check_float32(op, "dy", dy_any);
  check_same_shape(op, "dy", dy_any, "input", x_any);
  const int64_t C = x_any.dim(1);
  const PerChannel weight(op, "weight", weight_any, C, 1.0f), mean(op, "mean", mean_any, C, 0.0f);
  const PerChannel inv_std(op, "inv_std", inv_std_any, C, 1.0f);
  const Layout layout = layout_for(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);
  const PerChannel bias(op, "bias", behind.bias, C, 0.0f);
  if (behind.y.defined()) check_same_shape(op, "y", behind.y, "input", x_any);
  const Array y = behind.y.defined() ? as_layout(behind.y, layout) : behind.y;

  BatchNormGradients g{
      Array::empty(x.shape(), DType::float32, layout), Array::empty({C}), Array::empty({C}), {}};
  if (behind.wants_dplus) g.dplus = Array::empty(x.shape(), DType::float32, layout);
  Scratch<double> sums(2 * C), inv(C);
  Scratch<float> scale(C), dy_mean(C), slope(C);
  for (int64_t c = 0; c < C; ++c) {
    inv.data()[c] = inv_std[c];
    scale.data()[c] = weight[c] * inv_std[c];
  }
  const cpu::ReluMask gate{y.data(), scale.data(), behind.cap > 0.0 ? bias.data() : nullptr,
                           static_cast<float>(behind.cap)};
  // dx = weight * inv_std * (dy - mean of dy - xhat * mean of (dy * xhat)), xhat = (x - mean) *
  // inv_std
  const double count = static_cast<double>(x.shape().numel() / C);
  const ChannelWise v = channel_wise(x);
  const bool streaming = streams(g.dx);
  const int64_t whole = v.lanes == kLanes ? v.outer : v.outer - 1;  // blocks without empty lanes
  for_channels(v, [&](Channels of) {
    parameter_gradients(g, sums.data(), dy, x, gate, mean.data(), inv.data(), of);
    for (int64_t c = of.first; c < of.first + of.count; ++c) {
      dy_mean.data()[c] = static_cast<float>(sums.data()[2 * c] / count);
      slope.data()[c] =
          static_cast<float>(sums.data()[2 * c + 1] * inv.data()[c] * inv.data()[c] / count);
    }
    const auto run = [&](int64_t begin, int64_t end, int lanes) {
      for_planes(v, of, begin, end, [&](int64_t first, int64_t planes) {
        cpu::kernels().batch_norm_backward_input(
            g.dx.data(), g.dplus.data(), dy.data(), x.data(), gate, first, planes, v.C, v.inner,
            mean.data(), scale.data(), dy_mean.data(), slope.data(), lanes, streaming);
      });
    };
    run(0, whole, static_cast<int>(kLanes));
    run(whole, v.outer, v.lanes);
  });
  g.dx = as_layout(g.dx, dy_any.layout());
  if (behind.wants_dplus) g.dplus = as_layout(g.dplus, dy_any.layout());
  return g;
}

BatchNormGradients batch_norm_eval_backward(const Array& dy_any, const Array& x_any,
                                            const Array& weight_any, const Array& mean_any,
                                            const Array& var_any, double eps) {
  const char* const op = "batch_norm_backward";
  check_channels(op, "input", x_any);
  check_float32(op, "dy", dy_any);
  check_same_shape(op, "dy", dy_any, "input", x_any);
  const int64_t C = x_any.dim(1);
  const PerChannel weight(op, "weight", weight_any, C, 1.0f), mean(op, "mean", mean_any, C, 0.0f);
  const PerChannel var(op, "var", var_any, C, 1.0f), zero(op, "zero", {}, C, 0.0f);
  const Layout layout = layout_for(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);

  BatchNormGradients g{
      Array::empty(x.shape(), DType::float32, layout), Array::empty({C}), Array::empty({C}), {}};
  Scratch<double> sums(2 * C), inv(C);
  Scratch<float> scale(C);
  for (int64_t c = 0; c < C; ++c) {
    inv.data()[c] = 1.0 / std::sqrt(static_cast<double>(var[c]) + eps);
    scale.data()[c] = static_cast<float>(weight[c] * inv.data()[c]);
  }
  const Affine affine(zero.data(), scale.data(), zero.data(), {}, layout);
  for_channels(channel_wise(x), [&](Channels of) {
    parameter_gradients(g, sums.data(), dy, x, {}, mean.data(), inv.data(), of);
    affine.run(g.dx, dy, of);
  });
  g.dx = as_layout(g.dx, dy_any.layout());
  return g;
}

}  // namespace fastconv
