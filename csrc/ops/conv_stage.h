// A stage of a network: a convolution with the ReLU and the max pooling behind it, as one
// operation. Where what lies between them fits the cache, a block of sixteen samples goes through
// the whole stage, and back, before the next: the largest arrays of a small network are then never
// written to memory.
#pragma once

#include <optional>
#include <tuple>

#include "contract/operations.h"
#include "ops/conv2d.h"
#include "ops/pool.h"

namespace fastconv {

struct ConvStage {
  Geometry conv;
  bool relu = false;
  std::optional<PoolParams> pool;
};

// y, and the positions of the maxima (undefined without pooling or unless `placed`). x as for
// conv2d_forward.
std::pair<Array, Array> conv_stage_forward(const Array& x, const Array& w, const Array& b,
                                           const ConvStage& stage, bool placed = true);

// Whether the way back is one operation too, block by block. Otherwise its parts are operations of
// their own, so that what one of them used last is gone before the next one makes its result.
bool conv_stage_by_blocks(const Shape& x, const Shape& w, const ConvStage& stage);

// The first part: the gradient of the convolution's output (in lanes, or plain for fewer than 16
// samples that came plain), in the storage of dy where that is given away and there is no pooling.
// y: the result of a stage with ReLU.
Array conv_stage_conv_dy(Array dy, const Array& y, const Array& argmax, const Shape& x,
                         const Shape& w, const ConvStage& stage);

// All of it, by blocks: dx (in lanes), dw and db (plain), undefined where not wanted. y as above;
// x may be undefined when dw is not wanted.
std::tuple<Array, Array, Array> conv_stage_backward(const Array& dy, const Array& y,
                                                    const Array& argmax, const Array& x,
                                                    const Shape& x_shape, const Array& w,
                                                    const ConvStage& stage, const Wanted& wanted);

}  // namespace fastconv
