// Which algorithm computes what; in each list the first line that fits. Plain images are one to
// fifteen, larger batches are in lanes (cpu/layout.h).
//
// Forward, what follows the convolution:
//   normalise, add; plain              small batch with all of it on the way to memory
//   normalise, add; lanes              one after the other
//   2x2 pooling, short sums            pooled/pooled.h: maxima of outputs in registers
//   pooling, lanes                     pooled/by_blocks.h: block by block, where that fits a cache
//   pooling                            one after the other
//
// Forward, the convolution itself:
//   kernel as large as the image       linear.h
//   plain  3x3 to 5x5, where it pays   winograd/small_batch.h
//          1 input channel a group     small_batch/depthwise.h
//          1x1                         small_batch/pointwise.h
//          short rows, many channels   small_batch/channels.h: channels in the lanes
//          else                        small_batch/windowed.h: pixels in the lanes
//   lanes  the winograd_part           winograd/winograd.h: a few tiles by points, more by tiles
//          1 channel a group           direct/correlate.h: depthwise tile
//          else                        direct/correlate.h: broadcast tile
//
// By input:
//   kernel as large as the image       linear.h
//   plain  few pixels, many channels   small_batch/columns.h
//          else                        small_batch/backward.h: forward convolutions of dy
//   lanes                              as forward, with the phases of the stride
//
// By weight:
//   kernel as large as the image       linear.h
//   plain  1 input channel a group     small_batch/depthwise.h
//          many channels               weight/weight_gradient.h: transposed
//          else                        small_batch/backward.h: dot tile
//   lanes  the winograd_part           winograd/winograd.h
//          many channels               weight/weight_gradient.h: transposed
//          1 channel a group           weight/weight_gradient.h: depthwise tile
//          else                        weight/weight_gradient.h: dot tile
//
// All gradients, through activation and pooling, in one operation:
//   2x2 pooling, 3x3 or 5x5 kernels    pooled/pooled.h: products of the maxima only
//   where it fits a cache              pooled/by_blocks.h: block by block
#include "cpu/conv/route.h"

#include <algorithm>
#include <utility>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/conv/lanes.h"
#include "cpu/conv/pooled/by_blocks.h"
#include "cpu/conv/pooled/pooled.h"
#include "cpu/conv/shapes.h"
#include "cpu/conv/small_batch/backward.h"
#include "cpu/conv/small_batch/channels.h"
#include "cpu/conv/small_batch/columns.h"
#include "cpu/conv/small_batch/depthwise.h"
#include "cpu/conv/small_batch/pointwise.h"
#include "cpu/conv/small_batch/windowed.h"
#include "cpu/conv/weight/weight_gradient.h"
#include "cpu/conv/winograd/not_finite.h"
#include "cpu/conv/winograd/small_batch.h"
#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/linear.h"
#include "cpu/norm.h"
#include "cpu/pool.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

const float* data_of(const Array& b) { return b.defined() ? b.data() : nullptr; }

Array lanes_of(const Array& a) { return a.defined() ? to_lanes(a) : a; }

Array as_rows(const Array& images) {
  return images.reshape(Shape{images.dim(0), images.shape().numel() / images.dim(0)});
}

// y += b, channel by channel.
void add_bias(Array& y, const Array& b) {
  const int64_t C = y.dim(1), planes = y.blocks() * C, inner = y.stored() / planes;
  Scratch<float> maps(2 * C);
  float *mean = maps.data(), *scale = mean + C;
  std::fill_n(mean, C, 0.0f), std::fill_n(scale, C, 1.0f);
  const ChannelPostOps nothing = post_ops_of(Activation::none);
  for_chunks(planes, inner, [&](int64_t begin, int64_t end) {
    kernels().channel_affine(
        {y.data(), y.data(), nullptr, mean, scale, b.data(), nothing.low, nothing.high, false},
        {begin, end - begin, C, inner});
  });
}

// Plain images, by the formula.
void formula_small_batch(float* y, const float* x, const float* w, const float* bias,
                         const Conv2dShape& s, const ChannelPostOps& post) {
  if (depthwise_small_batch_pays(s)) return depthwise_small_batch(y, x, w, bias, s, post);
  if (is_pointwise(s)) return pointwise_small_batch(y, x, w, bias, s, post);
  if (channels_small_batch_pays(s)) return channels_small_batch(y, x, w, bias, s, post);
  windowed_small_batch(y, x, w, bias, s, post);
}

