// How many threads this process may use.
#pragma once

namespace fastconv {

// CPUs that may run at the same time: min(affinity mask, cgroup quota rounded down), at least 1.
int available_cpus();

// FASTCONV_NUM_THREADS if set (std::invalid_argument when it is not 1 .. kMaxThreads), else
// available_cpus(). Reads the environment at each call.
int default_num_threads();

}  // namespace fastconv
