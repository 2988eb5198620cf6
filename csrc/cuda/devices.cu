// Which CUDA devices there are. A machine without a driver or a device has none: that is an answer,
// not an error.
#include <cuda_runtime.h>

#include <cstdio>

#include "cuda/cuda.h"

namespace fastconv::cuda {

std::string build_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

std::vector<std::string> devices() {
  std::vector<std::string> found;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // the runtime remembers the error until it is asked for
    return found;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    char text[400];
    std::snprintf(text, sizeof text, "%s, compute capability %d.%d, %.1f GiB", p.name, p.major,
                  p.minor, static_cast<double>(p.totalGlobalMem) / (1 << 30));
    found.emplace_back(text);
  }
  return found;
}

}  // namespace fastconv::cuda
