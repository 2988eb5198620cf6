// Bindings of convolution.
#include "bind/bind.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

namespace fastconv::bind {
namespace {

using Pair = std::array<int64_t, 2>;
using Pads = std::array<int64_t, 4>;

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
  m.def(
      "conv2d_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, Pair stride, Pads pads,
         Pair dilation, int64_t groups, bool relu) {
        return conv2d_forward(x, w, b.value_or(Array()), {stride, pads, dilation, groups}, relu);
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("relu"), ReleaseGil());
  m.def(
      "conv2d_backward_input",
      [](const Array& dy, const Array& w, const Shape& x_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups, const std::optional<Array>& b) {
        return conv2d_backward_input(dy, w, x_shape, {stride, pads, dilation, groups},
                                     b.value_or(Array()));
      },
      py::arg("dy"), py::arg("w"), py::arg("x_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), py::arg("b") = py::none(), ReleaseGil());
  m.def(
      "conv2d_backward_weight",
      [](const Array& dy, const Array& x, const Shape& w_shape, Pair stride, Pads pads,
         Pair dilation, int64_t groups) {
        return conv2d_backward_weight(dy, x, w_shape, {stride, pads, dilation, groups});
      },
      py::arg("dy"), py::arg("x"), py::arg("w_shape"), py::arg("stride"), py::arg("pads"),
      py::arg("dilation"), py::arg("groups"), ReleaseGil());
}

}  // namespace fastconv::bind
