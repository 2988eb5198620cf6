#include "core/shape.h"

#include <algorithm>
#include <limits>

namespace fastconv {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kMin = std::numeric_limits<int64_t>::min();

[[noreturn]] void too_large(int64_t a, char op, int64_t b, const char* what) {
  throw SizeError(message(what, ": ", a, " ", op, " ", b, " does not fit in 63 bits"));
}

}  // namespace

int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  if (a == 0 || b == 0) return 0;
  // Division keeps this portable; it is never in a loop that matters.
  const bool overflow =
      a > 0 ? (b > 0 ? a > kMax / b : b < kMin / a) : (b > 0 ? a < kMin / b : a < kMax / b);
  if (overflow) too_large(a, '*', b, what);
  return a * b;
}

int64_t checked_add(int64_t a, int64_t b, const char* what) {
  if (b > 0 ? a > kMax - b : a < kMin - b) too_large(a, '+', b, what);
  return a + b;
}

Shape::Shape(std::initializer_list<int64_t> dims)
    : Shape(dims.begin(), static_cast<int>(dims.size())) {}

Shape::Shape(const int64_t* dims, int ndim) : ndim_(ndim) {
  if (ndim > kMaxDims)
    throw ShapeError(
        message("[shape] ", ndim, " dimensions, at most ", kMaxDims, " are supported"));
  std::copy(dims, dims + ndim, dims_.begin());
  for (int axis = 0; axis < ndim; ++axis)
    if (dims[axis] < 0)
      throw ShapeError(message("[shape] sizes must be 0 or more: ", *this, " has ", dims[axis],
                               " in dimension ", axis));
}

int64_t Shape::numel() const { return numel_from(0); }

int64_t Shape::numel_from(int axis) const {
  // A zero anywhere makes the product zero, however large the other sizes are.
  const auto begin = dims_.begin() + std::min(axis, ndim_), end = dims_.begin() + ndim_;
  if (std::find(begin, end, 0) != end) return 0;
  int64_t n = 1;
  for (auto dim = begin; dim != end; ++dim) n = checked_mul(n, *dim, "[shape] number of elements");
  return n;
}

bool Shape::operator==(const Shape& other) const {
  return ndim_ == other.ndim_ &&
         std::equal(dims_.begin(), dims_.begin() + ndim_, other.dims_.begin());
}

std::string Shape::str() const {  // as Python prints a tuple
  std::string text = "(";
  for (int axis = 0; axis < ndim_; ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string((*this)[axis]);
  return text + (ndim_ == 1 ? ",)" : ")");
}

}  // namespace fastconv
