#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"
#include "ops/channels.h"
#include "ops/elementwise.h"
#include "ops/norm.h"

namespace fastconv {
namespace {

cpu::LocalResponseNorm lrn_params(const char* op, const Array& x, int64_t size, double alpha,
                                  double beta, double k) {
  check_channels(op, "input", x);
  if (size < 1)
    throw std::invalid_argument(message("[", op, "] size must be at least 1, got ", size));
  cpu::LocalResponseNorm norm{};
  norm.C = x.dim(1);
  norm.size = size;
  norm.alpha = static_cast<float>(alpha);
  norm.beta = static_cast<float>(beta);
  norm.k = static_cast<float>(k);
  return norm;
}

// Strips of columns narrow enough that all channels of one stay in L2: body(offset of the strip,
// columns).
constexpr int64_t kStrip = 256;
template <class Body>
void for_strips(const ChannelWise& v, const Body& body) {
  const int64_t strips = ceil_div(v.inner, kStrip);
  for_shares(v.outer * strips, v.C * std::min(kStrip, v.inner) * 4,
             [&](int64_t begin, int64_t end) {
               for (int64_t strip = begin; strip < end; ++strip) {
                 const int64_t column = strip % strips * kStrip;
                 body(strip / strips * v.C * v.inner + column, std::min(kStrip, v.inner - column));
               }
             });
}

}  // namespace

Array local_response_norm(const Array& x_any, int64_t size, double alpha, double beta, double k) {
  cpu::LocalResponseNorm norm = lrn_params("local_response_norm", x_any, size, alpha, beta, k);
  const Array x = as_layout(x_any, layout_for(x_any));
  const ChannelWise v = channel_wise(x);
  norm.stride = v.inner;
  Array y = Array::empty(x.shape(), DType::float32, x.layout());
  const cpu::Kernels& kernels = cpu::kernels();
  for_strips(v, [&](int64_t at, int64_t columns) {
    kernels.local_response_norm(y.data() + at, x.data() + at, columns, norm);
  });
  clear_empty_lanes(y);  // with k = 0 they are 0 / 0
  return as_layout(y, x_any.layout());
}

Array local_response_norm_backward(const Array& dy_any, const Array& x_any, int64_t size,
                                   double alpha, double beta, double k) {
  const char* const op = "local_response_norm_backward";
  cpu::LocalResponseNorm norm = lrn_params(op, x_any, size, alpha, beta, k);
  check_float32(op, "dy", dy_any);
  check_same_shape(op, "dy", dy_any, "input", x_any);
  const Layout layout = layout_for(x_any);
  const Array x = as_layout(x_any, layout), dy = as_layout(dy_any, layout);
  const ChannelWise v = channel_wise(x);
  norm.stride = v.inner;
  Array dx = Array::empty(x.shape(), DType::float32, layout);
  const cpu::Kernels& kernels = cpu::kernels();
  for_strips(v, [&](int64_t at, int64_t columns) {
    Scratch<float> scratch(v.C * columns);
    kernels.local_response_norm_backward(dx.data() + at, dy.data() + at, x.data() + at, columns,
                                         norm, scratch.data());
  });
  clear_empty_lanes(dx);
  return as_layout(dx, dy_any.layout());
}

}  // namespace fastconv
