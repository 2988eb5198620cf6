// A convolution with activation and max pooling as post-ops, block by block: where what lies
// between them fits the cache, a block of sixteen samples goes through all of it, and back, before
// the next. The largest arrays of a small network are then never written to memory.
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

// Whether a task's part of the convolution's output stays in L2 (or nearly) where the whole does
// not, and there are blocks enough for the threads. From the shape alone: the order of the sums by
// weight depends on it.
bool by_blocks_pays(const Conv2dShape& s);

// y and, where it is defined, argmax are overwritten. x in lanes, w plain; b may be undefined.
void forward_by_blocks(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, const PoolShape& pool, bool relu);

// The gradients that are wanted, of dx, dw and db: dx (in lanes), dw and db (plain) are
// overwritten. dy, argmax, x and y, the result where there is ReLU, are in lanes, w is plain.
void backward_by_blocks(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                        const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                        const PostOps& post, const Wanted& wanted);

}  // namespace fastconv::cpu
