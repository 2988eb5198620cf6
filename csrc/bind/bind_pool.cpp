// Bindings of pooling.
#include "bind/bind.h"
#include "ops/pool.h"

namespace fastconv::bind {
namespace {

using Pair = std::array<int64_t, 2>;
using Pads = std::array<int64_t, 4>;

}  // namespace

void register_pool(py::module_& m) {
  m.def(
      "pooled_shape",
      [](const Shape& x, Pair kernel, Pair stride, Pads pads, Pair dilation, bool ceil_mode) {
        return pooled_shape("max_pool2d", x, {kernel, stride, pads, dilation, ceil_mode});
      },
      py::arg("x_shape"), py::arg("kernel"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("ceil_mode"));
  define(
      m, "max_pool2d_forward",
      [](const Array& x, Pair kernel, Pair stride, Pads pads, Pair dilation, bool ceil_mode,
         bool relu, bool placed) {
        const auto [y, argmax] =
            max_pool2d_forward(x, {kernel, stride, pads, dilation, ceil_mode}, relu, placed);
        return std::pair<Array, Array>(y, or_nothing(argmax));
      },
      py::arg("x"), py::arg("kernel"), py::arg("stride"), py::arg("pads"), py::arg("dilation"),
      py::arg("ceil_mode"), py::arg("relu"), py::arg("placed") = true);
  define(
      m, "max_pool2d_backward",
      [](const Array& dy, const Array& argmax, const std::optional<Array>& y, const Shape& x_shape,
         Pair kernel, Pair stride, Pads pads, Pair dilation) {
        return max_pool2d_backward(dy, argmax, y.value_or(Array()), x_shape,
                                   {kernel, stride, pads, dilation, false});
      },
      py::arg("dy"), py::arg("argmax"), py::arg("y"), py::arg("x_shape"), py::arg("kernel"),
      py::arg("stride"), py::arg("pads"), py::arg("dilation"));
  define(
      m, "max_pool2d_indices",
      [](const Array& argmax, const Shape& x_shape, Pair kernel, Pair stride, Pads pads,
         Pair dilation) {
        return max_pool2d_indices(argmax, x_shape, {kernel, stride, pads, dilation, false});
      },
      py::arg("argmax"), py::arg("x_shape"), py::arg("kernel"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"));
  define(
      m, "avg_pool2d_forward",
      [](const Array& x, Pair kernel, Pair stride, Pads pads, bool ceil_mode,
         bool count_include_pad, int64_t divisor_override) {
        return avg_pool2d_forward(x, {kernel, stride, pads, {1, 1}, ceil_mode}, count_include_pad,
                                  divisor_override);
      },
      py::arg("x"), py::arg("kernel"), py::arg("stride"), py::arg("pads"), py::arg("ceil_mode"),
      py::arg("count_include_pad"), py::arg("divisor_override"));
  define(
      m, "avg_pool2d_backward",
      [](const Array& dy, const Shape& x_shape, Pair kernel, Pair stride, Pads pads, bool ceil_mode,
         bool count_include_pad, int64_t divisor_override) {
        return avg_pool2d_backward(dy, x_shape, {kernel, stride, pads, {1, 1}, ceil_mode},
                                   count_include_pad, divisor_override);
      },
      py::arg("dy"), py::arg("x_shape"), py::arg("kernel"), py::arg("stride"), py::arg("pads"),
      py::arg("ceil_mode"), py::arg("count_include_pad"), py::arg("divisor_override"));
  define(m, "adaptive_avg_pool2d_forward", &adaptive_avg_pool2d_forward, py::arg("x"),
         py::arg("output_size"));
  define(m, "adaptive_avg_pool2d_backward", &adaptive_avg_pool2d_backward, py::arg("dy"),
         py::arg("x_shape"));
}

}  // namespace fastconv::bind
