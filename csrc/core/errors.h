// The exceptions of fastconv. bind/ turns each into the Python exception named beside it; nothing
// in csrc/ prints, exits or aborts. A message begins with the operation in brackets and says what
// was expected, what came, the arithmetic between them, and the fix.
#pragma once

#include <initializer_list>
#include <new>
#include <ostream>
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

// "[conv2d] input has " << 3 << " channels": joins its arguments as a stream would. The stream is
// in one function, not in each of the many callers, which keeps them small and quick to compile.
struct MessagePart {
  const void* object;
  void (*print)(std::ostream& out, const void* object);
};

template <class T>
MessagePart message_part(const T& value) {
  return {&value,
          [](std::ostream& out, const void* object) { out << *static_cast<const T*>(object); }};
}
inline MessagePart message_part(const char* text) {
  return {text,
          [](std::ostream& out, const void* object) { out << static_cast<const char*>(object); }};
}

std::string join(std::initializer_list<MessagePart> parts);

template <class... Parts>
std::string message(const Parts&... parts) {
  return join({message_part(parts)...});
}

}  // namespace fastconv
