// Bindings of the normalisations.
#include <tuple>

#include "bind/bind.h"
#include "ops/norm.h"

namespace fastconv::bind {
namespace {

using Optional = const std::optional<Array>&;
using Three = std::tuple<Array, Array, Array>;

Array or_none(Optional a) { return a.value_or(Array()); }

Epilogue epilogue(std::optional<double> cap, Optional plus) {
  return {cap.has_value(), cap.value_or(0.0), or_none(plus)};
}

Three tuple_of(const BatchNormGradients& g) { return {g.dx, g.dweight, g.dbias}; }

}  // namespace

void register_norm(py::module_& m) {
  define(m, "channel_sum", &channel_sum, py::arg("x"));
  define(
      m, "batch_norm_train",
      [](const Array& x, Optional weight, Optional bias, std::optional<Array> running_mean,
         std::optional<Array> running_var, double momentum, double eps, std::optional<double> cap,
         Optional plus) {
        const BatchNorm out =
            batch_norm_train(x, or_none(weight), or_none(bias), or_none(running_mean),
                             or_none(running_var), momentum, eps, epilogue(cap, plus));
        return Three(out.y, out.mean, out.inv_std);
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("running_mean"),
      py::arg("running_var"), py::arg("momentum"), py::arg("eps"), py::arg("cap") = py::none(),
      py::arg("plus") = py::none());
  define(
      m, "batch_norm_eval",
      [](const Array& x, Optional weight, Optional bias, const Array& mean, const Array& var,
         double eps, std::optional<double> cap, Optional plus) {
        return batch_norm_eval(x, or_none(weight), or_none(bias), mean, var, eps,
                               epilogue(cap, plus));
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("mean"), py::arg("var"),
      py::arg("eps"), py::arg("cap") = py::none(), py::arg("plus") = py::none());
  define(
      m, "batch_norm_train_backward",
      [](const Array& dy, const Array& x, Optional weight, const Array& mean, const Array& inv_std,
         Optional y, double cap, bool wants_dplus, Optional bias) {
        const BatchNormGradients g = batch_norm_train_backward(
            dy, x, or_none(weight), mean, inv_std, {cap, or_none(y), or_none(bias), wants_dplus});
        return std::tuple<Array, Array, Array, Array>(g.dx, g.dweight, g.dbias,
                                                      or_nothing(g.dplus));
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("mean"), py::arg("inv_std"),
      py::arg("y") = py::none(), py::arg("cap") = 0.0, py::arg("wants_dplus") = false,
      py::arg("bias") = py::none());
  define(
      m, "batch_norm_eval_backward",
      [](const Array& dy, const Array& x, Optional weight, const Array& mean, const Array& var,
         double eps) {
        return tuple_of(batch_norm_eval_backward(dy, x, or_none(weight), mean, var, eps));
      },
      py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("mean"), py::arg("var"),
      py::arg("eps"));
  define(m, "local_response_norm", &local_response_norm, py::arg("x"), py::arg("size"),
         py::arg("alpha"), py::arg("beta"), py::arg("k"));
  define(m, "local_response_norm_backward", &local_response_norm_backward, py::arg("dy"),
         py::arg("x"), py::arg("size"), py::arg("alpha"), py::arg("beta"), py::arg("k"));
}

}  // namespace fastconv::bind
