// Shapes: up to six dimensions, 64-bit, with checked arithmetic. A shape that would overflow is
// refused before anything is allocated.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>

#include "core/errors.h"

namespace fastconv {

constexpr int kMaxDims = 6;

// a * b and a + b, or SizeError naming `what` when the result does not fit.
int64_t checked_mul(int64_t a, int64_t b, const char* what);
int64_t checked_add(int64_t a, int64_t b, const char* what);

// a / b rounded up; a >= 0, b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  Shape(const int64_t* dims,
        int ndim);  // throws ShapeError on a negative size or too many dimensions

  int ndim() const { return ndim_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t& operator[](int axis) { return dims_[static_cast<size_t>(axis)]; }
  int64_t numel() const;               // product of all sizes, SizeError on overflow
  int64_t numel_from(int axis) const;  // product of the sizes from `axis` on
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }
  std::string str() const;  // "(8, 3, 28, 28)"

 private:
  std::array<int64_t, kMaxDims> dims_{};
  int ndim_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.str();
}

}  // namespace fastconv