// y = activation(normalise(conv2d(x, w) + b) + add). Of plain images the sums are normalised before
// they are stored, by one multiply-add.
Array convolve_and_normalise(const Array& x, const Array& w, const Array& b, const Conv2dShape& s,
                             const PostOps& post) {
  if (x.in_lanes()) {
    Array y = convolve(x, w, b, s, Activation::none, kMinTasks);
    if (post.normalise) return batch_norm_eval(y, post, {}).first;
    y = binary(Binary::add, std::move(y), post.add, 0.0f);
    activate(y, post.activation);
    return y;
  }
  ChannelPostOps own = post_ops_of(post.activation);
  ChannelMap map;
  if (post.normalise) {
    map = channel_map(*post.normalise, s.OC);
    own.scale = map.scale.data(), own.shift = map.shift.data();
  }
  const Array add = post.add.defined() ? to_plain(post.add) : post.add;
  own.plus = data_of(add);
  Array y = Array::empty(s.y());
  convolve_small_batch(y.data(), x.data(), w.data(), data_of(b), s, own);
  return y;
}

// y = max_pool2d(activation(conv2d(x, w) + b)), argmax where it is defined. ReLU and the maximum of
// what a window holds commute; after pooling there is less to do.
void convolve_and_pool(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, const PostOps& post) {
  const bool relu = post.activation != Activation::none;
  if (!x.in_lanes() && !argmax.defined() && pooled_small_batch_applies(s, post))
    pooled_forward_small_batch(y, x, w, b, s, relu);
  else if (x.in_lanes() && pooled_forward_applies(s, post))
    pooled_forward(y, argmax, x, w, b, s, relu);
  else if (x.in_lanes() && by_blocks_pays(s))
    forward_by_blocks(y, argmax, x, w, b, s, *post.pool, relu);
  else
    max_pool2d_into(y, argmax, convolve(x, w, b, s, Activation::none, kMinTasks), *post.pool, relu);
  if (post.activation == Activation::relu6) activate(y, post.activation);
}

}  // namespace

void convolve_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& s, const ChannelPostOps& post) {
  if (s.N == 0) return;
  if (!winograd_small_batch_pays(s)) return formula_small_batch(y, x, w, bias, s, post);
  if (winograd_forward_small_batch(y, x, w, bias, s, post)) return;
  const int64_t n = s.y().numel();
  Scratch<float> formula(n);
  formula_small_batch(formula.data(), x, w, bias, s, post);
  replace_not_finite(y, formula.data(), n);
}

Array convolve(const Array& x, const Array& w, const Array& b, const Conv2dShape& s,
               Activation activation, int64_t min_tasks) {
  if (is_linear(s)) return linear(as_rows(x), as_rows(w), b, activation, {}).first.reshape(s.y());
  Array y = Array::empty(s.y(), DType::float32, x.layout());
  if (s.N == 0) return y;
  if (x.in_lanes())
    forward_in_lanes(y, x, w, b, s, activation, min_tasks);
  else
    convolve_small_batch(y.data(), x.data(), w.data(), data_of(b), s, post_ops_of(activation));
  return y;
}

Array convolve_backward_weight(const Array& dy, const Array& x, const Conv2dShape& s,
                               int64_t min_tasks) {
  if (is_linear(s)) return linear_backward_weight(as_rows(dy), as_rows(x)).reshape(s.w());
  Array dw = Array::empty(s.w());
  if (s.N == 0)
    std::fill_n(dw.data(), dw.stored(), 0.0f);
  else if (dy.in_lanes() || x.in_lanes() || s.N >= kLanes)
    backward_weight_in_lanes(dw, to_lanes(dy), to_lanes(x), s, min_tasks);
  else if (depthwise_weight_small_batch_applies(s))
    depthwise_weight_small_batch(dw.data(), dy.data(), x.data(), s);
  else if (weight_gradient_transposed_pays(s, false))
    weight_gradient_transposed(dw.data(), dy.data(), x.data(), s.N, false, s);
  else
    backward_weight_small_batch(dw.data(), dy.data(), x.data(), s);
  return dw;
}

