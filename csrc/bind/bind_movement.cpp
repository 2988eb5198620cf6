// Bindings of the operations that move pixels.
#include "bind/bind.h"
#include "ops/movement.h"

namespace fastconv::bind {

void register_movement(py::module_& m) {
  m.def("pad2d", &pad2d, py::arg("x"), py::arg("pads"), py::arg("value"), ReleaseGil());
  m.def("cat", &cat, py::arg("arrays"), py::arg("axis"), ReleaseGil());
  m.def("slice_axis", &slice_axis, py::arg("x"), py::arg("axis"), py::arg("begin"), py::arg("end"),
        ReleaseGil());
  m.def("gather2d", &gather2d, py::arg("x"), py::arg("rows"), py::arg("cols"), ReleaseGil());
  m.def("gather2d_backward", &gather2d_backward, py::arg("dy"), py::arg("rows"), py::arg("cols"),
        py::arg("x_shape"), ReleaseGil());
  m.def("upsample_bilinear2d", &upsample_bilinear2d, py::arg("x"), py::arg("output_size"),
        py::arg("align_corners"), ReleaseGil());
  m.def("upsample_bilinear2d_backward", &upsample_bilinear2d_backward, py::arg("dy"),
        py::arg("x_shape"), py::arg("align_corners"), ReleaseGil());
}

}  // namespace fastconv::bind
