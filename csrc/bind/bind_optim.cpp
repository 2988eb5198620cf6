// Bindings of the optimisers.
#include "bind/bind.h"
#include "ops/optim.h"

namespace fastconv::bind {

void register_optim(py::module_& m) {
  py::class_<OptimStep>(m, "OptimStep");
  m.def(
      "sgd_step",
      [](Arrays params, const Arrays& grads, Arrays momenta, double lr, double momentum,
         double dampening, double weight_decay, bool nesterov, bool first, bool maximize) {
        return sgd_step(std::move(params), grads, std::move(momenta),
                        {lr, momentum, dampening, weight_decay, nesterov, first, maximize});
      },
      py::arg("params"), py::arg("grads"), py::arg("momenta"), py::arg("lr"), py::arg("momentum"),
      py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("first"),
      py::arg("maximize"), ReleaseGil());
  m.def(
      "rmsprop_step",
      [](Arrays params, const Arrays& grads, Arrays square_avg, Arrays momenta, Arrays grad_avg,
         double lr, double alpha, double eps, double weight_decay, double momentum,
         bool eps_inside_sqrt) {
        return rmsprop_step(std::move(params), grads, std::move(square_avg), std::move(momenta),
                            std::move(grad_avg),
                            {lr, alpha, eps, weight_decay, momentum, eps_inside_sqrt});
      },
      py::arg("params"), py::arg("grads"), py::arg("square_avg"), py::arg("momenta"),
      py::arg("grad_avg"), py::arg("lr"), py::arg("alpha"), py::arg("eps"), py::arg("weight_decay"),
      py::arg("momentum"), py::arg("eps_inside_sqrt"), ReleaseGil());
  m.def(
      "adam_step",
      [](Arrays params, const Arrays& grads, Arrays exp_avg, Arrays exp_avg_sq,
         Arrays max_exp_avg_sq, int64_t step, double lr, double beta1, double beta2, double eps,
         double weight_decay, bool decoupled, bool maximize) {
        return adam_step(std::move(params), grads, std::move(exp_avg), std::move(exp_avg_sq),
                         std::move(max_exp_avg_sq),
                         {step, lr, beta1, beta2, eps, weight_decay, decoupled, maximize});
      },
      py::arg("params"), py::arg("grads"), py::arg("exp_avg"), py::arg("exp_avg_sq"),
      py::arg("max_exp_avg_sq"), py::arg("step"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"),
      py::arg("eps"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"),
      ReleaseGil());
  m.def(
      "adagrad_step",
      [](Arrays params, const Arrays& grads, Arrays state_sum, double lr, double weight_decay,
         double eps) {
        return adagrad_step(std::move(params), grads, std::move(state_sum),
                            {lr, weight_decay, eps});
      },
      py::arg("params"), py::arg("grads"), py::arg("state_sum"), py::arg("lr"),
      py::arg("weight_decay"), py::arg("eps"), ReleaseGil());
  m.def("take_steps", &take_steps, py::arg("steps"), ReleaseGil());
  m.def("grad_norm", &grad_norm, py::arg("grads"), ReleaseGil());
  m.def("scale_all", &scale_all, py::arg("arrays"), py::arg("scale"), ReleaseGil());
}

}  // namespace fastconv::bind
