// Collects the kernels of one instruction set: a line for each entry of kernels.h, in its order.
#include "cpu/kernels/functions.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr Kernels make_table() {
  Kernels t{};
#if defined(FASTCONV_ISA_AVX512)
  t.name = "avx512";
  t.description = "AVX-512 F, BW, DQ, VL and FMA";
#elif defined(FASTCONV_ISA_AVX2)
  t.name = "avx2";
  t.description = "AVX2 and FMA";
#else
  t.name = "scalar";
  t.description = "any CPU";
#endif
  // layout.cpp
  t.to_lanes = to_lanes;
  t.to_plain = to_plain;
  t.bytes_to_lanes = bytes_to_lanes;
  t.floats_to_lanes = floats_to_lanes;
  // tile.cpp, dot.cpp
  t.tile_sweep = tile_sweep;
  t.dot_sweep = dot_sweep;
  // peak.cpp
  t.fma_loop = fma_loop;
  return t;
}

}  // namespace

extern const Kernels table;
const Kernels table = make_table();

}  // namespace fastconv::cpu::FASTCONV_ISA
