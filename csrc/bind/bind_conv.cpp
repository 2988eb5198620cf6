// Bindings of convolution.
#include "bind/bind.h"
#include "cpu/conv/winograd/winograd.h"
#include "ops/conv2d.h"

namespace fastconv::bind {
namespace {

using Pair = std::array<int64_t, 2>;
using Pads = std::array<int64_t, 4>;
using Pooling = std::tuple<Pair, Pair, Pads, Pair, bool>;  // kernel, stride, pads, dilation, ceil
using Optional = const std::optional<Array>&;

std::optional<PoolParams> pool_params(const std::optional<Pooling>& pool) {
  if (!pool) return {};
  const auto& [kernel, stride, pads, dilation, ceil_mode] = *pool;
  return PoolParams{kernel, stride, pads, dilation, ceil_mode};
}

PostOps activated(Activation activation) {
  PostOps post;
  post.activation = activation;
  return post;
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("allow_winograd", &cpu::allow_winograd, py::arg("allowed"));
  m.def("winograd_allowed", &cpu::winograd_allowed);
  m.def(
      "conv2d_output_shape",
      [](const Shape& x, const Shape& w, Pair stride, Pads pads, Pair dilation, int64_t groups) {
        return conv2d_shape(x, w, {stride, pads, dilation, groups}).y();
      },
      py::arg("x_shape"), py::arg("w_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"));
  m.def(
      "conv2d_forward",
      [](const Array& x, const Array& w, Optional b, Pair stride, Pads pads, Pair dilation,
         int64_t groups, bool relu, bool gradient, bool leaf) {
        return std::get<0>(conv2d(x, w, or_undefined(b), {stride, pads, dilation, groups},
                                  activated(relu ? Activation::relu : Activation::none), {},
                                  {gradient, leaf}));
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("relu"), py::arg("gradient") = false,
      py::arg("leaf") = true, ReleaseGil());
  m.def(
      "conv2d_backward_input",
      [](const Array& dy, const Array& w, const Shape& x_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups, Optional b, bool gradient, bool leaf) {
        return conv2d_backward_input(dy, w, x_shape, or_undefined(b),
                                     {stride, pads, dilation, groups}, {gradient, leaf});
      },
      py::arg("dy"), py::arg("w"), py::arg("x_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("b") = py::none(),
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def(
      "conv2d_backward_weight",
      [](const Array& dy, const Array& x, const Shape& w_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups) {
        return conv2d_backward_weight(dy, x, w_shape, {stride, pads, dilation, groups});
      },
      py::arg("dy"), py::arg("x"), py::arg("w_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), ReleaseGil());
  m.def(
      "conv_stage_forward",
      [](const Array& x, const Array& w, Optional b, Pair stride, Pads pads, Pair dilation,
         int64_t groups, std::optional<double> cap, const std::optional<Pooling>& pool,
         bool gradient, bool leaf) {
        const auto [y, argmax, kept] =
            conv2d(x, w, or_undefined(b), {stride, pads, dilation, groups},
                   activated(activation_below(cap)), pool_params(pool), {gradient, leaf});
        return std::tuple(y, or_nothing(argmax), kept);
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("cap"), py::arg("pool"),
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def(
      "conv_norm_forward",
      [](const Array& x, const Array& w, Optional b, Pair stride, Pads pads, Pair dilation,
         int64_t groups, Optional weight, Optional bias, const Array& mean, const Array& var,
         double eps, std::optional<double> cap, Optional plus, const std::optional<Pooling>& pool) {
        const PostOps post{Normalise{or_undefined(weight), or_undefined(bias), mean, var, eps},
                           or_undefined(plus),
                           activation_below(cap),
                           {}};
        return std::get<0>(conv2d(x, w, or_undefined(b), {stride, pads, dilation, groups}, post,
                                  pool_params(pool), {}));
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
      py::arg("var"), py::arg("eps"), py::arg("cap") = py::none(), py::arg("plus") = py::none(),
      py::arg("pool") = py::none(), ReleaseGil());
  m.def(
      "conv_stage_backward",
      [](const Array& dy, Optional y, Optional argmax, Optional x, const Shape& x_shape,
         const Array& w, Pair stride, Pads pads, Pair dilation, int64_t groups,
         const std::optional<Pooling>& pool, std::tuple<bool, bool, bool> wanted,
         std::optional<double> cap) {
        const Activation activation = y ? activation_below(cap) : Activation::none;
        const auto [need_x, need_w, need_b] = wanted;
        const auto [dx, dw, db] =
            conv2d_backward(dy, or_undefined(y), or_undefined(argmax), or_undefined(x), x_shape, w,
                            {stride, pads, dilation, groups}, activation, pool_params(pool),
                            {need_x, need_w, need_b});
        return std::tuple(or_nothing(dx), or_nothing(dw), or_nothing(db));
      },
      py::arg("dy"), py::arg("y"), py::arg("argmax"), py::arg("x"), py::arg("x_shape"),
      py::arg("w"), py::arg("stride"), py::arg("pads"), py::arg("dilation"), py::arg("groups"),
      py::arg("pool"), py::arg("wanted"), py::arg("cap") = upper_limit(Activation::relu),
      ReleaseGil());
}

}  // namespace fastconv::bind
