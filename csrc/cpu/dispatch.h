// Which instruction set runs. Chosen once, at first use: the best one that this build has, this CPU
// has and the operating system has switched on, or the one FASTCONV_ISA names.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace fastconv::cpu {

const Kernels& kernels();  // the chosen table; throws if FASTCONV_ISA cannot be met
std::string isa();         // "scalar", "avx2" or "avx512"
std::vector<std::string> available_isas();  // built, supported by CPU and OS; worst first
void set_isa(const std::string& name);      // std::invalid_argument listing the choices

}  // namespace fastconv::cpu
