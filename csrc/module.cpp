// The Python module fastconv._core: exceptions, then one register function for each file of bind/.
#include "bind/bind.h"
#include "core/errors.h"

namespace py = pybind11;

// What pybind11 knows of types is shared by all interpreters of a process, and CPython before 3.12
// waits for ever where pybind11 takes the GIL in a second one: it is told so before that.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core_of_main();
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit__core_of_main();
  PyErr_SetString(PyExc_ImportError,
                  "[import] fastconv works in the main interpreter of a process, and this is a "
                  "subinterpreter: run it in a process of its own (under mod_wsgi with "
                  "WSGIApplicationGroup %{GLOBAL})");
  return nullptr;
}

PYBIND11_MODULE(_core_of_main, m, py::mod_gil_not_used()) {
  using namespace fastconv;
  m.doc() = "The compiled core of fastconv: arrays, checked operations, kernels.";
  m.attr("__version__") = FASTCONV_VERSION;

  py::register_exception<ShapeError>(m, "ShapeError", PyExc_ValueError).attr("__module__") =
      "fastconv";
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const DTypeError& error) {
      py::set_error(PyExc_TypeError, error.what());
    } catch (const SizeError& error) {
      py::set_error(PyExc_OverflowError, error.what());
    }
  });

  bind::register_array(m);
  bind::register_runtime(m);
  bind::register_conv(m);
  bind::register_linear(m);
  bind::register_pool(m);
  bind::register_elementwise(m);
  bind::register_movement(m);
  bind::register_norm(m);
  bind::register_loss(m);
  bind::register_optim(m);
  bind::register_program(m);
}
