// Bindings of linear layers.
#include "bind/bind.h"
#include "ops/linear.h"

namespace fastconv::bind {

void register_linear(py::module_& m) {
  m.def(
      "linear_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, bool relu, bool gradient,
         bool leaf) {
        return linear(x, w, b.value_or(Array()), relu ? Activation::relu : Activation::none,
                      {gradient, leaf});
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("relu"), py::arg("gradient") = false,
      py::arg("leaf") = true, ReleaseGil());
  m.def("linear_backward_input", &linear_backward_input, py::arg("dy"), py::arg("w"), ReleaseGil());
  m.def("linear_backward_weight", &linear_backward_weight, py::arg("dy"), py::arg("x"),
        ReleaseGil());
}

}  // namespace fastconv::bind
