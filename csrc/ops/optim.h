// One step of an optimiser over all parameters at once: their elements, end to end, are cut into
// equal tasks, so that a step is one pass over memory. All arrays are plain float32 and updated in
// place; the rules stand in cpu/kernels.h.
#pragma once

#include <vector>

#include "core/array.h"
#include "cpu/kernels.h"

namespace fastconv {

using Arrays = std::vector<Array>;

// State lists have one array for each parameter, or are empty where the rule does not use them.
void sgd_step(Arrays params, const Arrays& grads, Arrays momenta, const cpu::SgdRule& rule);
void rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg, Arrays momenta,
                  Arrays grad_avg, const cpu::RmspropRule& rule);
void adam_step(Arrays params, const Arrays& grads, Arrays exp_avg, Arrays exp_avg_sq,
               Arrays max_exp_avg_sq, const cpu::AdamRule& rule);
void adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                  const cpu::AdagradRule& rule);

double grad_norm(const Arrays& grads);  // 2-norm over all elements, summed in double
void scale_all(Arrays arrays, float scale);

}  // namespace fastconv
