#include "ops/optim.h"

#include <cmath>
#include <utility>

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

using program::run;

void check_array(const char* op, const char* what, size_t i, const Array& x) {
  check_float32(op, what, x);
  if (x.layout() != Layout::plain)
    throw std::invalid_argument(message("[", op, "] ", what, "[", i, "] must be row-major"));
}

void check_arrays(const char* op, const char* what, const Arrays& arrays) {
  for (size_t i = 0; i < arrays.size(); ++i) check_array(op, what, i, arrays[i]);
}

// One array of `list` for each parameter, of its shape; or none at all where that is allowed.
void check_list(const char* op, const char* what, const Arrays& list, const Arrays& params,
                bool optional = false) {
  if (optional && list.empty()) return;
  if (list.size() != params.size())
    throw std::invalid_argument(message("[", op, "] ", params.size(), " params but ", list.size(),
                                        " ", what, ": there must be one for each"));
  for (size_t i = 0; i < list.size(); ++i) {
    check_array(op, what, i, list[i]);
    if (list[i].shape() != params[i].shape())
      throw ShapeError(message("[", op, "] ", what, "[", i, "] has shape ", list[i].shape(),
                               ", its parameter ", params[i].shape()));
  }
}

void check_step(const char* op, const Arrays& params, const Arrays& grads) {
  program::refuse_recording("an optimiser steps while the network runs");
  check_arrays(op, "params", params);
  check_list(op, "grads", grads, params);
}

// Rules are made in double and rounded once.
float single(double x) { return static_cast<float>(x); }

AdamRule adam_rule(const AdamOptions& options) {
  const auto t = static_cast<double>(options.step);
  const double decay = options.lr * options.weight_decay;
  AdamRule rule{};
  rule.one_minus_beta1 = single(1.0 - options.beta1);
  rule.beta2 = single(options.beta2);
  rule.one_minus_beta2 = single(1.0 - options.beta2);
  rule.eps = single(options.eps);
  rule.weight_decay = options.decoupled ? 0.0f : single(options.weight_decay);
  rule.decay = options.decoupled ? single(1.0 - decay) : 1.0f;
  rule.step_size = single(options.lr / (1.0 - std::pow(options.beta1, t)));
  rule.inv_sqrt_correction = single(1.0 / std::sqrt(1.0 - std::pow(options.beta2, t)));
  rule.maximize = options.maximize;
  return rule;
}

}  // namespace

std::unique_ptr<OptimStep> sgd_step(Arrays params, const Arrays& grads, Arrays momenta,
                                    const SgdOptions& options) {
  const char* const op = "sgd_step";
  const SgdRule rule{single(options.lr),
                     single(options.momentum),
                     single(1.0 - options.dampening),
                     single(options.weight_decay),
                     options.nesterov,
                     options.first,
                     options.maximize};
  check_step(op, params, grads);
  check_list(op, "momenta", momenta, params, rule.momentum == 0.0f);
  return run(op, &Operations::sgd_step, std::move(params), grads, std::move(momenta), rule);
}

std::unique_ptr<OptimStep> rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg,
                                        Arrays momenta, Arrays grad_avg,
                                        const RmspropOptions& options) {
  const char* const op = "rmsprop_step";
  const RmspropRule rule{single(options.lr),           single(options.alpha),
                         single(1.0 - options.alpha),  single(options.eps),
                         single(options.weight_decay), single(options.momentum),
                         options.eps_inside_sqrt};
  check_step(op, params, grads);
  check_list(op, "square_avg", square_avg, params);
  check_list(op, "momenta", momenta, params, rule.momentum == 0.0f);
  check_list(op, "grad_avg", grad_avg, params, true);
  return run(op, &Operations::rmsprop_step, std::move(params), grads, std::move(square_avg),
             std::move(momenta), std::move(grad_avg), rule);
}

std::unique_ptr<OptimStep> adam_step(Arrays params, const Arrays& grads, Arrays exp_avg,
                                     Arrays exp_avg_sq, Arrays max_exp_avg_sq,
                                     const AdamOptions& options) {
  const char* const op = "adam_step";
  if (options.step < 1)
    throw std::invalid_argument(message("[adam_step] step counts from 1, got ", options.step));
  check_step(op, params, grads);
  check_list(op, "exp_avg", exp_avg, params);
  check_list(op, "exp_avg_sq", exp_avg_sq, params);
  check_list(op, "max_exp_avg_sq", max_exp_avg_sq, params, true);
  return run(op, &Operations::adam_step, std::move(params), grads, std::move(exp_avg),
             std::move(exp_avg_sq), std::move(max_exp_avg_sq), adam_rule(options));
}

std::unique_ptr<OptimStep> adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                                        const AdagradOptions& options) {
  const char* const op = "adagrad_step";
  check_step(op, params, grads);
  check_list(op, "state_sum", state_sum, params);
  const AdagradRule rule{single(options.lr), single(options.eps), single(options.weight_decay)};
  return run(op, &Operations::adagrad_step, std::move(params), grads, std::move(state_sum), rule);
}

void take_steps(const std::vector<const OptimStep*>& steps) {
  for (const OptimStep* step : steps)
    if (step == nullptr) throw std::invalid_argument("[take_steps] one of the steps is None");
  program::refuse_recording("an optimiser steps while the network runs");
  run("take_steps", &Operations::take_steps, steps);
}

double grad_norm(const Arrays& grads) {
  check_arrays("grad_norm", "grads", grads);
  return run("grad_norm", &Operations::grad_norm, grads);
}

void scale_all(Arrays arrays, float scale) {
  check_arrays("scale_all", "arrays", arrays);
  run("scale_all", &Operations::scale_all, std::move(arrays), scale);
}

}  // namespace fastconv
