// The Array class, and the way between it and NumPy.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "bind/bind.h"
#include "core/versions.h"
#include "ops/values.h"

namespace fastconv::bind {
namespace {

// A Python object held by C++. The last reference may go in a thread without the GIL, or when the
// interpreter has gone; then the process is ending and so is the object's memory.
void let_go(void* held) {
  if (!Py_IsInitialized()) return;
  with_gil([held] {
    const py::gil_scoped_acquire gil;
    Py_DECREF(static_cast<PyObject*>(held));
  });
}

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::float32: return py::dtype::of<float>();
    case DType::int64: return py::dtype::of<int64_t>();
    case DType::uint16: return py::dtype::of<uint16_t>();
    case DType::uint8: return py::dtype::of<uint8_t>();
  }
  return {};
}

// A NumPy view of plain storage; `base` keeps it alive.
py::array numpy_view(const Array& x, void* data, py::handle base) {
  std::vector<py::ssize_t> shape, strides(static_cast<size_t>(x.ndim()));
  for (int axis = 0; axis < x.ndim(); ++axis) shape.push_back(x.dim(axis));
  auto stride = static_cast<py::ssize_t>(size_of(x.dtype()));
  for (int axis = x.ndim() - 1; axis >= 0; --axis) {
    strides[static_cast<size_t>(axis)] = stride;
    stride *= std::max<py::ssize_t>(x.dim(axis), 1);
  }
  return {numpy_dtype(x.dtype()), std::move(shape), std::move(strides), data, base};
}

using program::recorded;
using program::refuse_recording;

constexpr char kLooks[] = "Python looks at values while the network runs (numpy, item, float, ==)";
constexpr char kBrings[] = "values come from NumPy while the network runs";

// The same object when it is row-major already.
py::object row_major(const py::object& self) {
  const Array& x = self.cast<const Array&>();
  if (x.is_contiguous()) return self;
  Array y = [&] {
    const GilReleased release;
    return contiguous(x);
  }();
  return py::cast(std::move(y));
}

// Shares memory, writable: what Python may do to it is watched. In another layout, a row-major
// copy.
py::array writable_view(const py::object& self) {
  const Array& x = self.cast<const Array&>();
  if (!x.is_contiguous()) {
    const py::object copy = row_major(self);
    return numpy_view(copy.cast<const Array&>(), copy.cast<Array&>().data<void>(), copy);
  }
  const py::capsule lent(new Lent(x), [](void* held) { delete static_cast<Lent*>(held); });
  return numpy_view(x, const_cast<void*>(x.data<void>()), lent);
}

// For whoever only reads.
py::array read_only_view(const py::object& self) {
  const py::object plain = row_major(self);
  const Array& x = plain.cast<const Array&>();
  py::array view = numpy_view(x, const_cast<void*>(x.data<void>()), plain);
  py::detail::array_proxy(view.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return view;
}

py::object item(const Array& any) {
  program::Recorder* recorder = program::Recorder::active();
  if (recorder != nullptr && recorder->varies(any)) recorder->refuse(kLooks);
  if (any.shape().numel() != 1)
    throw ShapeError(message("[item] expected one element, got ", any.shape().numel(), " in shape ",
                             any.shape()));
  const Array x = contiguous(any);
  switch (x.dtype()) {
    case DType::float32: return py::float_(*x.data<float>());
    case DType::int64: return py::int_(*x.data<int64_t>());
    case DType::uint16: return py::int_(*x.data<uint16_t>());
    case DType::uint8: return py::int_(*x.data<uint8_t>());
  }
  return py::none();
}

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

// One value, or one a channel, as `channels` values.
std::vector<float> by_channel(const Floats& values, int64_t channels) {
  if (values.size() != 1 && values.size() != channels)
    throw ShapeError(message("[gather_batch] scale and shift have ", values.size(), " and ",
                             channels, " values, expected 1 or the same number"));
  std::vector<float> all(values.data(), values.data() + values.size());
  all.resize(static_cast<size_t>(channels), all[0]);
  return all;
}

Array gather(const py::array& x, const py::array& indices, const Floats& scale, const Floats& shift,
             bool gradient) {
  refuse_recording(kBrings);
  const char* const op = "gather_batch";
  if (dtype_of(indices, op) != DType::int64 || indices.ndim() != 1)
    throw DTypeError(message("[", op, "] expected int64 indices of one dimension, got ",
                             py::str(indices.dtype()).cast<std::string>(), " ", shape_of(indices)));
  const int64_t channels = std::max<int64_t>({1, scale.size(), shift.size()});
  const HostSamples samples{x.data(), dtype_of(x, op), shape_of(x), by_channel(scale, channels),
                            by_channel(shift, channels)};
  if ((x.flags() & py::array::c_style) == 0)
    throw std::invalid_argument(
        message("[", op, "] x is not C-contiguous: use np.ascontiguousarray(x)"));
  const Array order = from_numpy(indices, false);
  const GilReleased release;
  return gather_batch(samples, order.data<int64_t>(), order.dim(0), {gradient, true});
}

}  // namespace

