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
  m.def("softmax", &softmax, py::arg("x"), py::arg("axis"), ReleaseGil());
  m.def("softmax_backward", &softmax_backward, py::arg("dy"), py::arg("y"), py::arg("axis"),
        ReleaseGil());
  m.def("log_softmax", &log_softmax, py::arg("x"), py::arg("axis"), ReleaseGil());
  m.def("log_softmax_backward", &log_softmax_backward, py::arg("dy"), py::arg("y"), py::arg("axis"),
        ReleaseGil());
  m.def(
      "cross_entropy",
      [](const Array& logits, const Array& labels, const std::optional<Array>& weight,
         int64_t ignore_index, double label_smoothing, const std::string& reduction) {
        return cross_entropy(logits, labels, or_undefined(weight), ignore_index, label_smoothing,
                             reduction);
      },
      py::arg("logits"), py::arg("labels"), py::arg("weight"), py::arg("ignore_index"),
      py::arg("label_smoothing"), py::arg("reduction"), ReleaseGil());
  for (const auto& [name, kind] : kPointwise)
    m.def(
        name,
        [kind = kind](const Array& x, const Array& target, const std::string& reduction) {
          return pointwise_loss(kind, x, target, reduction);
        },
        py::arg("x"), py::arg("target"), py::arg("reduction"), ReleaseGil());
  m.def("count_correct", &count_correct, py::arg("logits"), py::arg("labels"), ReleaseGil());
}

}  // namespace fastconv::bind
