#include "ops/conv_stage.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/conv/pooled/conv_pool.h"
#include "cpu/layout.h"
#include "cpu/runtime/thread_pool.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

namespace fastconv {
namespace {

// The gradient of a convolution's output of shape conv_y.
Array through_stage(Array dy, const Array& y, const Array& argmax, const Shape& conv_y,
                    const ConvStage& stage) {
  if (stage.pool) return max_pool2d_backward(dy, argmax, y, conv_y, *stage.pool);
  return stage.relu ? binary("relu_backward", Binary::relu_backward, std::move(dy), y) : dy;
}

// Of dy, y and argmax, as far as they are there.
void check_outputs(const Conv2dShape& s, const ConvStage& stage,
                   std::initializer_list<const Array*> arrays) {
  constexpr char op[] = "conv_stage_backward";
  const Shape expected = stage.pool ? pooled_shape(op, s.y(), *stage.pool) : s.y();
  for (const Array* a : arrays)
    if (a->defined() && a->shape() != expected)
      throw ShapeError(message("[", op, "] dy and what goes with it must have the stage's shape ",
                               expected, ", got ", a->shape(), ": input ", s.x()));
}

Array lanes_of(const Array& a) { return a.defined() ? to_lanes(a) : a; }

// Work is cut into blocks of samples, and these into cuts of so many output channels that their
// convolution stays in half of L2. With many input channels into one: then the products set the
// pace, and Winograd's have the transform of x in common.
struct Tasks {
  explicit Tasks(const Conv2dShape& s) : blocks(ceil_div(s.N, kLanes)), channels(s.OC) {
    constexpr int64_t kNear = 96 * 1024, kTile = 8, kManyInputs = 12;  // floats; channels
    const int64_t fit = std::max<int64_t>(1, kNear / (s.OH * s.OW * kLanes));
    if (s.params.groups > 1 || fit >= s.OC || s.IC >= kManyInputs) return;
    channels = ceil_div(ceil_div(s.OC, ceil_div(s.OC, fit)), kTile) * kTile;
    cuts = ceil_div(s.OC, channels);
  }

  int64_t blocks, channels, cuts = 1;

  // What of an array belongs to a cut: of a plain one with output channels first, or of a block.
  Array part(const Array& a, int64_t cut) const {
    const int64_t first = cut * channels, all = a.in_lanes() ? a.dim(1) : a.dim(0);
    return a.slice(first, std::min(channels, all - first));
  }
  Array part(const Array& a, int64_t block, int64_t cut) const {
    return a.defined() ? part(a.block(block), cut) : a;
  }
};

// Whether a task's part of the convolution's output stays in L2 (or nearly) where the whole does
// not, and there are blocks enough for the threads. From the shape alone: the order of the sums by
// weight depends on it.
bool by_blocks(const Conv2dShape& s) {
  constexpr int64_t kCache = 512 * 1024, kPartials = int64_t{1} << 21;  // floats
  constexpr int64_t kMinBlocks = 4;
  const int64_t blocks = ceil_div(s.N, kLanes), pixels = s.OH * s.OW * kLanes;
  return blocks >= kMinBlocks && Tasks(s).channels * pixels <= kCache &&
         blocks * s.OC * pixels > kCache && blocks * s.w().numel() <= kPartials;
}

// The sum over the blocks, in their order, of parts[block * cuts + cut], cut after cut.
Array sum_of(const std::vector<Array>& parts, const Shape& shape, const Tasks& tasks) {
  Array sum = Array::empty(shape);
  for (int64_t cut = 0; cut < tasks.cuts; ++cut) {
    const auto part = [&](int64_t block) -> const Array& {
      return parts[static_cast<size_t>(block * tasks.cuts + cut)];
    };
    const int64_t n = part(0).stored();
    float* to = tasks.part(sum, cut).data();
    parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
      std::copy(part(0).data() + begin, part(0).data() + end, to + begin);
      for (int64_t block = 1; block < tasks.blocks; ++block)
        for (int64_t i = begin; i < end; ++i) to[i] += part(block).data()[i];
    });
  }
  return sum;
}

}  // namespace

std::pair<Array, Array> conv_stage_forward(const Array& x, const Array& w, const Array& b,
                                           const ConvStage& stage, bool placed) {
  if (!stage.pool) return {conv2d_forward(x, w, b, stage.conv, stage.relu), Array()};
  const Conv2dShape s = conv2d_shape(x, w, b, stage.conv);
  const Shape y_shape = pooled_shape("max_pool2d", s.y(), *stage.pool);
  const bool few = !x.in_lanes() && !placed && conv_pool_small_batch_applies(s, stage);
  const bool in_registers = few || (x.in_lanes() && conv_pool_applies(s, stage));
  // ReLU and the maximum of what a window holds commute; after pooling it has less to do.
  if (!in_registers && (!x.in_lanes() || !by_blocks(s)))
    return max_pool2d_forward(conv2d_forward(x, w, b, stage.conv, false), *stage.pool, stage.relu,
                              placed);

  Array y = Array::empty(y_shape, DType::float32, x.layout());
  Array argmax;
  if (placed) argmax = Array::empty(y_shape, DType::uint16, x.layout());
  const Array weight = to_plain(w);
  if (few) {
    conv_pool_forward_small_batch(y, x, weight, b, s, stage.relu);
    return {y, argmax};
  }
  if (in_registers) {
    conv_pool_forward(y, argmax, x, weight, b, s, stage.relu);
    return {y, argmax};
  }
  const Tasks tasks(s);
  parallel_for(tasks.blocks * tasks.cuts, [&](int64_t task) {
    const int64_t block = task / tasks.cuts, cut = task % tasks.cuts;
    const Array conv = conv2d_forward(x.block(block), tasks.part(weight, cut),
                                      b.defined() ? tasks.part(b, cut) : b, stage.conv, false);
    Array y_part = tasks.part(y, block, cut), argmax_part = tasks.part(argmax, block, cut);
    max_pool2d_forward_into(y_part, argmax_part, conv, *stage.pool, stage.relu);
  });
  return {y, argmax};
}

