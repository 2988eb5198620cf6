#include "cpu/conv/pooled/by_blocks.h"

#include <algorithm>
#include <vector>

#include "cpu/conv/lanes.h"
#include "cpu/conv/pooled/windows.h"
#include "cpu/conv/route.h"
#include "cpu/elementwise.h"
#include "cpu/norm.h"
#include "cpu/pool.h"
#include "cpu/runtime/thread_pool.h"

namespace fastconv::cpu {
namespace {

// Inside a task nothing is gained by dividing work further.
constexpr int64_t kOneTask = 1;

// Work is divided into blocks of samples, and these into chunks of so many output channels that
// their convolution stays in half of L2. With many input channels into one: then the products set
// the pace, and Winograd's have the transform of x in common.
struct Tasks {
  explicit Tasks(const Conv2dShape& s) : blocks(ceil_div(s.N, kLanes)), channels(s.OC) {
    constexpr int64_t kNear = 96 * 1024, kTile = 8, kManyInputs = 12;  // floats; channels
    const int64_t fit = std::max<int64_t>(1, kNear / (s.OH * s.OW * kLanes));
    if (s.geometry.groups > 1 || fit >= s.OC || s.IC >= kManyInputs) return;
    channels = ceil_div(ceil_div(s.OC, ceil_div(s.OC, fit)), kTile) * kTile;
    chunks = ceil_div(s.OC, channels);
  }

  int64_t blocks, channels, chunks = 1;
  int64_t count() const { return blocks * chunks; }

  // Output channels of a chunk; of a plain array axis 0, of a block axis 1.
  Array part(const Array& a, int64_t chunk) const {
    if (!a.defined()) return a;
    const int64_t first = chunk * channels, all = a.in_lanes() ? a.dim(1) : a.dim(0);
    return a.slice(first, std::min(channels, all - first));
  }
  Array part(const Array& a, int64_t block, int64_t chunk) const {
    return a.defined() ? part(a.block(block), chunk) : a;
  }
};

// The sum over the blocks, in their order, of parts[block * chunks + chunk], chunk after chunk.
void add_up(Array& sum, const std::vector<Array>& parts, const Tasks& tasks) {
  for (int64_t chunk = 0; chunk < tasks.chunks; ++chunk) {
    const auto part = [&](int64_t block) -> const Array& {
      return parts[static_cast<size_t>(block * tasks.chunks + chunk)];
    };
    const int64_t n = part(0).stored();
    float* to = tasks.part(sum, chunk).data();
    parallel_ranges(n, 1 << 14, [&](int64_t begin, int64_t end) {
      std::copy(part(0).data() + begin, part(0).data() + end, to + begin);
      for (int64_t block = 1; block < tasks.blocks; ++block)
        for (int64_t i = begin; i < end; ++i) to[i] += part(block).data()[i];
    });
  }
}

// The gradient of the convolution's own output.
Array through_post_ops(const Array& dy, const Array& y, const Array& argmax, const PostOps& post) {
  if (post.pool) return max_pool2d_backward(dy, argmax, y, *post.pool);
  return binary(Binary::relu_backward, dy, y, 0.0f);
}

}  // namespace

bool by_blocks_pays(const Conv2dShape& s) {
  constexpr int64_t kCache = 512 * 1024, kPartials = int64_t{1} << 21;  // floats
  constexpr int64_t kMinBlocks = 4;
  const int64_t blocks = ceil_div(s.N, kLanes), pixels = s.OH * s.OW * kLanes;
  return blocks >= kMinBlocks && Tasks(s).channels * pixels <= kCache &&
         blocks * s.OC * pixels > kCache && blocks * s.w().numel() <= kPartials;
}

void forward_by_blocks(Array& y, Array& argmax, const Array& x, const Array& w, const Array& b,
                       const Conv2dShape& s, const PoolShape& pool, bool relu) {
  const Tasks tasks(s);
  parallel_for(tasks.count(), [&](int64_t task) {
    const int64_t block = task / tasks.chunks, chunk = task % tasks.chunks;
    Array y_part = tasks.part(y, block, chunk), argmax_part = tasks.part(argmax, block, chunk);
    const Array conv = convolve(x.block(block), tasks.part(w, chunk), tasks.part(b, chunk),
                                part_of(s, y_part), Activation::none, kOneTask);
    max_pool2d_into(y_part, argmax_part, conv, pool, relu);
  });
}

void backward_by_blocks(Array& dx, Array& dw, Array& db, const Array& dy, const Array& y,
                        const Array& argmax, const Array& x, const Array& w, const Conv2dShape& s,
                        const PostOps& post, const Wanted& wanted) {
  const Tasks tasks(s);
  const auto count = static_cast<size_t>(tasks.count());
  std::vector<Array> dw_parts(wanted.dw ? count : 0), db_parts(wanted.db ? count : 0);
  const auto sum_up = [&](const Array& conv_dy, int64_t block, int64_t chunk) {
    const auto at = static_cast<size_t>(block * tasks.chunks + chunk);
    if (wanted.dw)
      dw_parts[at] =
          convolve_backward_weight(conv_dy, x.block(block), part_of(s, conv_dy), kOneTask);
    if (wanted.db) db_parts[at] = channel_sum(conv_dy);
  };
  if (wanted.dx)  // a sum over all output channels
    parallel_for(tasks.blocks, [&](int64_t block) {
      const auto part = [block](const Array& a) { return a.defined() ? a.block(block) : a; };
      const Array conv_dy = through_post_ops(part(dy), part(y), part(argmax), post);
      Array dx_block = dx.block(block);
      backward_input_in_lanes(dx_block, conv_dy, w, {}, part_of(s, conv_dy), kOneTask);
      for (int64_t chunk = 0; chunk < tasks.chunks; ++chunk)
        sum_up(tasks.part(conv_dy, chunk), block, chunk);
    });
  else
    parallel_for(tasks.count(), [&](int64_t task) {
      const int64_t block = task / tasks.chunks, chunk = task % tasks.chunks;
      sum_up(through_post_ops(tasks.part(dy, block, chunk), tasks.part(y, block, chunk),
                              tasks.part(argmax, block, chunk), post),
             block, chunk);
    });
  if (wanted.dw) add_up(dw, dw_parts, tasks);
  if (wanted.db) add_up(db, db_parts, tasks);
}

}  // namespace fastconv::cpu
