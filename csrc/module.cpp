// The Python module fastconv._core: exceptions, then one register function for each file of bind/.
#include "bind/bind.h"
#include "core/errors.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
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