DType dtype_of(const py::array& x, const char* op) {
  const py::dtype type = x.dtype();
  const bool native = type.byteorder() == '=' || type.byteorder() == '|';
  if (native) {
    const int number = type.normalized_num();
    if (number == py::dtype::num_of<float>()) return DType::float32;
    if (number == py::dtype::num_of<int64_t>()) return DType::int64;
    if (number == py::dtype::num_of<uint8_t>()) return DType::uint8;
  }
  const bool whole = type.kind() == 'i' || type.kind() == 'u' || type.kind() == 'b';
  throw DTypeError(message(
      "[", op, "] dtype ", py::str(type).cast<std::string>(),
      " is not supported (float32, int64 and uint8 in native byte order are): ", "use x.astype(np.",
      whole ? "int64) for labels, x.astype(np." : "", "float32)", whole ? " for values" : ""));
}

Shape shape_of(const py::array& x) {
  std::vector<int64_t> dims(x.shape(), x.shape() + x.ndim());
  return {dims.data(), static_cast<int>(dims.size())};
}

Array from_numpy(const py::array& x, bool copy, bool shared) {
  const DType dtype = dtype_of(x, "array");
  const Shape shape = shape_of(x);
  constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  constexpr int kWriteable = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  const bool contiguous = (x.flags() & py::array::c_style) != 0;
  // Arrays can be written to, so memory that NumPy calls read-only is not shared.
  if (!copy && contiguous && (x.flags() & kAligned) && (x.flags() & kWriteable) && x.size() > 0)
    return Array::view(x.inc_ref().ptr(), let_go, const_cast<void*>(x.data()), shape, dtype,
                       shared);
  Array y = Array::empty(shape, dtype);
  if (x.size() == 0) return y;
  if (contiguous) {
    const void* from = x.data();
    const auto bytes = static_cast<size_t>(x.nbytes());
    const GilReleased release;
    std::memcpy(y.data<void>(), from, bytes);
  } else {
    const py::array to = numpy_view(y, y.data<void>(), py::none());
    py::module_::import("numpy").attr("copyto")(to, x);
  }
  return y;
}

void register_array(py::module_& m) {
  py::class_<Array>(m, "Array", "Shape, dtype, layout and shared storage (csrc/core/array.h).")
      .def_property_readonly("shape", &Array::shape)
      .def_property_readonly("dtype", [](const Array& x) { return name_of(x.dtype()); })
      .def_property_readonly("is_contiguous", &Array::is_contiguous)
      .def_property_readonly(
          "address", [](const Array& x) { return reinterpret_cast<uintptr_t>(x.data<void>()); })
      .def("numpy",
           [](const py::object& self) {
             refuse_recording(kLooks);  // and it could write
             return writable_view(self);
           })
      .def("values",
           [](const py::object& self) {
             refuse_recording(kLooks);
             return read_only_view(self);
           })
      .def("contiguous", &row_major)
      .def("reshape", &reshape, py::arg("shape"))
      .def("copy", &copy, ReleaseGil())
      .def("item", &item)
      .def("written", &Array::written)
      .def_property_readonly("saved", [](const Array& x) { return x.version()->is_saved(); })
      .def("__repr__", [](const Array& x) {
        return message("Array(", x.shape(), ", ", name_of(x.dtype()), ", ", name_of(x.layout()),
                       ")");
      });

  m.def(
      "array",
      [](const py::object& x, bool copy, bool shared) {
        refuse_recording(kBrings);
        if (!py::isinstance<py::array>(x))
          throw DTypeError(message("[array] expected a NumPy array, got ",
                                   py::str(py::type::of(x).attr("__name__")).cast<std::string>(),
                                   ": use np.asarray(x, np.float32)"));
        return from_numpy(py::reinterpret_borrow<py::array>(x), copy, shared);
      },
      py::arg("x"), py::arg("copy") = true, py::arg("shared") = true);

  m.def("any_lent", [](const py::args& arrays) {
    return std::any_of(arrays.begin(), arrays.end(), [](py::handle x) {
      if (x.is_none()) return false;
      const Version* version = x.cast<const Array&>().version();
      return version != nullptr && version->is_lent();
    });
  });

  py::class_<Saved>(m, "Saved", "Arrays that a gradient needs (csrc/core/versions.h).")
      .def(py::init([](const std::vector<std::optional<Array>>& arrays) {
             std::vector<Array> defined;
             defined.reserve(arrays.size());
             for (const auto& x : arrays) defined.push_back(x.value_or(Array()));
             return std::make_unique<Saved>(std::move(defined));
           }),
           py::arg("arrays"))
      .def_property_readonly("changed", &Saved::changed)
      .def("__getitem__", [](const Saved& self, int64_t i) { return self[i]; });
  m.def("zeros", [](const Shape& shape) { return zeros(shape); }, py::arg("shape"), ReleaseGil());
  m.def("zeros_like", &zeros_like, py::arg("x"), ReleaseGil());
  m.def(
      "full", [](const Shape& shape, float value) { return full(shape, value); }, py::arg("shape"),
      py::arg("value"), ReleaseGil());
  m.def("gather_batch", &gather, py::arg("x"), py::arg("indices"), py::arg("scale"),
        py::arg("shift"), py::arg("gradient") = false);
}

}  // namespace fastconv::bind
