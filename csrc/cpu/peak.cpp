#include "cpu/peak.h"

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "core/errors.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv {

double fma_peak(double seconds) {
  if (!(seconds > 0.0 && seconds <= 60.0))
    throw std::invalid_argument(
        message("[fma_peak] seconds must be above 0 and at most 60, got ", seconds));
  using Clock = std::chrono::steady_clock;
  const auto kernel = cpu::kernels().fma_loop;
  const auto start = Clock::now();
  const auto end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::atomic<int64_t> flops{0};
  parallel_for(get_num_threads(), [&](int64_t) {
    double done = 0.0;
    while (Clock::now() < end) done += kernel(10'000);
    flops += static_cast<int64_t>(done);
  });
  return static_cast<double>(flops) / std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace fastconv
