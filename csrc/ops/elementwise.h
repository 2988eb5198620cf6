// Functions of each element, dropout, and the sum of all. What each function is stands in
// contract/functions.h.
#pragma once

#include "contract/operations.h"

namespace fastconv {

// op: the name for error messages and recordings.
Array unary(const char* op, Unary f, const Array& x, float p = 0.0f, float q = 0.0f);
// In the storage of a where that is given away.
Array binary(const char* op, Binary f, Array a, const Array& b, float p = 0.0f);
void add_into(Array& a, const Array& b);  // a += b
void assign(Array& a, const Array& b);    // the values of b into the storage of a

// x / (1 - p) with probability 1 - p, else 0. The choice depends on the seed and on the place of
// the element in row-major order (modulo 2^32) alone: not on layout, threads or device. With the
// gradient for x it is its own backward pass.
Array dropout(const Array& x, double p, Seed seed);

Array scale_by(const Array& x, const Array& factor);  // x * factor, which is one element
Array sum(const Array& x);                            // shape ()

void count_up(Array& x);  // adds 1 to an int64 counter, shape ()

}  // namespace fastconv
