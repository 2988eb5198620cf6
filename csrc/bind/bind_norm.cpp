// Bindings of the normalisations.
#include "bind/bind.h"
#include "ops/norm.h"

namespace fastconv::bind {
namespace {

using Optional = const std::optional<Array>&;

}  // namespace

void register_norm(py::module_& m) {
  m.def("channel_sum", &channel_sum, py::arg("x"), ReleaseGil());
  m.def(
      "batch_norm_train",
      [](const Array& x, Optional weight, Optional bias, Optional running_mean,
         Optional running_var, double momentum, double eps, Activation activation, Optional add,
         bool gradient, bool leaf) {
        const PostOps post{{}, or_undefined(add), activation, {}};
        return batch_norm_train(x, or_undefined(weight), or_undefined(bias),
                                or_undefined(running_mean), or_undefined(running_var), momentum,
                                eps, post, {gradient, leaf});
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("running_mean"),
      py::arg("running_var"), py::arg("momentum"), py::arg("eps"),
      py::arg("activation") = py::none(), py::arg("add") = py::none(), py::arg("gradient") = false,
      py::arg("leaf") = true, ReleaseGil());
  m.def(
      "batch_norm_eval",
      [](const Array& x, Optional weight, Optional bias, const Array& mean, const Array& var,
         double eps, Activation activation, Optional add, bool gradient, bool leaf) {
        const PostOps post{Normalise{or_undefined(weight), or_undefined(bias), mean, var, eps},
                           or_undefined(add),
                           activation,
                           {}};
        return batch_norm_eval(x, post, {gradient, leaf});
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("var"),
      py::arg("eps"), py::arg("activation") = py::none(), py::arg("add") = py::none(),
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def(
      "batch_norm_train_backward",
      [](const Array& dy, const Array& x, Optional weight, Optional bias, const Array& mean,
         const Array& inv_std, Optional y, Activation activation, bool wants_dadd) {
        auto [dx, dweight, dbias, dadd] =
            batch_norm_train_backward(dy, x, or_undefined(weight), or_undefined(bias), mean,
                                      inv_std, or_undefined(y), activation, wants_dadd);
        return std::tuple(dx, dweight, dbias, or_none(dadd));
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"),
      py::arg("inv_std"), py::arg("y") = py::none(), py::arg("activation") = py::none(),
      py::arg("wants_dadd") = false, ReleaseGil());
  m.def(
      "batch_norm_eval_backward",
      [](const Array& dy, const Array& x, Optional weight, const Array& mean, const Array& var,
         double eps) {
        return batch_norm_eval_backward(dy, x, or_undefined(weight), mean, var, eps);
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("mean"), py::arg("var"),
      py::arg("eps"), ReleaseGil());
  m.def(
      "batch_norm_eval_backward_input",
      [](const Array& dy, Optional weight, const Array& var, double eps) {
        return batch_norm_eval_backward_input(dy, or_undefined(weight), var, eps);
      },
      py::arg("dy"), py::arg("weight"), py::arg("var"), py::arg("eps"), ReleaseGil());
  m.def(
      "local_response_norm",
      [](const Array& x, int64_t size, double alpha, double beta, double k, bool gradient,
         bool leaf) { return local_response_norm(x, size, alpha, beta, k, {gradient, leaf}); },
      py::arg("x"), py::arg("size"), py::arg("alpha"), py::arg("beta"), py::arg("k"),
      py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def("local_response_norm_backward", &local_response_norm_backward, py::arg("dy"), py::arg("x"),
        py::arg("size"), py::arg("alpha"), py::arg("beta"), py::arg("k"), ReleaseGil());
}

}  // namespace fastconv::bind
