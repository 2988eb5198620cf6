// Optimisers. The elements of all parameters, end to end, are divided into tasks of about the same
// size, so that a step is one pass over memory whatever the sizes of the arrays.
#include "cpu/optim.h"

#include <cmath>
#include <functional>
#include <initializer_list>
#include <utility>

#include "core/versions.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

// Elements begin .. end - 1 of one array of a list.
struct ArrayRange {
  size_t array;
  int64_t begin, end;

  int64_t size() const { return end - begin; }
  // Where it begins in a list of arrays of the same shapes; null when the list is empty.
  float* of(Arrays& list) const { return list.empty() ? nullptr : list[array].data() + begin; }
  const float* of(const Arrays& list) const { return list[array].data() + begin; }
};

// All elements of a list of arrays as ranges of at most kGrain, and those as tasks of about kGrain.
struct Tasks {
  std::vector<ArrayRange> ranges;
  std::vector<size_t> first{0};  // the first range of each task, and the end

  explicit Tasks(const Arrays& arrays) {
    int64_t elements = 0;  // of the last task
    for (size_t i = 0; i < arrays.size(); ++i)
      for (int64_t begin = 0; begin < arrays[i].stored(); begin += kGrain) {
        const int64_t end = std::min(arrays[i].stored(), begin + kGrain);
        if (elements > 0 && elements + end - begin > kGrain) {
          first.push_back(ranges.size());
          elements = 0;
        }
        elements += end - begin;
        ranges.push_back({i, begin, end});
      }
    first.push_back(ranges.size());
  }
  size_t count() const { return first.size() - 1; }
  // body(range, its number) for the ranges of one task.
  template <class Body>
  void run(size_t task, const Body& body) const {
    for (size_t i = first[task]; i < first[task + 1]; ++i) body(ranges[i], i);
  }
  template <class Body>
  void run_all(const Body& body) const {
    parallel_for(static_cast<int64_t>(count()),
                 [&](int64_t task) { run(static_cast<size_t>(task), body); });
  }
};

struct Step final : OptimStep {
  Tasks tasks;
  std::vector<Version*> changed;  // of what `update` writes into
  std::function<void(const ArrayRange&)> update;

  // written: what update writes into, the parameters first.
  explicit Step(std::initializer_list<const Arrays*> written)
      : OptimStep(Device{}), tasks(**written.begin()) {
    for (const Arrays* list : written)
      for (const Array& x : *list) changed.push_back(x.version());
  }
};

const Step& own(const OptimStep* step) { return static_cast<const Step&>(*step); }

}  // namespace

std::unique_ptr<OptimStep> sgd_step(Arrays params, const Arrays& grads, Arrays momenta,
                                    const SgdRule& rule) {
  auto step = std::make_unique<Step>(std::initializer_list<const Arrays*>{&params, &momenta});
  step->update = [params = std::move(params), grads, momenta = std::move(momenta), rule,
                  &kernels = kernels()](const ArrayRange& r) mutable {
    kernels.sgd(r.of(params), r.of(grads), r.of(momenta), r.size(), rule);
  };
  return step;
}

std::unique_ptr<OptimStep> rmsprop_step(Arrays params, const Arrays& grads, Arrays square_avg,
                                        Arrays momenta, Arrays grad_avg, const RmspropRule& rule) {
  auto step = std::make_unique<Step>(
      std::initializer_list<const Arrays*>{&params, &square_avg, &momenta, &grad_avg});
  step->update = [params = std::move(params), grads, square_avg = std::move(square_avg),
                  momenta = std::move(momenta), grad_avg = std::move(grad_avg), rule,
                  &kernels = kernels()](const ArrayRange& r) mutable {
    kernels.rmsprop(r.of(params), r.of(grads), r.of(square_avg), r.of(grad_avg), r.of(momenta),
                    r.size(), rule);
  };
  return step;
}

std::unique_ptr<OptimStep> adam_step(Arrays params, const Arrays& grads, Arrays exp_avg,
                                     Arrays exp_avg_sq, Arrays max_exp_avg_sq,
                                     const AdamRule& rule) {
  auto step = std::make_unique<Step>(
      std::initializer_list<const Arrays*>{&params, &exp_avg, &exp_avg_sq, &max_exp_avg_sq});
  step->update = [params = std::move(params), grads, exp_avg = std::move(exp_avg),
                  exp_avg_sq = std::move(exp_avg_sq), max_exp_avg_sq = std::move(max_exp_avg_sq),
                  rule, &kernels = kernels()](const ArrayRange& r) mutable {
    kernels.adam(r.of(params), r.of(grads), r.of(exp_avg), r.of(exp_avg_sq), r.of(max_exp_avg_sq),
                 r.size(), rule);
  };
  return step;
}

std::unique_ptr<OptimStep> adagrad_step(Arrays params, const Arrays& grads, Arrays state_sum,
                                        const AdagradRule& rule) {
  auto step = std::make_unique<Step>(std::initializer_list<const Arrays*>{&params, &state_sum});
  step->update = [params = std::move(params), grads, state_sum = std::move(state_sum), rule,
                  &kernels = kernels()](const ArrayRange& r) mutable {
    kernels.adagrad(r.of(params), r.of(grads), r.of(state_sum), r.size(), rule);
  };
  return step;
}

void take_steps(const std::vector<const OptimStep*>& steps) {
  size_t tasks = 0;
  for (const OptimStep* step : steps) tasks += own(step).tasks.count();
  parallel_for(static_cast<int64_t>(tasks), [&](int64_t number) {
    auto task = static_cast<size_t>(number);
    auto step = steps.begin();
    for (; task >= own(*step).tasks.count(); ++step) task -= own(*step).tasks.count();
    own(*step).tasks.run(task, [&](const ArrayRange& r, size_t) { own(*step).update(r); });
  });
  for (const OptimStep* step : steps)
    for (Version* version : own(step).changed) version->raise();
}

double grad_norm(const Arrays& grads) {
  const Tasks tasks(grads);
  std::vector<double> squares(tasks.ranges.size());
  tasks.run_all([&](const ArrayRange& r, size_t i) {
    squares[i] = kernels().sum_squares(r.of(grads), r.size(), static_cast<int>(kLanes));
  });
  double total = 0.0;
  if (!squares.empty())
    join_chunks(&total, squares.data(), static_cast<int64_t>(squares.size()), 1, 1);
  return std::sqrt(total);
}

void scale_all(Arrays arrays, float scale) {
  Tasks(arrays).run_all([&](const ArrayRange& r, size_t) {
    float* x = r.of(arrays);
    kernels().unary(Unary::scale_shift, x, x, r.size(), scale, 0.0f, false);
  });
  for (const Array& x : arrays) x.written();
}

}  // namespace fastconv::cpu