bool conv_stage_by_blocks(const Shape& x, const Shape& w, const ConvStage& stage) {
  const Conv2dShape s = conv2d_shape(x, w, stage.conv);
  return conv_pool_backward_applies(s, stage) || ((stage.relu || stage.pool) && by_blocks(s));
}

Array conv_stage_conv_dy(Array dy, const Array& y, const Array& argmax, const Shape& x,
                         const Shape& w, const ConvStage& stage) {
  const Conv2dShape s = conv2d_shape(x, w, stage.conv);
  check_outputs(s, stage, {&dy, &y, &argmax});
  // Fewer than sixteen samples go back as they came.
  const Array& known = argmax.defined() ? argmax : y.defined() ? y : dy;
  const Layout layout = s.N >= kLanes ? Layout::lanes : known.layout();
  if (dy.layout() != layout) dy = as_layout(dy, layout);
  return through_stage(std::move(dy), y, argmax, s.y(), stage);
}

std::tuple<Array, Array, Array> conv_stage_backward(const Array& dy_any, const Array& y_any,
                                                    const Array& argmax_any, const Array& x_any,
                                                    const Shape& x_shape, const Array& w,
                                                    const ConvStage& stage, const Wanted& wanted) {
  const Conv2dShape s = conv2d_shape(x_shape, w.shape(), stage.conv);
  check_outputs(s, stage, {&dy_any, &y_any, &argmax_any});
  if (x_any.defined() && x_any.shape() != x_shape)
    throw ShapeError(
        message("[conv_stage_backward] x must have shape ", x_shape, ", got ", x_any.shape()));
  const Array dy = to_lanes(dy_any), y = lanes_of(y_any), argmax = lanes_of(argmax_any);
  const Array x = lanes_of(x_any), weight = to_plain(w);
  Array dx, dw, db;
  if (wanted.dx) dx = Array::empty(x_shape, DType::float32, Layout::lanes);
  if (conv_pool_backward_applies(s, stage)) {
    check_pool_gradient(dy, argmax, y);
    if (wanted.dw) check_float32("conv2d", "input", x);
    if (wanted.dw) dw = Array::empty(w.shape());
    if (wanted.db) db = Array::empty({s.OC});
    conv_pool_backward(dx, dw, db, dy, y, argmax, x, weight, s, stage, wanted);
    return {dx, dw, db};
  }
  const Tasks tasks(s);
  const auto count = static_cast<size_t>(tasks.blocks * tasks.cuts);
  std::vector<Array> dw_parts(wanted.dw ? count : 0), db_parts(wanted.db ? count : 0);
  const auto sum_up = [&](const Array& conv_dy, int64_t block, int64_t cut) {
    const auto at = static_cast<size_t>(block * tasks.cuts + cut);
    if (wanted.dw)
      dw_parts[at] = conv2d_backward_weight(conv_dy, x.block(block),
                                            tasks.part(weight, cut).shape(), stage.conv);
    if (wanted.db) db_parts[at] = channel_sum(conv_dy);
  };
  const auto conv_shape = [&](const Array& of) { return Shape{of.dim(0), of.dim(1), s.OH, s.OW}; };
  if (wanted.dx)  // a sum over all output channels
    parallel_for(tasks.blocks, [&](int64_t block) {
      const auto part = [block](const Array& a) { return a.defined() ? a.block(block) : a; };
      const Array from = dy.block(block);
      const Array conv_dy = through_stage(from, part(y), part(argmax), conv_shape(from), stage);
      Array dx_block = dx.block(block);
      conv2d_backward_input_into(dx_block, conv_dy, weight, stage.conv);
      for (int64_t cut = 0; cut < tasks.cuts; ++cut) sum_up(tasks.part(conv_dy, cut), block, cut);
    });
  else
    parallel_for(tasks.blocks * tasks.cuts, [&](int64_t task) {
      const int64_t block = task / tasks.cuts, cut = task % tasks.cuts;
      const Array from = tasks.part(dy, block, cut);
      sum_up(through_stage(from, tasks.part(y, block, cut), tasks.part(argmax, block, cut),
                           conv_shape(from), stage),
             block, cut);
    });
  if (wanted.dw) dw = sum_of(dw_parts, w.shape(), tasks);
  if (wanted.db) db = sum_of(db_parts, {s.OC}, tasks);
  return {dx, dw, db};
}

}  // namespace fastconv
