#include "ops/optim.h"

#include <cmath>
#include <initializer_list>
#include <utility>

#include "core/versions.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"
#include "ops/check.h"

namespace fastconv {
namespace {

void check_plain(const char* op, const char* what, size_t i, const Array& x) {
  check_float32(op, what, x);
  if (x.in_lanes())
    throw std::invalid_argument(message("[", op, "] ", what, "[", i, "] must be plain, got lanes"));
}

// One array of `list` for each parameter, of its shape; or none at all where that is allowed.
void check_list(const char* op, const char* what, const Arrays& list, const Arrays& params,
                bool optional) {
  if (optional && list.empty()) return;
  if (list.size() != params.size())
    throw std::invalid_argument(message("[", op, "] ", params.size(), " params but ", list.size(),
                                        " ", what, ": there must be one for each"));
  for (size_t i = 0; i < list.size(); ++i) {
    check_plain(op, what, i, list[i]);
    if (list[i].shape() != params[i].shape())
      throw ShapeError(message("[", op, "] ", what, "[", i, "] has shape ", list[i].shape(),
                               ", its parameter ", params[i].shape()));
  }
}

void check_lists(const char* op, const Arrays& params, const Arrays& grads) {
  for (size_t i = 0; i < params.size(); ++i) check_plain(op, "params", i, params[i]);
  check_list(op, "grads", grads, params, false);
}

// Ranges that together cover all arrays, each at most kGrain elements.
std::vector<ArrayRange> ranges_of(const Arrays& arrays) {
  std::vector<ArrayRange> ranges;
  for (size_t i = 0; i < arrays.size(); ++i)
    for (int64_t begin = 0; begin < arrays[i].stored(); begin += kGrain)
      ranges.push_back({i, begin, std::min(arrays[i].stored(), begin + kGrain)});
  return ranges;
}

// The first range of each task, and the end; a task is a run of ranges of about kGrain elements.
std::vector<size_t> tasks_of(const std::vector<ArrayRange>& ranges) {
  std::vector<size_t> tasks{0};
  int64_t elements = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int64_t n = ranges[i].end - ranges[i].begin;
    if (elements > 0 && elements + n > kGrain) {
      tasks.push_back(i);
      elements = 0;
    }
    elements += n;
  }
  tasks.push_back(ranges.size());
  return tasks;
}

// body(range, its number) for all of them.
template <class Body>
void for_all(const std::vector<ArrayRange>& ranges, const Body& body) {
  const std::vector<size_t> tasks = tasks_of(ranges);
  parallel_for(static_cast<int64_t>(tasks.size()) - 1, [&](int64_t task) {
    const auto t = static_cast<size_t>(task);
    for (size_t i = tasks[t]; i < tasks[t + 1]; ++i) body(ranges[i], i);
  });
}

// A step but for its update. changed: what that writes into, the parameters first.
PlannedStep planned(std::initializer_list<const Arrays*> changed) {
  PlannedStep step;
  for (const Arrays* list : changed)
    for (const Array& x : *list) step.changed.push_back(x.version());
  step.ranges = ranges_of(**changed.begin());
  step.tasks = tasks_of(step.ranges);
  return step;
}

// Where range r of the array for parameter r.array begins; null in an empty list.
float* at(Arrays& list, const ArrayRange& r) {
  return list.empty() ? nullptr : list[r.array].data() + r.begin;
}
const float* at(const Arrays& list, const ArrayRange& r) { return list[r.array].data() + r.begin; }

}  // namespace

PlannedStep sgd_step(Arrays params, const Arrays& grads, Arrays momenta, const SgdRule& rule) {
  check_lists("sgd_step", params, grads);
  check_list("sgd_step", "momenta", momenta, params, rule.momentum == 0.0f);
  PlannedStep step = planned({&params, &momenta});
  step.update = [params = std::move(params), grads, momenta = std::move(momenta), rule,
                 &kernels = cpu::kernels()](const ArrayRange& r) mutable {
    kernels.sgd(at(params, r), at(grads, r), at(momenta, r), r.end - r.begin, rule);
  };
  return step;
}

