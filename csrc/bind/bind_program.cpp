// Recorded programs: Recorder writes down what a thread does, Program does it again.
#include <string>

#include "bind/bind.h"
#include "program/program.h"
#include "program/recorder.h"

namespace fastconv::bind {
namespace {

using program::Program;
using program::Recorder;

// Shapes, element types and layouts of several arrays as one key for a dict.
py::bytes signature(const Arrays& arrays) {
  std::string key;
  for (const Array& x : arrays) {
    int64_t words[2 + kMaxDims] = {static_cast<int64_t>(x.dtype()) * 2 + x.in_lanes(), x.ndim()};
    for (int axis = 0; axis < x.ndim(); ++axis) words[2 + axis] = x.dim(axis);
    key.append(reinterpret_cast<const char*>(words),
               sizeof(words[0]) * static_cast<size_t>(2 + x.ndim()));
  }
  return key;
}

}  // namespace

void register_program(py::module_& m) {
  m.def("signature", &signature, py::arg("arrays"));

  py::class_<Recorder>(m, "Recorder", "Writes operations down (csrc/program/recorder.h).")
      .def(py::init<Arrays>(), py::arg("inputs"))
      .def("__enter__",
           [](const py::object& self) {
             self.cast<Recorder&>().start();
             return self;
           })
      .def("__exit__", [](Recorder& self, const py::args&) { self.stop(); })
      .def("refuse", &Recorder::refuse, py::arg("reason"))
      .def_property_readonly("reason", &Recorder::reason)
      .def("finish", &Recorder::finish, py::arg("outputs"));

  py::class_<Program>(m, "Program", "Recorded operations (csrc/program/program.h).")
      .def("run", &Program::run, py::arg("inputs"), py::arg("seeds"), ReleaseGil())
      .def_property_readonly("seeds", &Program::seeds)
      .def("__str__", &Program::str);
}

}  // namespace fastconv::bind
