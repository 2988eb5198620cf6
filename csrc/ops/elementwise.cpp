#include "ops/elementwise.h"

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {

Array unary(const char* op, Unary f, const Array& x, float p, float q) {
  check_float32(op, "input", x);
  return program::run(op, &Operations::unary, f, x, p, q);
}

Array binary(const char* op, Binary f, Array a, const Array& b, float p) {
  check_float32(op, "the first operand", a);
  check_float32(op, "the second operand", b);
  check_same_shape(op, "the first operand", a, "the second", b);
  return program::run(op, &Operations::binary, f, std::move(a), b, p);
}

void add_into(Array& a, const Array& b) {
  check_float32("add_into", "the first operand", a);
  check_float32("add_into", "the second operand", b);
  check_same_shape("add_into", "the first operand", a, "the second", b);
  program::run("add_into", &Operations::add_into, a, b);
}

void assign(Array& a, const Array& b) {
  check_float32("assign", "the target", a);
  check_float32("assign", "the source", b);
  check_same_shape("assign", "the target", a, "the source", b);
  program::run("assign", &Operations::assign, a, b);
}

Array dropout(const Array& x, double p, Seed seed) {
  check_float32("dropout", "input", x);
  if (!(p >= 0.0 && p <= 1.0))
    throw std::invalid_argument(message("[dropout] p must be between 0 and 1, got ", p));
  const float scale = p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.0f;
  return program::run("dropout", &Operations::dropout, x, static_cast<float>(p), scale, seed);
}

Array scale_by(const Array& x, const Array& factor) {
  check_float32("scale_by", "input", x);
  check_float32("scale_by", "factor", factor);
  if (factor.shape().numel() != 1)
    throw ShapeError(message("[scale_by] factor must be one element, got ", factor.shape()));
  return program::run("scale_by", &Operations::scale_by, x, factor);
}

Array sum(const Array& x) {
  check_float32("sum", "input", x);
  return program::run("sum", &Operations::sum, x);
}

void count_up(Array& x) {
  if (x.dtype() != DType::int64 || x.shape().numel() != 1)
    throw DTypeError(
        message("[count_up] expected one int64, got ", x.shape(), " ", name_of(x.dtype())));
  program::run("count_up", &Operations::count_up, x);
}

}  // namespace fastconv
