// Bindings of the normalisations.
#include <tuple>

#include "bind/bind.h"
#include "ops/norm.h"

namespace fastconv::bind {
namespace {

using Optional = const std::optional<Array>&;
using Three = std::tuple<Array, Array, Array>;

Array or_none(Optional a) { return a.value_or(Array()); }

Three tuple_of(const BatchNormGradients& g) { return {g.dx, g.dweight, g.dbias}; }

}  // namespace

void register_norm(py::module_& m) {
  m.def("channel_sum", &channel_sum, py::arg("x"), ReleaseGil());
  m.def(
      "batch_norm_train",
      [](const Array& x, Optional weight, Optional bias, Optional running_mean,
         Optional running_var, double momentum, double eps) {
        const BatchNorm out =
            batch_norm_train(x, or_none(weight), or_none(bias), or_none(running_mean),
                             or_none(running_var), momentum, eps);
        return Three(out.y, out.mean, out.inv_std);
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("running_mean"),
      py::arg("running_var"), py::arg("momentum"), py::arg("eps"), ReleaseGil());
  m.def(
      "batch_norm_eval",
      [](const Array& x, Optional weight, Optional bias, const Array& mean, const Array& var,
         double eps) { return batch_norm_eval(x, or_none(weight), or_none(bias), mean, var, eps); },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("var"),
      py::arg("eps"), ReleaseGil());
  m.def(
      "batch_norm_train_backward",
      [](const Array& dy, const Array& x, Optional weight, const Array& mean,
         const Array& inv_std) {
        return tuple_of(batch_norm_train_backward(dy, x, or_none(weight), mean, inv_std));
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("mean"), py::arg("inv_std"),
      ReleaseGil());
  m.def(
      "batch_norm_eval_backward",
      [](const Array& dy, const Array& x, Optional weight, const Array& mean, const Array& var,
         double eps) {
        return tuple_of(batch_norm_eval_backward(dy, x, or_none(weight), mean, var, eps));
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("mean"), py::arg("var"),
      py::arg("eps"), ReleaseGil());
  m.def("local_response_norm", &local_response_norm, py::arg("x"), py::arg("size"),
        py::arg("alpha"), py::arg("beta"), py::arg("k"), ReleaseGil());
  m.def("local_response_norm_backward", &local_response_norm_backward, py::arg("dy"), py::arg("x"),
        py::arg("size"), py::arg("alpha"), py::arg("beta"), py::arg("k"), ReleaseGil());
}

}  // namespace fastconv::bind