std::tuple<Array, Array, Array> conv2d(const Array& x_any, const Array& w, const Array& b,
                                       const Conv2dShape& s, const PostOps& post, Use use) {
  const Array x = in_batch_layout(x_any, use), weight = to_plain(w);
  Array y, argmax;
  if (post.pool) {
    y = Array::empty(post.pool->y(), DType::float32, x.layout());
    if (use.gradient) argmax = Array::empty(post.pool->y(), DType::uint16, x.layout());
  }
  if (post.normalise || post.add.defined()) {
    const Array normalised = convolve_and_normalise(x, weight, b, s, post);
    if (!post.pool) return {normalised, argmax, x};
    max_pool2d_into(y, argmax, normalised, *post.pool, false);
  } else if (post.pool) {
    convolve_and_pool(y, argmax, x, weight, b, s, post);
  } else {
    y = convolve(x, weight, b, s, post.activation, kMinTasks);
  }
  return {y, argmax, x};
}

Array conv2d_backward_input(const Array& dy_any, const Array& w, const Array& b,
                            const Conv2dShape& s, Use use) {
  const Array dy = in_batch_layout(dy_any, use), weight = to_plain(w);
  if (is_linear(s)) {
    Array dx = linear_backward_input(as_rows(dy), as_rows(weight)).reshape(s.x());
    if (b.defined()) add_bias(dx, b);
    return dx;
  }
  if (dy.in_lanes() || !has_backward_input_small_batch(s)) {
    Array dx = Array::empty(s.x(), DType::float32, Layout::lanes);
    if (s.N > 0) backward_input_in_lanes(dx, to_lanes(dy), weight, b, s, kMinTasks);
    return dx;
  }
  Array dx = Array::empty(s.x());
  const auto small_batch =
      columns_small_batch_pay(s) ? columns_small_batch : backward_input_small_batch;
  small_batch(dx.data(), dy.data(), weight.data(), data_of(b), s);
  return dx;
}

Array conv2d_backward_weight(const Array& dy, const Array& x, const Conv2dShape& s) {
  return convolve_backward_weight(dy, x, s, kMinTasks);
}

// Whole blocks of samples go back in lanes, fewer in the layout of the forward pass. What a ReLU
// lets through is decided at the maxima.
Array post_ops_backward(Array dy, const Array& y, const Array& argmax, const PostOps& post) {
  const Array& known = argmax.defined() ? argmax : y.defined() ? y : dy;
  const Layout layout = dy.dim(0) >= kLanes ? Layout::lanes : known.layout();
  if (dy.layout() != layout) dy = as_layout(dy, layout);
  const bool relu = post.activation == Activation::relu;
  if (post.activation == Activation::relu6)
    dy = binary(Binary::relu6_backward, std::move(dy), y, 0.0f);
  else if (relu && !post.pool)
    dy = binary(Binary::relu_backward, std::move(dy), y, 0.0f);
  return post.pool ? max_pool2d_backward(dy, argmax, relu ? y : Array(), *post.pool) : dy;
}

bool fuses_conv2d_backward(const Conv2dShape& s, const PostOps& post) {
  const bool behind = post.activation == Activation::relu || post.pool;
  return post.activation != Activation::relu6 &&
         (pooled_backward_applies(s, post) || (behind && by_blocks_pays(s)));
}

std::tuple<Array, Array, Array> conv2d_backward(const Array& dy_any, const Array& y_any,
                                                const Array& argmax_any, const Array& x_any,
                                                const Array& w, const Conv2dShape& s,
                                                const PostOps& post, const Wanted& wanted) {
  const Array dy = to_lanes(dy_any), y = lanes_of(y_any), argmax = lanes_of(argmax_any);
  const Array x = lanes_of(x_any), weight = to_plain(w);
  Array dx, dw, db;
  if (wanted.dx) dx = Array::empty(s.x(), DType::float32, Layout::lanes);
  if (wanted.dw) dw = Array::empty(s.w());
  if (wanted.db) db = Array::empty({s.OC});
  if (pooled_backward_applies(s, post))
    pooled_backward(dx, dw, db, dy, y, argmax, x, weight, s, *post.pool, wanted);
  else
    backward_by_blocks(dx, dw, db, dy, y, argmax, x, weight, s, post, wanted);
  return {dx, dw, db};
}

}  // namespace fastconv::cpu
