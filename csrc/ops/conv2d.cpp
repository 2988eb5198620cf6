#include "ops/conv2d.h"

#include <utility>

#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "program/run.h"

namespace fastconv {
namespace {
// One axis of the output size; `axis` is "height" or "width".
int64_t output_size(const char* axis, int64_t size, int64_t before, int64_t after, int64_t kernel,
                    int64_t stride, int64_t dilation, const Shape& x, const Shape& w) {
  const int64_t padded =
      checked_add(checked_add(size, before, "conv2d padding"), after, "conv2d padding");
  const int64_t span =
      checked_add(checked_mul(dilation, kernel - 1, "conv2d dilation"), 1, "conv2d dilation");
  if (padded < span)
    throw ShapeError(message("[conv2d] the kernel is larger than the padded input: ", axis, " ",
                             size, " + padding ", before, " + ", after, " = ", padded, ", kernel ",
                             kernel, " with dilation ", dilation, " spans ", dilation, " * (",
                             kernel, " - 1) + 1 = ", span,
                             "; use a smaller kernel or more padding: input ", x, ", weight ", w));
  return (padded - span) / stride + 1;
}

}  // namespace

Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const Geometry& g) {
  if (x.ndim() != 4)
    throw ShapeError(message("[conv2d] input must have 4 dimensions (N, C, H, W), got ", x));
  if (w.ndim() != 4)
    throw ShapeError(
        message("[conv2d] weight must have 4 dimensions (OC, IC / groups, KH, KW), got ", w));
  const auto positive = [](int64_t value, const char* what) {
    if (value < 1)
      throw std::invalid_argument(message("[conv2d] ", what, " must be at least 1, got ", value));
  };
  positive(g.stride[0], "stride");
  positive(g.stride[1], "stride");
  positive(g.dilation[0], "dilation");
  positive(g.dilation[1], "dilation");
  positive(g.groups, "groups");
  for (const int64_t pad : g.pads)
    if (pad < 0)
      throw std::invalid_argument(message("[conv2d] padding must not be negative, got ", pad));
  for (int axis = 1; axis < 4; ++axis)
    if (x[axis] < 1)
      throw ShapeError(message("[conv2d] input has size 0 along ",
                               axis == 1 ? "channels" : "an image axis", ": ", x));
  for (int axis = 0; axis < 4; ++axis)
    if (w[axis] < 1)
      throw ShapeError(message("[conv2d] weight has size 0 along axis ", axis, ": ", w));
  if (x[1] % g.groups != 0 || w[0] % g.groups != 0)
    throw ShapeError(message("[conv2d] groups=", g.groups, " must divide the ", x[1],
                             " input channels and the ", w[0], " output channels: input ", x,
                             ", weight ", w));
  if (x[1] != checked_mul(w[1], g.groups, "conv2d channels"))
    throw ShapeError(message("[conv2d] input has ", x[1], " channels, weight expects ",
                             w[1] * g.groups, " (groups=", g.groups, "): input ", x, ", weight ",
                             w));
  Conv2dShape s{};
  s.N = x[0], s.IC = x[1], s.IH = x[2], s.IW = x[3];
  s.OC = w[0], s.KH = w[2], s.KW = w[3];
  s.IC_per_group = w[1], s.OC_per_group = w[0] / g.groups;
  s.geometry = g;
  s.OH = output_size("height", s.IH, g.pads[0], g.pads[1], s.KH, g.stride[0], g.dilation[0], x, w);
  s.OW = output_size("width", s.IW, g.pads[2], g.pads[3], s.KW, g.stride[1], g.dilation[1], x, w);
  // Every window and offset lies inside the padded input, so these products are the largest there
  // are.
  const int64_t padded_plane = checked_mul(s.IH + g.pads[0] + g.pads[1],
                                           s.IW + g.pads[2] + g.pads[3], "conv2d padded input");
  checked_mul(checked_mul(padded_plane, s.IC, "conv2d padded input"), kLanes * 4,
              "conv2d padded input");
  return s;
}

