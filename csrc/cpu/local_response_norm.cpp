// Local response normalisation, in tiles of columns narrow enough that all channels of one stay in
// L2.
#include "cpu/channels.h"
#include "cpu/dispatch.h"
#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/norm.h"

namespace fastconv::cpu {
namespace {

constexpr int64_t kTileColumns = 256;

// body(offset of the tile, columns)
template <class Body>
void for_tiles(const ChannelWise& v, const Body& body) {
  const int64_t tiles = ceil_div(v.inner, kTileColumns);
  for_chunks(
      v.outer * tiles, v.C * std::min(kTileColumns, v.inner) * 4, [&](int64_t begin, int64_t end) {
        for (int64_t tile = begin; tile < end; ++tile) {
          const int64_t column = tile % tiles * kTileColumns;
          body(tile / tiles * v.C * v.inner + column, std::min(kTileColumns, v.inner - column));
        }
      });
}

LocalResponseNorm kernel_params(const ChannelWise& v, const LocalResponseNormParams& norm) {
  return {v.C, v.inner, norm.size, norm.alpha, norm.beta, norm.k};
}

}  // namespace

std::pair<Array, Array> local_response_norm(const Array& x_any, const LocalResponseNormParams& norm,
                                            Use use) {
  const Array kept = in_batch_layout(x_any, use);
  const Array x = as_layout(kept, channel_layout(kept));
  const ChannelWise v = channel_wise(x);
  const LocalResponseNorm params = kernel_params(v, norm);
  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  for_tiles(v, [&](int64_t at, int64_t columns) {
    kernels().local_response_norm(y.data() + at, x.data() + at, columns, params);
  });
  clear_empty_lanes(y);  // with k = 0 they are 0 / 0
  return {as_layout(y, kept.layout()), kept};
}

Array local_response_norm_backward(const Array& dy_any, const Array& x_any,
                                   const LocalResponseNormParams& norm) {
  const Layout layout = channel_layout(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);
  const ChannelWise v = channel_wise(x);
  const LocalResponseNorm params = kernel_params(v, norm);
  Array dx = Array::empty(x.shape(), DType::float32, layout);
  for_tiles(v, [&](int64_t at, int64_t columns) {
    Scratch<float> scratch(v.C * columns);
    kernels().local_response_norm_backward(dx.data() + at, dy.data() + at, x.data() + at, columns,
                                           params, scratch.data());
  });
  clear_empty_lanes(dx);
  return as_layout(dx, dy_any.layout());
}

}  // namespace fastconv::cpu
