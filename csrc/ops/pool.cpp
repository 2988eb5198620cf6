#include "ops/pool.h"

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

const char* const kAxis[] = {"rows", "columns"};

PoolAxis pool_axis(const char* op, int i, const Shape& x, const PoolParams& p) {
  const auto at = static_cast<size_t>(i);
  PoolAxis a{
      x[2 + i], p.kernel[at], p.stride[at], p.pads[2 * at], p.pads[2 * at + 1], p.dilation[at], 0};
  const auto refuse = [&](const char* what, int64_t value, const char* least) {
    throw std::invalid_argument(message("[", op, "] ", what, " must be at least ", least, ", got ",
                                        value, " for ", kAxis[i]));
  };
  if (a.kernel < 1) refuse("kernel_size", a.kernel, "1");
  if (a.stride < 1) refuse("stride", a.stride, "1");
  if (a.dilation < 1) refuse("dilation", a.dilation, "1");
  constexpr char sizes[] = "[pooling] sizes";
  const int64_t reach = checked_add(checked_mul(a.kernel - 1, a.dilation, sizes), 1, sizes);
  for (const int64_t pad : {a.before, a.after}) {
    if (pad < 0) refuse("padding", pad, "0");
    // More, and a window could lie in the padding altogether.
    if (pad > reach / 2)
      throw std::invalid_argument(message(
          "[", op, "] padding must be at most half of the window: padding ", pad, ", window ",
          reach, " ", kAxis[i], " (kernel_size ", a.kernel, ", dilation ", a.dilation, ")"));
  }
  const int64_t padded = checked_add(a.input, checked_add(a.before, a.after, sizes), sizes);
  const int64_t room =
      p.ceil_mode ? checked_add(padded - reach, a.stride - 1, sizes) : padded - reach;
  a.output = room < 0 ? 0 : room / a.stride + 1;
  if (p.ceil_mode && a.output > 0 && a.first(a.output - 1) >= a.input) --a.output;
  if (a.output < 1)
    throw ShapeError(message("[", op, "] the window needs ", reach, " ", kAxis[i],
                             ", the image has ", a.input, " + ", a.before, " + ", a.after,
                             " of padding: input ", x, ", kernel_size (", p.kernel[0], ", ",
                             p.kernel[1], "); use a smaller kernel_size or a larger image"));
  return a;
}

}  // namespace

PoolShape pool2d_shape(const char* op, const Shape& x, const PoolParams& params) {
  check_image_shape(op, x);
  return {x[0], x[1], pool_axis(op, 0, x, params), pool_axis(op, 1, x, params)};
}

PoolShape max_pool2d_shape(const char* op, const Shape& x, const PoolParams& params) {
  const PoolShape shape = pool2d_shape(op, x, params);
  if (shape.cols.kernel > 65535 / shape.rows.kernel)
    throw std::invalid_argument(
        message("[", op, "] kernel_size (", shape.rows.kernel, ", ", shape.cols.kernel,
                ") has more than 65535 positions, which is the most that can "
                "be remembered for the gradient"));
  return shape;
}

PoolShape max_pool2d_shape_of_gradient(const char* op, const Array& dy, const Shape& x,
                                       PoolParams params) {
  params.ceil_mode = true;
  const PoolShape up = max_pool2d_shape(op, x, params);
  if (dy.ndim() == 4 && dy.dim(2) == up.rows.output && dy.dim(3) == up.cols.output) return up;
  params.ceil_mode = false;
  return max_pool2d_shape(op, x, params);
}

void check_pool_gradient(const Array& dy, const Array& argmax, const Array& y) {
  const char* const op = "max_pool2d_backward";
  const auto companion = [&](const char* what, const Array& a, DType dtype) {
    if (a.dtype() != dtype)
      throw DTypeError(
          message("[", op, "] ", what, " must be ", name_of(dtype), ", got ", name_of(a.dtype())));
    check_same_shape(op, what, a, "dy", dy);
  };
  check_float32(op, "dy", dy);
  companion("argmax", argmax, DType::uint16);
  if (y.defined()) companion("y", y, DType::float32);
}

std::pair<Array, Array> max_pool2d(const Array& x, const PoolParams& params, bool relu,
                                   bool with_indices, Use use) {
  check_images("max_pool2d", "input", x);
  return program::run("max_pool2d", &Operations::max_pool2d, x,
                      max_pool2d_shape("max_pool2d", x.shape(), params), relu, with_indices, use);
}

Array max_pool2d_backward(const Array& dy, const Array& argmax, const Array& y, const Shape& x,
                          const PoolParams& params) {
  const char* const op = "max_pool2d_backward";
  check_image_shape(op, x);
  check_pool_gradient(dy, argmax, y);
  const PoolShape shape = max_pool2d_shape_of_gradient(op, dy, x, params);
  check_gradient_shape(op, dy, shape.y(), x);
  return program::run(op, &Operations::max_pool2d_backward, dy, argmax, y, shape);
}

Array max_pool2d_indices(const Array& argmax, const Shape& x, const PoolParams& params) {
  const char* const op = "max_pool2d_indices";
  if (argmax.dtype() != DType::uint16)
    throw DTypeError(message("[", op, "] argmax must be uint16, got ", name_of(argmax.dtype())));
  const PoolShape shape = max_pool2d_shape_of_gradient(op, argmax, x, params);
  if (argmax.shape() != shape.y())
    throw ShapeError(message("[", op, "] argmax must have shape ", shape.y(), " for an input of ",
                             x, ", got ", argmax.shape()));
  return program::run(op, &Operations::max_pool2d_indices, argmax, shape);
}

}  // namespace fastconv
