// Batch normalisation and sums by channel. Statistics of a few channels and what uses them run in
// one task, so that the second pass finds in a cache what the first one read.
#include "cpu/norm.h"

#include <cmath>
#include <limits>

#include "cpu/channels.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/values.h"

namespace fastconv::cpu {
namespace {

// A vector over the channels; `fill` everywhere when it is undefined.
class PerChannel {
 public:
  PerChannel(const Array& given, int64_t C, float fill) {
    if (given.defined()) {
      values_ = to_plain(given);
    } else {
      values_ = Array::empty({C});
      std::fill_n(values_.data(), C, fill);
    }
  }
  float operator[](int64_t c) const { return values_.data()[c]; }
  const float* data() const { return values_.data(); }

 private:
  Array values_;
};

// These channels of so many outer groups.
ChannelGroups groups_of(const ChannelWise& v, int64_t groups, Channels some) {
  return {groups, some.count, v.inner, v.C * v.inner};
}

// The moments of the union of two samples (Chan, Golub, LeVeque 1979).
Moments join(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, delta = b.mean - a.mean;
  return {count, a.mean + delta * b.count / count,
          a.sum_squares + (b.sum_squares + delta * delta * a.count * b.count / count)};
}

void moments_of(Moments* moments, const Array& x, Channels of) {
  const ChannelWise v = channel_wise(x);
  const auto kernel = [&](Moments* to, int64_t o, int64_t groups, Channels some) {
    const int lanes = o + groups == v.outer ? v.lanes : static_cast<int>(kLanes);
    kernels().channel_moments(to, x.data() + (o * v.C + some.first) * v.inner,
                              groups_of(v, groups, some), lanes);
  };
  reduce_channels<1>(moments, v, of, kernel, join);
}

// y = activation((x - mean) * scale + shift + add); y and add in the layout of x.
struct Affine {
  const float *mean, *scale, *shift;
  float low, high;
  Array add;

  Affine(const float* m, const float* a, const float* b, const PostOps& post, Layout layout)
      : mean(m), scale(a), shift(b), high(upper_limit(post.activation)) {
    low = post.activation == Activation::none ? -std::numeric_limits<float>::infinity() : 0.0f;
    if (post.add.defined()) add = as_layout(post.add, layout);
  }
  void run(Array& y, const Array& x, Channels of) const {
    const ChannelWise v = channel_wise(x);
    const ChannelAffine map{y.data(), x.data(), add.data(), mean,      scale,
                            shift,    low,      high,       streams(y)};
    for_planes(v, of, 0, v.outer,
               [&](const Planes& planes) { kernels().channel_affine(map, planes); });
  }
};

// dweight and dbias, and the sums they are made from.
struct ParameterGradients {
  Array dweight, dbias;
  Scratch<double> sums;  // of each channel: dy, and dy * (x - mean)

  explicit ParameterGradients(int64_t C)
      : dweight(Array::empty({C})), dbias(Array::empty({C})), sums(2 * C) {}

