// One step of an optimiser over all parameters at once: their elements, end to end, are cut into
// equal tasks, so that a step is one pass over memory. All arrays are plain float32 and updated in
// place; the rules stand in cpu/kernels.h.
//
// A step is planned first and taken afterwards: whatever can fail fails before a number changes,
// also where parameters of several groups, with rules of their own, step together.
#pragma once

#include <functional>
#include <vector>

#include "contract/operations.h"
#include "core/array.h"

namespace fastconv {

// Elements begin .. end - 1 of one array of a list.
struct ArrayRange {
  size_t array;
  int64_t begin, end;
};

// A step of one group of parameters, checked and divided into tasks. It holds its arrays.
struct PlannedStep {
  std::vector<ArrayRange> ranges;
  std::vector<size_t> tasks;      // the first range of each task, and the end
  std::vector<Version*> changed;  // of what `update` writes into
  std::function<void(const ArrayRange&)> update;
};

// State lists have one array for each parameter, or are empty where the rule does not use them.
PlannedStep sgd_step(Arrays params, const Arrays& grads, Arrays momenta, const SgdRule& rule);
PlannedStep rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg, Arrays momenta,
                         Arrays grad_avg, const RmspropRule& rule);
PlannedStep adam_step(Arrays params, const Arrays& grads, Arrays exp_avg, Arrays exp_avg_sq,
                      Arrays max_exp_avg_sq, const AdamRule& rule);
PlannedStep adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                         const AdagradRule& rule);
void take_steps(const std::vector<const PlannedStep*>& steps);

double grad_norm(const Arrays& grads);  // 2-norm over all elements, summed in double
void scale_all(Arrays arrays, float scale);

}  // namespace fastconv
