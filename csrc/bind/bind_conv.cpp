// Bindings of convolution.
#include "bind/bind.h"
#include "cpu/conv/winograd/winograd.h"
#include "ops/conv2d.h"
#include "ops/conv_stage.h"
#include "ops/norm.h"

namespace fastconv::bind {
namespace {

using Pair = std::array<int64_t, 2>;
using Pads = std::array<int64_t, 4>;
using Pooling = std::tuple<Pair, Pair, Pads, Pair, bool>;  // kernel, stride, pads, dilation, ceil

ConvStage conv_stage(Pair stride, Pads pads, Pair dilation, int64_t groups, bool relu,
                     const std::optional<Pooling>& pool) {
  ConvStage stage{{stride, pads, dilation, groups}, relu, {}};
  if (pool) {
    const auto& [kernel, step, edges, spread, ceil_mode] = *pool;
    stage.pool = PoolParams{kernel, step, edges, spread, ceil_mode};
  }
  return stage;
}

using Optional = const std::optional<Array>&;
using Gradients = std::tuple<Array, Array, Array>;  // dx, dw, db

Gradients backward_by_blocks(const Array& dy, Optional y, Optional argmax, Optional x,
                             const Shape& x_shape, const Array& w, const ConvStage& stage,
                             const Wanted& wanted) {
  const auto [dx, dw, db] = conv_stage_backward(dy, y.value_or(Array()), argmax.value_or(Array()),
                                                x.value_or(Array()), x_shape, w, stage, wanted);
  return {or_nothing(dx), or_nothing(dw), or_nothing(db)};
}

Array conv_dy(Array dy, Optional y, Optional argmax, const Shape& x, const Shape& w,
              const ConvStage& stage) {
  return conv_stage_conv_dy(std::move(dy), y.value_or(Array()), argmax.value_or(Array()), x, w,
                            stage);
}

Array backward_input(const Array& dy, const Array& w, const Shape& x, const Geometry& conv) {
  return conv2d_backward_input(dy, w, x, conv);
}

// One operation or its parts: in a recorded program each part is an instruction, after which what
// it used last is gone. The order is that of least memory, dx when x is no longer needed.
Gradients stage_backward(const Array& dy, Optional y, Optional argmax, Optional x,
                         const Shape& x_shape, const Array& w, const ConvStage& stage,
                         const Wanted& wanted) {
  if (conv_stage_by_blocks(x_shape, w.shape(), stage))
    return program::recorded("conv_stage_backward", &backward_by_blocks)(dy, y, argmax, x, x_shape,
                                                                         w, stage, wanted);
  Array from = dy;
  if (stage.relu || stage.pool)
    from =
        program::recorded("conv_stage_conv_dy", &conv_dy)(dy, y, argmax, x_shape, w.shape(), stage);
  Array dx = Array::empty({0}), dw = dx, db = dx;
  if (wanted.db) db = program::recorded("channel_sum", &channel_sum)(from);
  if (wanted.dw)
    dw = program::recorded("conv2d_backward_weight", &conv2d_backward_weight)(
        from, x.value_or(Array()), w.shape(), stage.conv);
  if (wanted.dx)
    dx = program::recorded("conv2d_backward_input", &backward_input)(from, w, x_shape, stage.conv);
  return {dx, dw, db};
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("allow_winograd", &allow_winograd, py::arg("allowed"));
  m.def("winograd_allowed", &winograd_allowed);
  m.def(
      "conv2d_output_shape",
      [](const Shape& x, const Shape& w, Pair stride, Pads pads, Pair dilation, int64_t groups) {
        return conv2d_shape(x, w, {stride, pads, dilation, groups}).y();
      },
      py::arg("x_shape"), py::arg("w_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"));
  define(
      m, "conv2d_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, Pair stride, Pads pads,
         Pair dilation, int64_t groups, bool relu) {
        return conv2d_forward(x, w, b.value_or(Array()), {stride, pads, dilation, groups}, relu);
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("relu"));
  define(
      m, "conv2d_backward_input",
      [](const Array& dy, const Array& w, const Shape& x_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups, const std::optional<Array>& b) {
        return conv2d_backward_input(dy, w, x_shape, {stride, pads, dilation, groups},
                                     b.value_or(Array()));
      },
      py::arg("dy"), py::arg("w"), py::arg("x_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("b") = py::none());
  define(
      m, "conv2d_backward_weight",
      [](const Array& dy, const Array& x, const Shape& w_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups) {
        return conv2d_backward_weight(dy, x, w_shape, {stride, pads, dilation, groups});
      },
      py::arg("dy"), py::arg("x"), py::arg("w_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"));
  define(
      m, "conv_stage_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, Pair stride, Pads pads,
         Pair dilation, int64_t groups, bool relu, const std::optional<Pooling>& pool,
         bool placed) {
        const auto [y, argmax] =
            conv_stage_forward(x, w, b.value_or(Array()),
                               conv_stage(stride, pads, dilation, groups, relu, pool), placed);
        return std::pair<Array, Array>(y, or_nothing(argmax));
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("relu"), py::arg("pool"),
      py::arg("placed") = true);
  define(
      m, "conv_norm_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, Pair stride, Pads pads,
         Pair dilation, int64_t groups, const std::optional<Array>& weight,
         const std::optional<Array>& bias, const Array& mean, const Array& var, double eps,
         std::optional<double> cap, const std::optional<Array>& plus) {
        return conv_norm_forward(x, w, b.value_or(Array()), {stride, pads, dilation, groups},
                                 {weight.value_or(Array()), bias.value_or(Array()), mean, var, eps},
                                 {cap.has_value(), cap.value_or(0.0), plus.value_or(Array())});
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
      py::arg("var"), py::arg("eps"), py::arg("cap") = py::none(), py::arg("plus") = py::none());
  m.def(
      "conv_stage_backward",
      [](const Array& dy, Optional y, Optional argmax, Optional x, const Shape& x_shape,
         const Array& w, Pair stride, Pads pads, Pair dilation, int64_t groups,
         const std::optional<Pooling>& pool, std::tuple<bool, bool, bool> wanted) {
        const auto [dx, dw, db] = wanted;
        const ConvStage stage = conv_stage(stride, pads, dilation, groups, y.has_value(), pool);
        return stage_backward(dy, y, argmax, x, x_shape, w, stage, {dx, dw, db});
      },
      py::arg("dy"), py::arg("y"), py::arg("argmax"), py::arg("x"), py::arg("x_shape"),
      py::arg("w"), py::arg("stride"), py::arg("pads"), py::arg("dilation"), py::arg("groups"),
      py::arg("pool"), py::arg("wanted"), ReleaseGil());
}

}  // namespace fastconv::bind
