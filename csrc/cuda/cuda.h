// The CUDA backend as the rest of fastconv sees it: no CUDA headers here. Built with FASTCONV_CUDA
// off, no_cuda.cpp gives the same symbols.
#pragma once

#include <string>
#include <vector>

namespace fastconv::cuda {

// "13.0": the toolkit this build was made with; empty when it was made without CUDA.
std::string build_version();

// One description a device, such as "NVIDIA H200, compute capability 9.0, 139.7 GiB"; empty where
// there is no device or no driver.
std::vector<std::string> devices();

inline int device_count() { return static_cast<int>(devices().size()); }

}  // namespace fastconv::cuda
