// How the sum over samples and pixels is divided among tasks, where the dot tile adds up lanes: a
// task has a slice of the items (tiles of samples and pixels), some groups and some of their output
// channels. The partial sums of the slices are made side by side and joined in order, so the result
// has the same bits for any number of threads.
#pragma once

#include <algorithm>

#include "contract/conv2d_shape.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {

class Slices {
 public:
  struct Task {
    float* dw;            // of its slice
    int64_t first, last;  // items
    int64_t group, end_of_groups;
    int64_t k, K;  // output channels of a group
  };

  Slices(const Conv2dShape& s, int64_t items)
      : items_(items), groups_(s.geometry.groups), K_(s.OC_per_group), weights_(s.w().numel()) {
    constexpr int64_t kTasks = 16, kPartialFloats = 1 << 20, kFewestChannels = 12;
    count_ = std::clamp<int64_t>(kPartialFloats / weights_, 1, std::min(items, kTasks));
    task_groups_ = ceil_div(groups_, std::min(groups_, ceil_div(kTasks, count_)));
    const int64_t tasks = count_ * group_tasks();
    task_K_ = ceil_div(
        K_, std::clamp<int64_t>(ceil_div(kTasks, tasks), 1, ceil_div(K_, kFewestChannels)));
  }

  // Calls body(task) for all tasks, which overwrite their part of task.dw; then dw is whole.
  template <class Body>
  void run(float* dw, const Body& body) const {
    Scratch<float> partial(count_ > 1 ? count_ * weights_ : 1);
    float* sums = count_ > 1 ? partial.data() : dw;
    const int64_t k_tasks = ceil_div(K_, task_K_);
    parallel_for(count_ * group_tasks() * k_tasks, [&](int64_t number) {
      const int64_t slice = number / (group_tasks() * k_tasks);
      const int64_t group = number / k_tasks % group_tasks() * task_groups_;
      const int64_t k = number % k_tasks * task_K_;
      body(Task{sums + slice * weights_, items_ * slice / count_, items_ * (slice + 1) / count_,
                group, std::min(group + task_groups_, groups_), k, std::min(task_K_, K_ - k)});
    });
    if (count_ > 1) join_chunks_in_parallel(dw, sums, count_, weights_);
  }

 private:
  int64_t group_tasks() const { return ceil_div(groups_, task_groups_); }

  int64_t items_, groups_, K_, weights_;
  int64_t count_, task_groups_, task_K_;
};

}  // namespace fastconv::cpu
