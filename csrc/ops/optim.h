// One step of an optimiser over all parameters at once: their elements, end to end, are cut into
// equal tasks, so that a step is one pass over memory. All arrays are plain float32 and updated in
// place; the rules stand in cpu/kernels.h.
//
// A step is planned first and taken afterwards: whatever can fail fails before a number changes,
// also where parameters of several groups, with rules of their own, step together.
#pragma once

#include <functional>
#include <vector>

#include "core/array.h"
#include "cpu/kernels.h"

namespace fastconv {

using Arrays = std::vector<Array>;

// Elements begin .. end - 1 of one array of a list.
struct ArrayRange {
  size_t array;
  int64_t begin, end;
};

// A step of one group of parameters, checked and divided into tasks. It holds its arrays.
struct OptimStep {
  std::vector<ArrayRange> ranges;
  std::vector<size_t> tasks;      // the first range of each task, and the end
  std::vector<Version*> changed;  // of what `update` writes into
  std::function<void(const ArrayRange&)> update;
};

// State lists have one array for each parameter, or are empty where the rule does not use them.
OptimStep sgd_step(Arrays params, const Arrays& grads, Arrays momenta, const cpu::SgdRule& rule);
OptimStep rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg, Arrays momenta,
                       Arrays grad_avg, const cpu::RmspropRule& rule);
OptimStep adam_step(Arrays params, const Arrays& grads, Arrays exp_avg, Arrays exp_avg_sq,
                    Arrays max_exp_avg_sq, const cpu::AdamRule& rule);
OptimStep adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                       const cpu::AdagradRule& rule);
void take_steps(const std::vector<const OptimStep*>& steps);

double grad_norm(const Arrays& grads);  // 2-norm over all elements, summed in double
void scale_all(Arrays arrays, float scale);

}  // namespace fastconv
