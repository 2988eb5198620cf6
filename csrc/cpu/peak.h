// The machine's peak, for benchmarks to take shares of.
#pragma once

namespace fastconv {

// FLOP/s of a loop of fused multiply-adds on every thread of the pool, on the active instruction
// set, for about `seconds`.
double fma_peak(double seconds);

}  // namespace fastconv
