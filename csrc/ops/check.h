// Checks that several operations share.
#pragma once

#include "core/array.h"

namespace fastconv {

inline void check_float32(const char* op, const char* what, const Array& x) {
  if (!x.defined()) throw std::invalid_argument(message("[", op, "] ", what, " is None"));
  if (x.dtype() != DType::float32)
    throw DTypeError(message("[", op, "] ", what, " must be float32, got ", name_of(x.dtype()),
                             "; convert it with x.astype(np.float32)"));
}

}  // namespace fastconv
