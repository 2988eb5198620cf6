// Bindings of the operations that move pixels.
#include "bind/bind.h"
#include "cpu/layout.h"
#include "ops/movement.h"

namespace fastconv::bind {

void register_movement(py::module_& m) {
  define(m, "pad2d", &pad2d, py::arg("x"), py::arg("pads"), py::arg("value"));
  define(m, "cat", &cat, py::arg("arrays"), py::arg("axis"));
  define(m, "slice_axis", &slice_axis, py::arg("x"), py::arg("axis"), py::arg("begin"),
         py::arg("end"));
  define(m, "gather2d", &gather2d, py::arg("x"), py::arg("rows"), py::arg("cols"));
  define(m, "gather2d_backward", &gather2d_backward, py::arg("dy"), py::arg("rows"),
         py::arg("cols"), py::arg("x_shape"));
  define(m, "upsample_bilinear2d", &upsample_bilinear2d, py::arg("x"), py::arg("output_size"),
         py::arg("align_corners"));
  define(m, "upsample_bilinear2d_backward", &upsample_bilinear2d_backward, py::arg("dy"),
         py::arg("x_shape"), py::arg("align_corners"));
}

}  // namespace fastconv::bind
