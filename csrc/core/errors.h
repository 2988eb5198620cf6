// What fastconv throws. bind/ turns each into the Python exception named beside it; nothing in
// csrc/ prints, exits or aborts. Messages begin with the operation in brackets and tell what was
// expected, what came, the arithmetic between them, and the fix.
#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace fastconv {

struct ShapeError : std::invalid_argument {  // fastconv.ShapeError, a ValueError
  using std::invalid_argument::invalid_argument;
};

struct DTypeError : std::invalid_argument {  // TypeError
  using std::invalid_argument::invalid_argument;
};

struct SizeError : std::overflow_error {  // OverflowError: a shape whose size does not fit 63 bits
  using std::overflow_error::overflow_error;
};

struct OutOfMemory : std::bad_alloc {  // MemoryError
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};
// std::invalid_argument -> ValueError, std::out_of_range -> IndexError,
// std::runtime_error -> RuntimeError

// "[conv2d] input has " << 3 << " channels": joins its arguments as a stream would.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace fastconv
