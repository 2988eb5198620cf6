// The CPU's optimisers (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

std::unique_ptr<OptimStep> sgd_step(Arrays params, const Arrays& grads, Arrays momenta,
                                    const SgdRule& rule);
std::unique_ptr<OptimStep> rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg,
                                        Arrays momenta, Arrays grad_avg, const RmspropRule& rule);
std::unique_ptr<OptimStep> adam_step(Arrays params, const Arrays& grads, Arrays exp_avg,
                                     Arrays exp_avg_sq, Arrays max_exp_avg_sq,
                                     const AdamRule& rule);
std::unique_ptr<OptimStep> adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                                        const AdagradRule& rule);
void take_steps(const std::vector<const OptimStep*>& steps);
double grad_norm(const Arrays& grads);
void scale_all(Arrays arrays, float scale);

}  // namespace fastconv::cpu
