// One thread pool for the process. Callers split work into tasks by shape alone, never by the
// number of threads, so every result has the same bits for any thread count.
#pragma once

#include <cstdint>

#include "core/function_ref.h"

namespace fastconv {

constexpr int kMaxThreads = 1024;

int get_num_threads();
void set_num_threads(int n);  // std::invalid_argument unless 1 <= n <= kMaxThreads

// Runs body(task) for each task in [0, tasks), on the pool and the calling thread, and returns when
// all are done.
//
//   * If a task throws, tasks not yet begun are dropped and the first exception is rethrown here.
//   * Everything runs in the caller when there is one task or one thread, when another caller uses
//     the pool, or inside a task.
//   * Denormals are flushed to zero while tasks run; the caller's floating-point mode is restored.
//   * After fork() the child gets a new pool. If the system refuses threads, the existing ones, at
//     least the caller, do all tasks.
void parallel_for(int64_t tasks, FunctionRef<void(int64_t task)> body);

// Into how many tasks an operation divides its work at least where dividing it finer costs
// something, whatever the number of threads. What runs inside a task has 1 in its place.
constexpr int64_t kMinTasks = 8;

// Runs body(begin, end) for [0, n) in ranges of `grain` elements, rounded up to a multiple of 16. A
// single range runs in the caller at no cost.
void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> body);

}  // namespace fastconv
