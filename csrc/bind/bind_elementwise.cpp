// Bindings of the elementwise functions.
#include "bind/bind.h"
#include "ops/elementwise.h"

namespace fastconv::bind {
namespace {

constexpr std::pair<const char*, Unary> kUnary[] = {
    {"exp", Unary::exp},   {"log", Unary::log},     {"sqrt", Unary::sqrt},
    {"relu", Unary::relu}, {"relu6", Unary::relu6}, {"sigmoid", Unary::sigmoid},
    {"tanh", Unary::tanh},
};
constexpr std::pair<const char*, Binary> kBinary[] = {
    {"add", Binary::add},
    {"sub", Binary::sub},
    {"mul", Binary::mul},
    {"div", Binary::div},
};
constexpr std::pair<const char*, Binary> kBackward[] = {
    {"relu_backward", Binary::relu_backward},
    {"relu6_backward", Binary::relu6_backward},
    {"sigmoid_backward", Binary::sigmoid_backward},
    {"tanh_backward", Binary::tanh_backward},
};

}  // namespace

void register_elementwise(py::module_& m) {
  for (const auto& [name, f] : kUnary)
    m.def(
        name, [name = name, f = f](const Array& x) { return unary(name, f, x); }, py::arg("x"),
        ReleaseGil());
  for (const auto& [name, f] : kBinary)
    m.def(
        name,
        [name = name, f = f](Array a, const Array& b) { return binary(name, f, std::move(a), b); },
        py::arg("a"), py::arg("b"), ReleaseGil());
  for (const auto& [name, f] : kBackward)
    m.def(
        name,
        [name = name, f = f](Array dy, const Array& y) {
          return binary(name, f, std::move(dy), y);
        },
        py::arg("dy"), py::arg("y"), ReleaseGil());
  m.def("add_into", &add_into, py::arg("a"), py::arg("b"), ReleaseGil());
  m.def("assign", &assign, py::arg("a"), py::arg("b"), ReleaseGil());
  m.def(
      "divide",
      [](const Array& x, float divisor) { return unary("divide", Unary::divide, x, divisor); },
      py::arg("x"), py::arg("divisor"), ReleaseGil());
  m.def(
      "scale_shift",
      [](const Array& x, float scale, float shift) {
        return unary("scale_shift", Unary::scale_shift, x, scale, shift);
      },
      py::arg("x"), py::arg("scale"), py::arg("shift"), ReleaseGil());
  m.def(
      "leaky_relu",
      [](const Array& x, float slope) { return unary("leaky_relu", Unary::leaky_relu, x, slope); },
      py::arg("x"), py::arg("slope"), ReleaseGil());
  m.def(
      "leaky_relu_backward",
      [](Array dy, const Array& x, float slope) {
        return binary("leaky_relu_backward", Binary::leaky_relu_backward, std::move(dy), x, slope);
      },
      py::arg("dy"), py::arg("x"), py::arg("slope"), ReleaseGil());
  m.def("scale_by", &scale_by, py::arg("x"), py::arg("factor"), ReleaseGil());
  m.def("sum", &sum, py::arg("x"), ReleaseGil());
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("seed"), ReleaseGil());
  m.def("count_up", &count_up, py::arg("x"), ReleaseGil());
}

}  // namespace fastconv::bind
