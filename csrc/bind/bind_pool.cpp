// Bindings of pooling.
#include "bind/bind.h"
#include "ops/pool.h"

namespace fastconv::bind {
namespace {

void register_max_pool(py::module_& m) {
  py::class_<PoolParams>(m, "Pooling", "Pooling windows (csrc/contract/pool_shape.h).")
      .def(py::init([](Pair kernel, Pair stride, Pads pads, Pair dilation, bool ceil_mode) {
             return PoolParams{kernel, stride, pads, dilation, ceil_mode};
           }),
           py::arg("kernel"), py::arg("stride"), py::arg("pads"), py::arg("dilation"),
           py::arg("ceil_mode"))
      .def(
          "output_shape",
          [](const PoolParams& self, const Shape& x) {
            return max_pool2d_shape("max_pool2d", x, self).y();
          },
          py::arg("x"))
      .def_property_readonly("misses_pixels", &PoolParams::misses_pixels);
  m.def(
      "max_pool2d",
      [](const Array& x, const PoolParams& pooling, bool relu, bool with_indices, bool gradient,
         bool leaf) {
        const auto [y, argmax] = max_pool2d(x, pooling, relu, with_indices, {gradient, leaf});
        return std::pair(y, or_none(argmax));
      },
      py::arg("x"), py::arg("pooling"), py::arg("relu") = false, py::arg("with_indices") = true,
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def(
      "max_pool2d_backward",
      [](const Array& dy, const Array& argmax, const std::optional<Array>& y, const Shape& x_shape,
         const PoolParams& pooling) {
        return max_pool2d_backward(dy, argmax, or_undefined(y), x_shape, pooling);
      },
      py::arg("dy"), py::arg("argmax"), py::arg("y"), py::arg("x_shape"), py::arg("pooling"),
      ReleaseGil());
  m.def("max_pool2d_indices", &max_pool2d_indices, py::arg("argmax"), py::arg("x_shape"),
        py::arg("pooling"), ReleaseGil());
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
