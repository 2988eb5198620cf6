// Bindings of linear layers.
#include "bind/bind.h"
#include "ops/linear.h"

namespace fastconv::bind {

void register_linear(py::module_& m) {
  m.def(
      "linear",
      [](const Array& x, const Array& w, const std::optional<Array>& b, Activation activation,
         bool gradient,
         bool leaf) { return linear(x, w, or_undefined(b), activation, {gradient, leaf}); },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation") = py::none(),
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def("linear_backward_input", &linear_backward_input, py::arg("dy"), py::arg("w"), ReleaseGil());
  m.def("linear_backward_weight", &linear_backward_weight, py::arg("dy"), py::arg("x"),
        ReleaseGil());
}

}  // namespace fastconv::bind