namespace {

void check_bias(const Array& b, int64_t channels) {
  if (!b.defined()) return;
  check_float32("conv2d", "bias", b);
  if (b.ndim() != 1 || b.dim(0) != channels)
    throw ShapeError(message("[conv2d] bias must have shape (", channels,
                             ",), one for each output channel, got ", b.shape()));
}

void check_dy(const Array& dy, const Conv2dShape& s) {
  check_float32("conv2d", "dy", dy);
  if (dy.shape() != s.y())
    throw ShapeError(message("[conv2d] the gradient of the output must have the output's shape ",
                             s.y(), ", got ", dy.shape(), ": input ", s.x(), ", weight ", s.w()));
}

// The results of a convolution with what follows it, and their gradient.
void check_outputs(const Conv2dShape& s, const PostOps& post, const Array& dy, const Array& y,
                   const Array& argmax) {
  constexpr char op[] = "conv2d_backward";
  const Shape expected = post.pool ? post.pool->y() : s.y();
  for (const Array* a : {&dy, &y, &argmax})
    if (a->defined() && a->shape() != expected)
      throw ShapeError(message("[", op, "] dy, y and argmax must have the output's shape ",
                               expected, ", got ", a->shape(), ": input ", s.x()));
  if (post.pool) check_pool_gradient(dy, argmax, y);
}

}  // namespace

Conv2dShape conv2d_shape(const Array& x, const Array& w, const Array& b, const Geometry& geometry) {
  check_float32("conv2d", "input", x);
  check_float32("conv2d", "weight", w);
  const Conv2dShape s = conv2d_shape(x.shape(), w.shape(), geometry);
  check_bias(b, s.OC);
  return s;
}

std::tuple<Array, Array, Array> conv2d(const Array& x, const Array& w, const Array& b,
                                       const Geometry& geometry, PostOps post,
                                       const std::optional<PoolParams>& pool, Use use) {
  const Conv2dShape s = conv2d_shape(x, w, b, geometry);
  if (post.add.defined()) {
    check_float32("batch_norm", "plus", post.add);
    if (post.add.shape() != s.y())
      throw ShapeError(message("[batch_norm] plus must have the shape of what it is added to, ",
                               s.y(), ", got ", post.add.shape()));
  }
  if (post.normalise) check_normalise(*post.normalise, s.OC);
  if (pool) post.pool = max_pool2d_shape("max_pool2d", s.y(), *pool);
  return program::run("conv2d", &Operations::conv2d, x, w, b, s, post, use);
}

Array conv2d_backward_input(const Array& dy, const Array& w, const Shape& x, const Array& b,
                            const Geometry& geometry, Use use) {
  check_float32("conv2d", "weight", w);
  const Conv2dShape s = conv2d_shape(x, w.shape(), geometry);
  check_dy(dy, s);
  check_bias(b, s.IC);
  return program::run("conv2d_backward_input", &Operations::conv2d_backward_input, dy, w, b, s,
                      use);
}

Array conv2d_backward_weight(const Array& dy, const Array& x, const Shape& w,
                             const Geometry& geometry) {
  check_float32("conv2d", "input", x);
  const Conv2dShape s = conv2d_shape(x.shape(), w, geometry);
  check_dy(dy, s);
  return program::run("conv2d_backward_weight", &Operations::conv2d_backward_weight, dy, x, s);
}

std::tuple<Array, Array, Array> conv2d_backward(Array dy, const Array& y, const Array& argmax,
                                                const Array& x, const Shape& x_shape,
                                                const Array& w, const Geometry& geometry,
                                                Activation activation,
                                                const std::optional<PoolParams>& pool,
                                                const Wanted& wanted) {
  check_float32("conv2d", "weight", w);
  const Conv2dShape s = conv2d_shape(x_shape, w.shape(), geometry);
  PostOps post;
  post.activation = activation;
  if (pool) post.pool = max_pool2d_shape("conv2d_backward", s.y(), *pool);
  if (activation != Activation::none) check_float32("conv2d", "y", y);
  check_outputs(s, post, dy, y, argmax);
  if (wanted.dw) check_float32("conv2d", "input", x);
  if (x.defined() && x.shape() != x_shape)
    throw ShapeError(message("[conv2d_backward] x must have shape ", x_shape, ", got ", x.shape()));

  const auto fuses = operations(dy.device()).fuses_conv2d_backward;
  if (fuses != nullptr && fuses(s, post))
    return program::run("conv2d_backward", &Operations::conv2d_backward, dy, y, argmax, x, w, s,
                        post, wanted);
  // In the order of least memory: dx when x is no longer needed.
  if (post.pool || post.activation != Activation::none)
    dy = program::run("post_ops_backward", &Operations::post_ops_backward, std::move(dy), y, argmax,
                      post);
  Array dx, dw, db;
  if (wanted.db) db = channel_sum(dy);
  if (wanted.dw) dw = conv2d_backward_weight(dy, x, w.shape(), geometry);
  if (wanted.dx) dx = conv2d_backward_input(dy, w, x_shape, {}, geometry);
  return {dx, dw, db};
}

}  // namespace fastconv
