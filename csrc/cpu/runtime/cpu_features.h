// The instruction sets that this CPU has and the operating system supports.
#pragma once

namespace fastconv::cpu {

struct CpuFeatures {
  bool avx2;    // AVX2 and FMA, and the OS saves the upper halves of the ymm registers
  bool avx512;  // also AVX-512 F, BW, DQ, VL, and the OS saves the mask and zmm registers
};

CpuFeatures cpu_features();  // both false where there is no x86-64

}  // namespace fastconv::cpu
