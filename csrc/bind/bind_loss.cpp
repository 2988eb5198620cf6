// Bindings of softmax and the losses.
#include "bind/bind.h"
#include "ops/loss.h"

namespace fastconv::bind {
namespace {

constexpr std::pair<const char*, PointwiseLoss> kPointwise[] = {
    {"mse_loss", PointwiseLoss::squared_error},
    {"binary_cross_entropy", PointwiseLoss::binary_cross_entropy},
    {"binary_cross_entropy_with_logits", PointwiseLoss::binary_cross_entropy_with_logits},
};

}  // namespace

void register_loss(py::module_& m) {
  define(m, "softmax", &softmax, py::arg("x"), py::arg("axis"));
  define(m, "softmax_backward", &softmax_backward, py::arg("dy"), py::arg("y"), py::arg("axis"));
  define(m, "log_softmax", &log_softmax, py::arg("x"), py::arg("axis"));
  define(m, "log_softmax_backward", &log_softmax_backward, py::arg("dy"), py::arg("y"),
         py::arg("axis"));
  define(
      m, "cross_entropy",
      [](const Array& logits, const Array& labels, const std::optional<Array>& weight,
         int64_t ignore_index, double label_smoothing, const std::string& reduction) {
        return cross_entropy(logits, labels, weight.value_or(Array()), ignore_index,
                             label_smoothing, reduction_named("cross_entropy", reduction));
      },
      py::arg("logits"), py::arg("labels"), py::arg("weight"), py::arg("ignore_index"),
      py::arg("label_smoothing"), py::arg("reduction"));
  for (const auto& [name, kind] : kPointwise)
    define(
        m, name,
        [name = name, kind = kind](const Array& x, const Array& target,
                                   const std::string& reduction) {
          return pointwise_loss(name, kind, x, target, reduction_named(name, reduction));
        },
        py::arg("x"), py::arg("target"), py::arg("reduction"));
  define(m, "count_correct", &count_correct, py::arg("logits"), py::arg("labels"));
}

}  // namespace fastconv::bind
