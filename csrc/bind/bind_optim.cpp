// Bindings of the optimisers, which plan steps: numbers that depend on nothing but the arguments
// are made here, in double. take_steps takes them.
#include <cmath>

#include "bind/bind.h"
#include "ops/optim.h"

namespace fastconv::bind {
namespace {

constexpr char kSteps[] = "an optimiser steps while the network runs";

float single(double x) { return static_cast<float>(x); }

}  // namespace

void register_optim(py::module_& m) {
  define(
      m, "sgd_step",
      [](const Arrays& params, const Arrays& grads, const Arrays& momenta, double lr,
         double momentum, double dampening, double weight_decay, bool nesterov, bool first,
         bool maximize) {
        program::refuse_recording(kSteps);
        return sgd_step(params, grads, momenta,
                        {single(lr), single(momentum), single(1.0 - dampening),
                         single(weight_decay), nesterov, first, maximize});
      },
      py::arg("params"), py::arg("grads"), py::arg("momenta"), py::arg("lr"), py::arg("momentum"),
      py::arg("dampening"), py::arg("weight_decay"), py::arg("nesterov"), py::arg("first"),
      py::arg("maximize"));
  define(
      m, "rmsprop_step",
      [](const Arrays& params, const Arrays& grads, const Arrays& square_avg, const Arrays& momenta,
         const Arrays& grad_avg, double lr, double alpha, double eps, double weight_decay,
         double momentum, bool eps_inside_sqrt) {
        program::refuse_recording(kSteps);
        return rmsprop_step(params, grads, square_avg, momenta, grad_avg,
                            {single(lr), single(alpha), single(1.0 - alpha), single(eps),
                             single(weight_decay), single(momentum), eps_inside_sqrt});
      },
      py::arg("params"), py::arg("grads"), py::arg("square_avg"), py::arg("momenta"),
      py::arg("grad_avg"), py::arg("lr"), py::arg("alpha"), py::arg("eps"), py::arg("weight_decay"),
      py::arg("momentum"), py::arg("eps_inside_sqrt"));
  define(
      m, "adam_step",
      [](const Arrays& params, const Arrays& grads, const Arrays& exp_avg, const Arrays& exp_avg_sq,
         const Arrays& max_exp_avg_sq, int64_t step, double lr, double beta1, double beta2,
         double eps, double weight_decay, bool decoupled, bool maximize) {
        program::refuse_recording(kSteps);
        if (step < 1)
          throw std::invalid_argument(message("[adam_step] step counts from 1, got ", step));
        const auto t = static_cast<double>(step);
        AdamRule rule{};
        rule.one_minus_beta1 = single(1.0 - beta1);
        rule.beta2 = single(beta2);
        rule.one_minus_beta2 = single(1.0 - beta2);
        rule.eps = single(eps);
        rule.weight_decay = decoupled ? 0.0f : single(weight_decay);
        rule.decay = decoupled ? single(1.0 - lr * weight_decay) : 1.0f;
        rule.step_size = single(lr / (1.0 - std::pow(beta1, t)));
        rule.inv_sqrt_correction = single(1.0 / std::sqrt(1.0 - std::pow(beta2, t)));
        rule.maximize = maximize;
        return adam_step(params, grads, exp_avg, exp_avg_sq, max_exp_avg_sq, rule);
      },
      py::arg("params"), py::arg("grads"), py::arg("exp_avg"), py::arg("exp_avg_sq"),
      py::arg("max_exp_avg_sq"), py::arg("step"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"),
      py::arg("eps"), py::arg("weight_decay"), py::arg("decoupled"), py::arg("maximize"));
  define(
      m, "adagrad_step",
      [](const Arrays& params, const Arrays& grads, const Arrays& state_sum, double lr,
         double weight_decay, double eps) {
        program::refuse_recording(kSteps);
        return adagrad_step(params, grads, state_sum,
                            {single(lr), single(eps), single(weight_decay)});
      },
      py::arg("params"), py::arg("grads"), py::arg("state_sum"), py::arg("lr"),
      py::arg("weight_decay"), py::arg("eps"));
  py::class_<PlannedStep>(m, "OptimStep");
  m.def("take_steps", &take_steps, py::arg("steps"), ReleaseGil());
  define(m, "grad_norm", &grad_norm, py::arg("grads"));
  define(m, "scale_all", &scale_all, py::arg("arrays"), py::arg("scale"));
}

}  // namespace fastconv::bind
