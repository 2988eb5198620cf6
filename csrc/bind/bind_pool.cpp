// Bindings of pooling.
#include "bind/bind.h"
#include "ops/pool.h"

namespace fastconv::bind {
namespace {

using Pair = std::array<int64_t, 2>;
using Pads = std::array<int64_t, 4>;

void register_max_pool(py::module_& m) {
  m.def(
      "max_pool2d_forward",
      [](const Array& x, Pair kernel, Pair stride, Pads pads, Pair dilation, bool ceil_mode,
         bool relu, bool with_indices, bool gradient, bool leaf) {
        const auto [y, argmax] = max_pool2d(x, {kernel, stride, pads, dilation, ceil_mode}, relu,
                                            with_indices, {gradient, leaf});
        return std::pair<Array, Array>(y, or_nothing(argmax));
      },
      py::arg("x"), py::arg("kernel"), py::arg("stride"), py::arg("pads"), py::arg("dilation"),
      py::arg("ceil_mode"), py::arg("relu"), py::arg("with_indices") = true,
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def(
      "max_pool2d_backward",
      [](const Array& dy, const Array& argmax, const std::optional<Array>& y, const Shape& x_shape,
         Pair kernel, Pair stride, Pads pads, Pair dilation) {
        return max_pool2d_backward(dy, argmax, y.value_or(Array()), x_shape,
                                   {kernel, stride, pads, dilation, false});
      },
      py::arg("dy"), py::arg("argmax"), py::arg("y"), py::arg("x_shape"), py::arg("kernel"),
      py::arg("stride"), py::arg("pads"), py::arg("dilation"), ReleaseGil());
  m.def(
      "max_pool2d_indices",
      [](const Array& argmax, const Shape& x_shape, Pair kernel, Pair stride, Pads pads,
         Pair dilation) {
        return max_pool2d_indices(argmax, x_shape, {kernel, stride, pads, dilation, false});
      },
      py::arg("argmax"), py::arg("x_shape"), py::arg("kernel"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), ReleaseGil());
}

void register_avg_pool(py::module_& m) {
  m.def(
      "avg_pool2d_forward",
      [](const Array& x, Pair kernel, Pair stride, Pads pads, bool ceil_mode,
         bool count_include_pad, int64_t divisor_override, bool gradient, bool leaf) {
        return avg_pool2d(x, {kernel, stride, pads, {1, 1}, ceil_mode},
                          {count_include_pad, divisor_override}, {gradient, leaf});
      },
      py::arg("x"), py::arg("kernel"), py::arg("stride"), py::arg("pads"), py::arg("ceil_mode"),
      py::arg("count_include_pad"), py::arg("divisor_override"), py::arg("gradient") = false,
      py::arg("leaf") = true, ReleaseGil());
  m.def(
      "avg_pool2d_backward",
      [](const Array& dy, const Shape& x_shape, Pair kernel, Pair stride, Pads pads, bool ceil_mode,
         bool count_include_pad, int64_t divisor_override, bool leaf) {
        return avg_pool2d_backward(dy, x_shape, {kernel, stride, pads, {1, 1}, ceil_mode},
                                   {count_include_pad, divisor_override}, leaf);
      },
      py::arg("dy"), py::arg("x_shape"), py::arg("kernel"), py::arg("stride"), py::arg("pads"),
      py::arg("ceil_mode"), py::arg("count_include_pad"), py::arg("divisor_override"),
      py::arg("leaf") = false, ReleaseGil());
  m.def(
      "adaptive_avg_pool2d_forward",
      [](const Array& x, Pair output_size, bool gradient, bool leaf) {
        return adaptive_avg_pool2d(x, output_size, {gradient, leaf});
      },
      py::arg("x"), py::arg("output_size"), py::arg("gradient") = false, py::arg("leaf") = true,
      ReleaseGil());
  m.def("adaptive_avg_pool2d_backward", &adaptive_avg_pool2d_backward, py::arg("dy"),
        py::arg("x_shape"), ReleaseGil());
}

}  // namespace

void register_pool(py::module_& m) {
  register_max_pool(m);
  register_avg_pool(m);
}

}  // namespace fastconv::bind
