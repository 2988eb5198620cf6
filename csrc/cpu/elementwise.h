// Elementwise functions, dropout and sum (contract/operations.h). The result has the layout of the
// first operand, and a second one in another layout is converted.
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

Array unary(Unary f, const Array& x, float p, float q);
Array binary(Binary f, Array a, const Array& b, float p);
void add_into(Array& a, const Array& b);
void assign(Array& a, const Array& b);
Array dropout(const Array& x, float p, float scale, Seed seed);
Array scale_by(const Array& x, const Array& factor);
Array sum(const Array& x);  // empty lanes do not count
void count_up(Array& x);

// Sets the empty lanes of an array in lanes to 0: after functions that may make infinities and NaN
// there (1 / 0, log 0), which later sums over whole vectors would pick up.
void clear_empty_lanes(Array& x);

}  // namespace fastconv::cpu
