// The symbols of cuda.h in a build without CUDA.
#include "cuda/cuda.h"

namespace fastconv::cuda {

std::string build_version() { return {}; }

std::vector<std::string> devices() { return {}; }

}  // namespace fastconv::cuda
