#include "ops/conv_stage.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/norm.h"

namespace fastconv {
namespace {

// Whether a block of the convolution's output stays in L2 (or nearly) where the whole does not, and
// there are blocks enough for the threads. From the shape alone: the order of the sums by weight
// depends on it.
bool by_blocks(const Conv2dShape& s) {
  constexpr int64_t kCache = 512 * 1024, kPartials = int64_t{1} << 21;  // floats
  constexpr int64_t kMinBlocks = 4;
  const int64_t blocks = ceil_div(s.N, kLanes), block_floats = s.OC * s.OH * s.OW * kLanes;
  return blocks >= kMinBlocks && block_floats <= kCache && blocks * block_floats > kCache &&
         blocks * s.w().numel() <= kPartials;
}

// The gradient of a convolution's output of shape conv_y.
Array through_stage(Array dy, const Array& y, const Array& argmax, const Shape& conv_y,
                    const ConvStage& stage) {
  if (stage.pool) return max_pool2d_backward(dy, argmax, y, conv_y, *stage.pool);
  return stage.relu ? binary("relu_backward", cpu::Binary::relu_backward, std::move(dy), y) : dy;
}

void check_samples(const Conv2dShape& s, std::initializer_list<const Array*> arrays) {
  for (const Array* a : arrays)
    if (a->defined() && (a->ndim() != 4 || a->dim(0) != s.N))
      throw ShapeError(message("[conv_stage_backward] expected ", s.N,
                               " samples (N, C, H, W), got ", a->shape(), ": input ", s.x()));
}

// The sum of `parts`, in their order.
Array sum_of(const std::vector<Array>& parts) {
  Array sum = parts[0];
  const int64_t n = sum.stored();
  parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
    float* to = sum.data();
    for (size_t part = 1; part < parts.size(); ++part) {
      const float* from = parts[part].data();
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
  return sum;
}

}  // namespace

std::pair<Array, Array> conv_stage_forward(const Array& x, const Array& w, const Array& b,
                                           const ConvStage& stage, bool placed) {
  if (!stage.pool) return {conv2d_forward(x, w, b, stage.conv, stage.relu), Array()};
  const Conv2dShape s = conv2d_shape(x.shape(), w.shape(), stage.conv);
  const Shape y_shape = pooled_shape("max_pool2d", s.y(), *stage.pool);
  // ReLU and the maximum commute; after pooling it has less to do.
  if (!x.in_lanes() || !by_blocks(s))
    return max_pool2d_forward(conv2d_forward(x, w, b, stage.conv, false), *stage.pool, stage.relu,
                              placed);

  Array y = Array::empty(y_shape, DType::float32, Layout::lanes);
  Array argmax;
  if (placed) argmax = Array::empty(y_shape, DType::uint16, Layout::lanes);
  const Array weight = to_plain(w);
  parallel_for(x.blocks(), [&](int64_t block) {
    const Array conv = conv2d_forward(x.block(block), weight, b, stage.conv, false);
    Array y_block = y.block(block), argmax_block = placed ? argmax.block(block) : argmax;
    max_pool2d_forward_into(y_block, argmax_block, conv, *stage.pool, stage.relu);
  });
  return {y, argmax};
}

bool conv_stage_by_blocks(const Shape& x, const Shape& w, const ConvStage& stage) {
  return (stage.relu || stage.pool) && by_blocks(conv2d_shape(x, w, stage.conv));
}

Array conv_stage_conv_dy(Array dy, const Array& y, const Array& argmax, const Shape& x,
                         const Shape& w, const ConvStage& stage) {
  const Conv2dShape s = conv2d_shape(x, w, stage.conv);
  check_samples(s, {&dy, &y, &argmax});
  // Fewer than sixteen samples go back as they came.
  const Array& known = argmax.defined() ? argmax : y.defined() ? y : dy;
  const Layout layout = s.N >= kLanes ? Layout::lanes : known.layout();
  if (dy.layout() != layout) dy = as_layout(dy, layout);
  return through_stage(std::move(dy), y, argmax, s.y(), stage);
}

std::tuple<Array, Array, Array> conv_stage_backward(const Array& dy_any, const Array& y,
                                                    const Array& argmax, const Array& x,
                                                    const Shape& x_shape, const Array& w,
                                                    const ConvStage& stage, const Wanted& wanted) {
  const Conv2dShape s = conv2d_shape(x_shape, w.shape(), stage.conv);
  check_samples(s, {&dy_any, &y, &argmax, &x});
  const Array dy = to_lanes(dy_any), weight = to_plain(w);
  Array dx, dw, db;
  if (wanted.dx) dx = Array::empty(x_shape, DType::float32, Layout::lanes);
  const auto blocks = static_cast<size_t>(dy.blocks());
  std::vector<Array> dw_parts(wanted.dw ? blocks : 0), db_parts(wanted.db ? blocks : 0);
  parallel_for(dy.blocks(), [&](int64_t block) {
    const auto part = [block](const Array& a) { return a.defined() ? a.block(block) : a; };
    const Array dy_block = dy.block(block);
    Shape conv_y = s.y();
    conv_y[0] = dy_block.dim(0);
    const Array conv_dy = through_stage(dy_block, part(y), part(argmax), conv_y, stage);
    if (wanted.dx) {
      Array dx_block = dx.block(block);
      conv2d_backward_input_into(dx_block, conv_dy, weight, stage.conv);
    }
    const auto at = static_cast<size_t>(block);
    if (wanted.dw) dw_parts[at] = conv2d_backward_weight(conv_dy, part(x), w.shape(), stage.conv);
    if (wanted.db) db_parts[at] = channel_sum(conv_dy);
  });
  if (wanted.dw) dw = sum_of(dw_parts);
  if (wanted.db) db = sum_of(db_parts);
  return {dx, dw, db};
}

}  // namespace fastconv
