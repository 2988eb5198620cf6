#include "cpu/runtime/cpu_count.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "core/errors.h"
#include "cpu/runtime/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace fastconv {
namespace {

#if defined(__linux__)

int affinity_cpus() {
  // 1024 CPUs is the usual size of a mask; larger machines need a longer one.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    cpu_set_t* mask = CPU_ALLOC(cpus);
    if (mask == nullptr) return 0;
    const bool got = sched_getaffinity(0, bytes, mask) == 0;
    const bool too_short = !got && errno == EINVAL;
    const int count = got ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (!too_short) return count;
  }
  return 0;
}

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// CPUs that `folder` of the cgroup file system allows.
double quota_of(const std::string& folder) {
  // v2: "max 100000" or "50000 100000"; reading "max" as a number fails, which means no quota.
  double quota = 0, period = 0;
  if (std::ifstream(folder + "/cpu.max") >> quota >> period && quota > 0 && period > 0)
    return quota / period;
  // v1: a quota of -1 means none.
  if (std::ifstream(folder + "/cpu.cfs_quota_us") >> quota &&
      std::ifstream(folder + "/cpu.cfs_period_us") >> period && quota > 0 && period > 0)
    return quota / period;
  return kNoQuota;
}

// The smallest quota of this process's cgroup and its ancestors.
double cgroup_cpus() {
  double cpus = kNoQuota;
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {  // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::vector<std::string> roots;
    if (controllers.empty())
      roots = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    else if (("," + controllers + ",").find(",cpu,") != std::string::npos)
      roots = {"/sys/fs/cgroup/" + controllers, "/sys/fs/cgroup/cpu"};
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    // In a container the path may be the host's. A folder that does not exist here has no quota,
    // and the loop ends at the root, which is the container's own group.
    for (;;) {
      for (const std::string& root : roots) cpus = std::min(cpus, quota_of(root + path));
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return cpus;
}

#endif

}  // namespace

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  if (const int allowed = affinity_cpus(); allowed > 0) cpus = allowed;
  if (const double quota = cgroup_cpus(); quota < cpus) cpus = static_cast<int>(quota);
#endif
  return std::clamp(cpus, 1, kMaxThreads);
}

int default_num_threads() {
  const char* text = std::getenv("FASTCONV_NUM_THREADS");
  if (text == nullptr || *text == '\0') return available_cpus();
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(text, &end, 10);
  if (*end != '\0' || errno != 0 || n < 1 || n > kMaxThreads)
    throw std::invalid_argument(message("[threads] FASTCONV_NUM_THREADS is \"", text,
                                        "\", expected a whole number from 1 to ", kMaxThreads,
                                        ": correct it or unset it"));
  return static_cast<int>(n);
}

}  // namespace fastconv
