// The table's entries for convolutions, and which algorithm computes what: from the shape alone, so
// that results have the same bits on every run.
#pragma once

#include <tuple>

#include "contract/operations.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

// ---- entries of the table
std::tuple<Array, Array, Array> conv2d(const Array& x, const Array& w, const Array& b,
                                       const Conv2dShape& shape, const PostOps& post, Use use);
Array conv2d_backward_input(const Array& dy, const Array& w, const Array& b,
                            const Conv2dShape& shape, Use use);
Array conv2d_backward_weight(const Array& dy, const Array& x, const Conv2dShape& shape);
Array post_ops_backward(Array dy, const Array& y, const Array& argmax, const PostOps& post);
bool fuses_conv2d_backward(const Conv2dShape& shape, const PostOps& post);
std::tuple<Array, Array, Array> conv2d_backward(const Array& dy, const Array& y,
                                                const Array& argmax, const Array& x, const Array& w,
                                                const Conv2dShape& shape, const PostOps& post,
                                                const Wanted& wanted);

// ---- passes as parts of an operation: in the layout of the images, w plain. min_tasks: see
// cpu/runtime/thread_pool.h.
Array convolve(const Array& x, const Array& w, const Array& b, const Conv2dShape& shape,
               Activation activation, int64_t min_tasks);
Array convolve_backward_weight(const Array& dy, const Array& x, const Conv2dShape& shape,
                               int64_t min_tasks);
// Plain images. bias may be null. Pointers in post are to arrays of OC floats and of y's shape.
void convolve_small_batch(float* y, const float* x, const float* w, const float* bias,
                          const Conv2dShape& shape, const ChannelPostOps& post);

}  // namespace fastconv::cpu
