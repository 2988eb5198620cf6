// What every binding file includes: how shapes and NumPy arrays pass between Python and C++, and
// one register function for each file, called by module.cpp.
//
// Conventions: py::arg names as in _core.pyi; operations on Arrays are bound with `define`;
// optional arrays are `const std::optional<Array>&`, pairs std::array<int64_t, 2>, pads
// std::array<int64_t, 4>, lists of arrays std::vector<Array>, seeds of random numbers Seed.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <thread>

#include "contract/post_ops.h"
#include "core/array.h"
#include "core/errors.h"
#include "core/shape.h"
#include "program/recorded.h"

namespace fastconv::bind {

namespace py = pybind11;

using Pair = std::array<int64_t, 2>;  // of rows, of columns
using Pads = std::array<int64_t, 4>;  // top, bottom, left, right

// Runs take(), which takes the GIL. Once the interpreter is ending, CPython before 3.14 ends a
// thread that takes the GIL by unwinding its stack, through destructors that let nothing pass,
// which would end the process. As in 3.14, the thread waits here instead until the process has
// gone.
template <class Take>
void with_gil(const Take& take) noexcept {
  try {
    take();
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// Other Python threads run for the length of a scope.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  ~GilReleased() {
    with_gil([this] { PyEval_RestoreThread(state_); });
  }
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

 private:
  PyThreadState* state_;
};

// For calls that compute: arguments are converted first, and other Python threads run meanwhile.
using ReleaseGil = py::call_guard<GilReleased>;

// A result that may be missing: None in Python.
inline std::optional<Array> or_none(const Array& x) {
  return x.defined() ? std::optional<Array>(x) : std::nullopt;
}

inline Array or_undefined(const std::optional<Array>& x) { return x.value_or(Array()); }

// Binds an operation on Arrays, so that it can become part of a recorded program.
template <class F, class... Arguments>
void define(py::module_& m, const char* name, F operation, const Arguments&... arguments) {
  m.def(name, program::recorded(name, operation), arguments..., ReleaseGil());
}

// ---- NumPy (bind_array.cpp) ---------------------------------------------------------------------
// float32, int64 or uint8 in native byte order; DTypeError naming the type and the fix otherwise.
// The NumPy array's memory when `copy` is false and it is C-contiguous, aligned and writable, kept
// alive by the Array; else a copy, whatever the strides.
// shared: whoever made it may write there too.
Array from_numpy(const py::array& x, bool copy, bool shared = true);
DType dtype_of(const py::array& x, const char* op);
Shape shape_of(const py::array& x);

// ---- registration, one a file -------------------------------------------------------------------
void register_array(py::module_& m);
void register_runtime(py::module_& m);
void register_conv(py::module_& m);
void register_linear(py::module_& m);
void register_pool(py::module_& m);
void register_elementwise(py::module_& m);
void register_movement(py::module_& m);
void register_norm(py::module_& m);
void register_loss(py::module_& m);
void register_optim(py::module_& m);
void register_program(py::module_& m);

}  // namespace fastconv::bind

namespace pybind11::detail {

template <>
struct type_caster<fastconv::Seed> {
  PYBIND11_TYPE_CASTER(fastconv::Seed, const_name("int"));

  bool load(handle source, bool convert) {
    make_caster<uint64_t> number;
    if (!number.load(source, convert)) return false;
    value = {cast_op<uint64_t>(number)};
    return true;
  }
};

// None, "relu", "relu6"
template <>
struct type_caster<fastconv::Activation> {
  PYBIND11_TYPE_CASTER(fastconv::Activation, const_name("str | None"));

  bool load(handle source, bool) {
    value = fastconv::Activation::none;
    if (source.is_none()) return true;
    if (!PyUnicode_Check(source.ptr())) return false;
    const auto is = [&](const char* name) {
      return PyUnicode_CompareWithASCIIString(source.ptr(), name) == 0;
    };
    if (is("relu")) value = fastconv::Activation::relu;
    if (is("relu6")) value = fastconv::Activation::relu6;
    return value != fastconv::Activation::none;
  }
};

// Shape <-> a sequence of whole numbers; comes back as a tuple. Whatever has __index__ counts as a
// whole number (NumPy's integers do, floats do not).
template <>
struct type_caster<fastconv::Shape> {
  PYBIND11_TYPE_CASTER(fastconv::Shape, const_name("Sequence[int]"));

  bool load(handle source, bool) {
    if (!PySequence_Check(source.ptr()) || PyUnicode_Check(source.ptr()) ||
        PyBytes_Check(source.ptr()))
      return false;
    const auto items = reinterpret_borrow<sequence>(source);
    int64_t dims[fastconv::kMaxDims];
    const size_t ndim = items.size();
    if (ndim > fastconv::kMaxDims)
      throw fastconv::ShapeError(fastconv::message("[shape] ", ndim, " dimensions, at most ",
                                                   fastconv::kMaxDims, " are supported"));
    for (size_t axis = 0; axis < ndim; ++axis) {
      const object item = items[axis];
      if (!PyIndex_Check(item.ptr())) return false;
      const auto whole = reinterpret_steal<object>(PyNumber_Index(item.ptr()));
      if (!whole) throw error_already_set();
      int overflow = 0;
      dims[axis] = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
      if (overflow != 0)
        throw fastconv::SizeError(fastconv::message("[shape] size ", str(whole).cast<std::string>(),
                                                    " does not fit in 63 bits"));
    }
    value = fastconv::Shape(dims, static_cast<int>(ndim));
    return true;
  }

  static handle cast(const fastconv::Shape& shape, return_value_policy, handle) {
    tuple dims(static_cast<size_t>(shape.ndim()));
    for (int axis = 0; axis < shape.ndim(); ++axis)
      dims[static_cast<size_t>(axis)] = int_(shape[axis]);
    return dims.release();
  }
};

}  // namespace pybind11::detail
