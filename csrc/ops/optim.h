// Optimisers: one step over all parameters at once, by the update rules of torch.optim
// (contract/optimizer_rules.h). All arrays are row-major float32 and updated in place.
//
// A step is checked and prepared first and taken afterwards: whatever can fail fails before a
// number changes, also where parameters of several groups, with rules of their own, step together.
#pragma once

#include "contract/operations.h"

namespace fastconv {

// Options as torch.optim names them.
struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, first, maximize;  // first: momenta have no values yet
};
struct RmspropOptions {
  double lr, alpha, eps, weight_decay, momentum;
  bool eps_inside_sqrt;
};
struct AdamOptions {
  int64_t step;  // how many steps this makes, from 1
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled, maximize;  // decoupled: AdamW
};
struct AdagradOptions {
  double lr, weight_decay, eps;  // lr decayed already
};

// State lists have one array for each parameter, or are empty where the rule does not use them.
std::unique_ptr<OptimStep> sgd_step(Arrays params, const Arrays& grads, Arrays momenta,
                                    const SgdOptions& options);
std::unique_ptr<OptimStep> rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg,
                                        Arrays momenta, Arrays grad_avg,
                                        const RmspropOptions& options);
std::unique_ptr<OptimStep> adam_step(Arrays params, const Arrays& grads, Arrays exp_avg,
                                     Arrays exp_avg_sq, Arrays max_exp_avg_sq,
                                     const AdamOptions& options);
std::unique_ptr<OptimStep> adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                                        const AdagradOptions& options);
void take_steps(const std::vector<const OptimStep*>& steps);

double grad_norm(const Arrays& grads);  // 2-norm over all elements, summed in double
void scale_all(Arrays arrays, float scale);

}  // namespace fastconv