PlannedStep rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg, Arrays momenta,
                         Arrays grad_avg, const RmspropRule& rule) {
  check_lists("rmsprop_step", params, grads);
  check_list("rmsprop_step", "square_avg", square_avg, params, false);
  check_list("rmsprop_step", "momenta", momenta, params, rule.momentum == 0.0f);
  check_list("rmsprop_step", "grad_avg", grad_avg, params, true);
  PlannedStep step = planned({&params, &square_avg, &momenta, &grad_avg});
  step.update = [params = std::move(params), grads, square_avg = std::move(square_avg),
                 momenta = std::move(momenta), grad_avg = std::move(grad_avg), rule,
                 &kernels = cpu::kernels()](const ArrayRange& r) mutable {
    kernels.rmsprop(at(params, r), at(grads, r), at(square_avg, r), at(grad_avg, r), at(momenta, r),
                    r.end - r.begin, rule);
  };
  return step;
}

PlannedStep adam_step(Arrays params, const Arrays& grads, Arrays exp_avg, Arrays exp_avg_sq,
                      Arrays max_exp_avg_sq, const AdamRule& rule) {
  check_lists("adam_step", params, grads);
  check_list("adam_step", "exp_avg", exp_avg, params, false);
  check_list("adam_step", "exp_avg_sq", exp_avg_sq, params, false);
  check_list("adam_step", "max_exp_avg_sq", max_exp_avg_sq, params, true);
  PlannedStep step = planned({&params, &exp_avg, &exp_avg_sq, &max_exp_avg_sq});
  step.update = [params = std::move(params), grads, exp_avg = std::move(exp_avg),
                 exp_avg_sq = std::move(exp_avg_sq), max_exp_avg_sq = std::move(max_exp_avg_sq),
                 rule, &kernels = cpu::kernels()](const ArrayRange& r) mutable {
    kernels.adam(at(params, r), at(grads, r), at(exp_avg, r), at(exp_avg_sq, r),
                 at(max_exp_avg_sq, r), r.end - r.begin, rule);
  };
  return step;
}

PlannedStep adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                         const AdagradRule& rule) {
  check_lists("adagrad_step", params, grads);
  check_list("adagrad_step", "state_sum", state_sum, params, false);
  PlannedStep step = planned({&params, &state_sum});
  step.update = [params = std::move(params), grads, state_sum = std::move(state_sum), rule,
                 &kernels = cpu::kernels()](const ArrayRange& r) mutable {
    kernels.adagrad(at(params, r), at(grads, r), at(state_sum, r), r.end - r.begin, rule);
  };
  return step;
}

void take_steps(const std::vector<const PlannedStep*>& steps) {
  int64_t tasks = 0;
  for (const PlannedStep* step : steps) {
    if (step == nullptr) throw std::invalid_argument("[take_steps] one of the steps is None");
    tasks += static_cast<int64_t>(step->tasks.size()) - 1;
  }
  parallel_for(tasks, [&](int64_t task) {
    auto t = static_cast<size_t>(task);
    const PlannedStep* const* step = steps.data();
    for (; t >= (*step)->tasks.size() - 1; ++step) t -= (*step)->tasks.size() - 1;
    for (size_t i = (*step)->tasks[t]; i < (*step)->tasks[t + 1]; ++i)
      (*step)->update((*step)->ranges[i]);
  });
  for (const PlannedStep* step : steps)
    for (Version* version : step->changed) version->raise();
}

double grad_norm(const Arrays& grads) {
  for (size_t i = 0; i < grads.size(); ++i) check_plain("grad_norm", "grads", i, grads[i]);
  const std::vector<ArrayRange> ranges = ranges_of(grads);
  std::vector<double> squares(ranges.size());
  const cpu::Kernels& kernels = cpu::kernels();
  for_all(ranges, [&](const ArrayRange& r, size_t i) {
    squares[i] = kernels.sum_squares(at(grads, r), r.end - r.begin, static_cast<int>(kLanes));
  });
  double total = 0.0;
  for (const double s : squares) total += s;
  return std::sqrt(total);
}

void scale_all(Arrays arrays, float scale) {
  for (size_t i = 0; i < arrays.size(); ++i) check_plain("scale_all", "arrays", i, arrays[i]);
  const cpu::Kernels& kernels = cpu::kernels();
  for_all(ranges_of(arrays), [&](const ArrayRange& r, size_t) {
    float* x = at(arrays, r);
    kernels.unary(Unary::scale_shift, x, x, r.end - r.begin, scale, 0.0f, false);
  });
  for (const Array& x : arrays) x.written();
}

}  // namespace fastconv
