// One pool for the process. Tasks are cut by the caller from the shape alone, never from the number
// of threads, so every result has the same bits for any thread count.
#pragma once

#include <cstdint>

#include "core/function_ref.h"

namespace fastconv {

constexpr int kMaxThreads = 1024;

int get_num_threads();
void set_num_threads(int n);  // std::invalid_argument unless 1 <= n <= kMaxThreads

// Runs body(task) for task in [0, tasks), each exactly once, on the pool and the calling thread,
// and returns when all are done. The first exception thrown by a task is rethrown here, and tasks
// not yet begun are dropped. Runs everything in the caller when there is one task or one thread, or
// when the pool is busy with another caller (also when called from inside a task). Denormals are
// flushed to zero while tasks run, and the caller's floating-point mode is restored afterwards.
// Safe after fork(): the child gets a new pool. Where the system refuses threads, those that there
// are, at least the caller, do all tasks.
void parallel_for(int64_t tasks, FunctionRef<void(int64_t task)> body);

// Into how many tasks work is worth cutting at least, when cutting finer costs something: one
// inside a task, where all runs in one thread. It does not depend on the number of threads.
int64_t tasks_wanted();

// Cuts [0, n) into ranges of `grain` (rounded up to a multiple of 16 elements) and runs
// body(begin, end) for each; one range runs in the caller at no cost.
void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> body);

}  // namespace fastconv
