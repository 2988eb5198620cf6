// Elementwise functions, dropout and sum. The result has the layout of the (first) operand; a
// second operand in another layout is converted. What each function is stands in cpu/kernels.h.
#pragma once

#include "core/array.h"
#include "cpu/kernels.h"

namespace fastconv {

// op: the name for error messages.
Array unary(const char* op, Unary f, const Array& x, float p = 0.0f, float q = 0.0f);
// In the storage of a where that is given away.
Array binary(const char* op, Binary f, Array a, const Array& b, float p = 0.0f);
Array divide(const Array& x, float divisor);
void add_into(Array& a, const Array& b);  // a += b
void assign(Array& a, const Array& b);    // the values of b into the storage of a

// x / (1 - p) with probability 1 - p, else 0. The choice depends on the seed and on the place of
// the element in row-major order (modulo 2^32) alone: not on layout, threads or instruction set.
// With the gradient for x it is its own backward pass.
Array dropout(const Array& x, double p, uint64_t seed);

Array sum(const Array& x);  // shape (); empty lanes do not count

void count_up(Array& x);  // adds 1 to an int64 counter, shape ()

// Sets the empty lanes of an array in lanes to 0: after functions that may make infinities and NaN
// there (1 / 0, log 0), which later sums over whole vectors would pick up.
void clear_empty_lanes(Array& x);

}  // namespace fastconv
