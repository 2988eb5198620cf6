// Bindings of linear layers.
#include "bind/bind.h"
#include "ops/linear.h"

namespace fastconv::bind {

void register_linear(py::module_& m) {
  define(
      m, "linear_forward",
      [](const Array& x, const Array& w, const std::optional<Array>& b, bool relu) {
        return linear_forward(x, w, b.value_or(Array()), relu);
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("relu"));
  define(m, "linear_backward_input", &linear_backward_input, py::arg("dy"), py::arg("w"));
  define(m, "linear_backward_weight", &linear_backward_weight, py::arg("dy"), py::arg("x"));
}

}  // namespace fastconv::bind
