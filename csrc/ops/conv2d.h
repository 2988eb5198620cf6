// 2-D convolution (cross-correlation, as everywhere in the field) in its three passes, with what
// follows it.
//
//   y[n][k][oh][ow] = b[k] + sum_{c,r,s} w[k][c][r][s] * x[n][c][oh*stride - top + r*dilation][...]
#pragma once

#include <optional>
#include <tuple>

#include "contract/operations.h"

namespace fastconv {

// Sizes from shapes, checked.
Conv2dShape conv2d_shape(const Shape& x, const Shape& w, const Geometry& geometry);
// The same of arrays; element types and b, which may be undefined, are checked too.
Conv2dShape conv2d_shape(const Array& x, const Array& w, const Array& b, const Geometry& geometry);

// (y, argmax, x): y = post(conv2d(x, w) + b), where post.pool is made from `pool`. b may be
// undefined. argmax: of the maxima, where there is pooling and use.gradient. The last one is x as
// conv2d_backward_weight wants it.
std::tuple<Array, Array, Array> conv2d(const Array& x, const Array& w, const Array& b,
                                       const Geometry& geometry, PostOps post,
                                       const std::optional<PoolParams>& pool, Use use);

// dx. b (IC,) may be undefined; it is added to each channel: with it, this is the transposed
// convolution of dy, and `use` says how dy is used.
Array conv2d_backward_input(const Array& dy, const Array& w, const Shape& x, const Array& b,
                            const Geometry& geometry, Use use = {});
Array conv2d_backward_weight(const Array& dy, const Array& x, const Shape& w,
                             const Geometry& geometry);

// (dx, dw, db) through activation and pooling, undefined where not wanted. y and argmax: the
// results of the forward pass, y where there is an activation, argmax where there is pooling. x may
// be undefined unless dw is wanted.
std::tuple<Array, Array, Array> conv2d_backward(Array dy, const Array& y, const Array& argmax,
                                                const Array& x, const Shape& x_shape,
                                                const Array& w, const Geometry& geometry,
                                                Activation activation,
                                                const std::optional<PoolParams>& pool,
                                                const Wanted& wanted);

}  // namespace fastconv
