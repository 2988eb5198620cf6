// Threads, instruction sets, memory, devices: what the process runs on. The only file of bind/ that
// knows a device.
#include "bind/bind.h"
#include "cpu/conv/winograd/winograd.h"
#include "cpu/dispatch.h"
#include "cpu/layout.h"
#include "cpu/peak.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/cpu_count.h"
#include "cpu/runtime/split.h"
#include "cpu/runtime/thread_pool.h"
#include "cuda/cuda.h"

namespace fastconv::bind {
namespace {

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names{"scalar"};
#if defined(FASTCONV_HAS_AVX2)
  names.emplace_back("avx2");
#endif
#if defined(FASTCONV_HAS_AVX512)
  names.emplace_back("avx512");
#endif
  return names;
}

py::dict build_config() {
  py::dict config;
  config["version"] = FASTCONV_VERSION;
  config["compiler"] = FASTCONV_COMPILER;
  config["flags"] = FASTCONV_FLAGS;
  config["isas"] = join(built_isas());
  const std::string cuda = cuda::build_version();
  config["cuda"] = cuda.empty() ? "no" : cuda;
  return config;
}

py::dict memory_stats() {
  const ArenaStats stats = arena_stats();
  py::dict dict;
  dict["bytes_in_use"] = stats.bytes_in_use;
  dict["bytes_cached"] = stats.bytes_cached;
  dict["system_allocations"] = stats.system_allocations;
  return dict;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def("isa", &cpu::isa);
  m.def("available_isas", &cpu::available_isas);
  m.def("set_isa", &cpu::set_isa, py::arg("name"));
  m.def("get_num_threads", &get_num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("default_num_threads", &default_num_threads);
  m.def("build_config", &build_config);
  m.def("arena_stats", &memory_stats);
  m.def("streamed_floats", [] { return kStreamedFloats; });
  m.def("arena_release_cached", &arena_release_cached, ReleaseGil());
  m.def("cuda_available", [] { return cuda::device_count() > 0; }, ReleaseGil());
  m.def("cuda_devices", &cuda::devices, ReleaseGil());
  m.def("allow_winograd", &cpu::allow_winograd, py::arg("allowed"));
  m.def("winograd_allowed", &cpu::winograd_allowed);
  // For tests and benchmarks of layouts.
  m.def("layout", [](const Array& x) { return name_of(x.layout()); }, py::arg("x"));
  m.def("to_lanes", program::recorded("to_lanes", &cpu::to_lanes), py::arg("x"), ReleaseGil());
  m.def("fma_peak", &fma_peak, py::arg("seconds"), ReleaseGil());
}

}  // namespace fastconv::bind
