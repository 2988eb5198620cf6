// The kernels of one instruction set, as kernels/table.cpp collects them. kernels.h says what each
// one does.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {

// layout.cpp
void to_lanes(float* y, const float* x, int64_t features, int64_t stride, int samples);
void to_plain(float* x, const float* y, int64_t features, int64_t stride, int samples);
void bytes_to_lanes(float* y, const uint8_t* const* x, int64_t features, int samples, float scale,
                    float shift);
void floats_to_lanes(float* y, const float* const* x, int64_t features, int samples, float scale,
                     float shift);

// tile.cpp, dot.cpp
void tile_sweep(const TileSweep& sweep);
void dot_sweep(const DotSweep& sweep);

// peak.cpp
double fma_loop(int64_t rounds);

}  // namespace fastconv::cpu::FASTCONV_ISA