  // Of these channels: dbias = sum of dy, dweight = sum of dy * (x - mean) * inv_std.
  void run(const Array& dy, const Array& x, const ReluMask& mask, const float* mean,
           const double* inv_std, Channels of) {
    const ChannelWise v = channel_wise(x);
    if (v.outer > 0)
      reduce_channels<2>(sums.data(), v, of,
                         [&](double* to, int64_t o, int64_t groups, Channels some) {
                           const int64_t c = some.first, at = (o * v.C + c) * v.inner;
                           const ReluMask from{mask.y ? mask.y + at : nullptr,
                                               mask.scale ? mask.scale + c : nullptr,
                                               mask.shift ? mask.shift + c : nullptr, mask.high};
                           kernels().channel_dots(to, dy.data() + at, x.data() + at, from, mean + c,
                                                  groups_of(v, groups, some));
                         });
    else
      std::fill_n(sums.data() + 2 * of.first, 2 * of.count, 0.0);
    for (int64_t c = of.first; c < of.first + of.count; ++c) {
      dbias.data()[c] = static_cast<float>(sums.data()[2 * c]);
      dweight.data()[c] = static_cast<float>(sums.data()[2 * c + 1] * inv_std[c]);
    }
  }
};

// running += momentum * (batch - running)
void update_running(Array& running, int64_t C, double momentum, const double* batch) {
  if (!running.defined()) return;
  float* to = running.data();
  for (int64_t c = 0; c < C; ++c)
    to[c] = static_cast<float>((1.0 - momentum) * to[c] + momentum * batch[c]);
  running.written();
}

}  // namespace

Array channel_sum(const Array& x_any) {
  const Array x = as_layout(x_any, channel_layout(x_any));
  const ChannelWise v = channel_wise(x);
  Array y = full({}, {v.C}, 0.0f);
  if (v.outer == 0) return y;
  Scratch<double> sums(v.C);
  reduce_channels<1>(sums.data(), v, Channels{0, v.C},
                     [&](double* to, int64_t o, int64_t groups, Channels some) {
                       kernels().channel_sums(to, x.data() + (o * v.C + some.first) * v.inner,
                                              groups_of(v, groups, some));
                     });
  for (int64_t c = 0; c < v.C; ++c) y.data()[c] = static_cast<float>(sums.data()[c]);
  return y;
}

std::tuple<Array, Array, Array, Array> batch_norm_train(const Array& x_any, const Array& weight_any,
                                                        const Array& bias_any, Array& running_mean,
                                                        Array& running_var, double momentum,
                                                        double eps, const PostOps& post, Use use) {
  const Array kept = in_batch_layout(x_any, use);
  const int64_t C = kept.dim(1);
  if (kept.dim(0) == 0)  // nothing to normalise or to learn from
    return {Array::empty(kept.shape(), DType::float32, kept.layout()), full({}, {C}, 0.0f),
            full({}, {C}, 0.0f), kept};
  const PerChannel weight(weight_any, C, 1.0f), bias(bias_any, C, 0.0f);
  const Array x = as_layout(kept, channel_layout(kept));

  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  Array mean = Array::empty({C}), inv_std = Array::empty({C});
  Scratch<Moments> moments(C);
  Scratch<float> scale(C);
  Scratch<double> means(C), unbiased(C);
  const Affine affine(mean.data(), scale.data(), bias.data(), post, x.layout());
  for_channels(channel_wise(x), [&](Channels of) {
    moments_of(moments.data(), x, of);
    for (int64_t c = of.first; c < of.first + of.count; ++c) {
      const Moments& m = moments.data()[c];
      means.data()[c] = m.mean;
      unbiased.data()[c] = m.sum_squares / (m.count - 1.0);
      mean.data()[c] = static_cast<float>(m.mean);
      inv_std.data()[c] = static_cast<float>(1.0 / std::sqrt(m.sum_squares / m.count + eps));
      scale.data()[c] = weight[c] * inv_std.data()[c];
    }
    affine.run(y, x, of);
  });
  update_running(running_mean, C, momentum, means.data());
  update_running(running_var, C, momentum, unbiased.data());
  return {as_layout(y, kept.layout()), mean, inv_std, kept};
}

std::pair<Array, Array> batch_norm_eval(const Array& x_any, const PostOps& post,
                                        std::optional<Use> use) {
  const Array kept = use ? in_batch_layout(x_any, *use) : x_any;
  const int64_t C = kept.dim(1);
  const Normalise& norm = *post.normalise;
  const PerChannel weight(norm.weight, C, 1.0f), bias(norm.bias, C, 0.0f);
  const PerChannel mean(norm.mean, C, 0.0f);
  const Array var = to_plain(norm.var);
  const Array x = as_layout(kept, channel_layout(kept));
  Scratch<float> scale(C);
  for (int64_t c = 0; c < C; ++c)
    scale.data()[c] =
        static_cast<float>(weight[c] / std::sqrt(static_cast<double>(var.data()[c]) + norm.eps));
  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  Affine(mean.data(), scale.data(), bias.data(), post, x.layout()).run(y, x, Channels{0, C});
  return {as_layout(y, kept.layout()), kept};
}

ChannelMap channel_map(const Normalise& norm, int64_t C) {
  const PerChannel weight(norm.weight, C, 1.0f), bias(norm.bias, C, 0.0f);
  const PerChannel mean(norm.mean, C, 0.0f);
  const Array var = to_plain(norm.var);
  ChannelMap map{Array::empty({C}), Array::empty({C})};
  for (int64_t c = 0; c < C; ++c) {
    const double scale = weight[c] / std::sqrt(static_cast<double>(var.data()[c]) + norm.eps);
    map.scale.data()[c] = static_cast<float>(scale);
    map.shift.data()[c] = static_cast<float>(bias[c] - scale * mean[c]);
  }
  return map;
}

std::tuple<Array, Array, Array, Array> batch_norm_train_backward(
    const Array& dy_any, const Array& x_any, const Array& weight_any, const Array& bias_any,
    const Array& mean_any, const Array& inv_std_any, const Array& y_any, Activation activation,
    bool wants_dadd) {
  const int64_t C = x_any.dim(1);
  const PerChannel weight(weight_any, C, 1.0f), bias(bias_any, C, 0.0f);
  const Array mean = to_plain(mean_any), inv_std = to_plain(inv_std_any);
  const Layout layout = channel_layout(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);
  const Array y = y_any.defined() ? as_layout(y_any, layout) : y_any;

  Array dx = Array::empty(x.shape(), DType::float32, layout), dadd;
  if (wants_dadd) dadd = Array::empty(x.shape(), DType::float32, layout);
  ParameterGradients gradients(C);
  Scratch<double> inv(C);
  Scratch<float> scale(C), dy_mean(C), slope(C);
  for (int64_t c = 0; c < C; ++c) {
    inv.data()[c] = inv_std.data()[c];
    scale.data()[c] = weight[c] * inv_std.data()[c];
  }
  const bool masked = activation != Activation::none;
  const ReluMask mask{masked ? y.data() : nullptr, scale.data(), masked ? bias.data() : nullptr,
                      upper_limit(activation)};
  // dx = weight * inv_std * (dy - mean of dy - xhat * mean of (dy * xhat)), xhat = (x - mean) *
  // inv_std
  const double count = static_cast<double>(x.shape().numel() / C);
  const ChannelWise v = channel_wise(x);
  const int64_t whole = v.lanes == kLanes ? v.outer : v.outer - 1;  // blocks without empty lanes
  for_channels(v, [&](Channels of) {
    gradients.run(dy, x, mask, mean.data(), inv.data(), of);
    const double* sums = gradients.sums.data();
    for (int64_t c = of.first; c < of.first + of.count; ++c) {
      dy_mean.data()[c] = static_cast<float>(sums[2 * c] / count);
      slope.data()[c] = static_cast<float>(sums[2 * c + 1] * inv.data()[c] * inv.data()[c] / count);
    }
    const auto run = [&](int64_t begin, int64_t end, int lanes) {
      const BatchNormGradient gradient{dx.data(),    dadd.data(), dy.data(),    x.data(),
                                       mask,         mean.data(), scale.data(), dy_mean.data(),
                                       slope.data(), lanes,       streams(dx)};
      for_planes(v, of, begin, end,
                 [&](const Planes& planes) { kernels().batch_norm_gradient(gradient, planes); });
    };
    run(0, whole, static_cast<int>(kLanes));
    run(whole, v.outer, v.lanes);
  });
  if (wants_dadd) dadd = as_layout(dadd, dy_any.layout());
  return {as_layout(dx, dy_any.layout()), gradients.dweight, gradients.dbias, dadd};
}

std::tuple<Array, Array, Array> batch_norm_eval_backward(const Array& dy_any, const Array& x_any,
                                                         const Array& weight_any,
                                                         const Array& mean_any,
                                                         const Array& var_any, double eps) {
  const int64_t C = x_any.dim(1);
  const PerChannel weight(weight_any, C, 1.0f), zero({}, C, 0.0f);
  const Array mean = to_plain(mean_any), var = to_plain(var_any);
  const Layout layout = channel_layout(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);

  Array dx = Array::empty(x.shape(), DType::float32, layout);
  ParameterGradients gradients(C);
  Scratch<double> inv(C);
  Scratch<float> scale(C);
  for (int64_t c = 0; c < C; ++c) {
    inv.data()[c] = 1.0 / std::sqrt(static_cast<double>(var.data()[c]) + eps);
    scale.data()[c] = static_cast<float>(weight[c] * inv.data()[c]);
  }
  const Affine affine(zero.data(), scale.data(), zero.data(), {}, layout);
  for_channels(channel_wise(x), [&](Channels of) {
    gradients.run(dy, x, {}, mean.data(), inv.data(), of);
    affine.run(dx, dy, of);
  });
  return {as_layout(dx, dy_any.layout()), gradients.dweight, gradients.dbias};
}

}  // namespace fastconv::cpu
