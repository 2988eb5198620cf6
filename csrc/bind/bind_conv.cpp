// Bindings of convolution.
#include "bind/bind.h"
#include "ops/conv2d.h"

namespace fastconv::bind {
namespace {

using Optional = const std::optional<Array>&;

}  // namespace

void register_conv(py::module_& m) {
  py::class_<Geometry>(m, "Geometry", "How windows lie on an image (csrc/contract/conv2d_shape.h).")
      .def(py::init([](Pair stride, Pads pads, Pair dilation, int64_t groups) {
             return Geometry{stride, pads, dilation, groups};
           }),
           py::arg("stride"), py::arg("pads"), py::arg("dilation"), py::arg("groups"))
      .def(
          "output_shape",
          [](const Geometry& self, const Shape& x, const Shape& w) {
            return conv2d_shape(x, w, self).y();
          },
          py::arg("x"), py::arg("w"));
  m.def(
      "conv2d_shape",
      [](const Array& x, const Array& w, Optional b, const Geometry& geometry) {
        return conv2d_shape(x, w, or_undefined(b), geometry).y();
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("geometry"));
  m.def(
      "conv2d",
      [](const Array& x, const Array& w, Optional b, const Geometry& geometry,
         Activation activation, const std::optional<PoolParams>& pool, bool gradient, bool leaf) {
        PostOps post;
        post.activation = activation;
        const auto [y, argmax, kept] =
            conv2d(x, w, or_undefined(b), geometry, post, pool, {gradient, leaf});
        return std::tuple(y, or_none(argmax), gradient ? or_none(kept) : std::nullopt);
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("geometry"),
      py::arg("activation") = py::none(), py::arg("pool") = py::none(), py::arg("gradient") = false,
      py::arg("leaf") = true, ReleaseGil());
  m.def(
      "conv2d_normalised",
      [](const Array& x, const Array& w, Optional b, const Geometry& geometry, Optional weight,
         Optional bias, const Array& mean, const Array& var, double eps, Activation activation,
         Optional add) {
        const PostOps post{Normalise{or_undefined(weight), or_undefined(bias), mean, var, eps},
                           or_undefined(add),
                           activation,
                           {}};
        return std::get<0>(conv2d(x, w, or_undefined(b), geometry, post, {}, {}));
      },
      py::arg("x"), py::arg("w"), py::arg("b"), py::arg("geometry"), py::arg("weight"),
      py::arg("bias"), py::arg("mean"), py::arg("var"), py::arg("eps"),
      py::arg("activation") = py::none(), py::arg("add") = py::none(), ReleaseGil());
  m.def(
      "conv2d_backward_input",
      [](const Array& dy, const Array& w, const Shape& x_shape, const Geometry& geometry,
         Optional b, bool gradient, bool leaf) {
        return conv2d_backward_input(dy, w, x_shape, or_undefined(b), geometry, {gradient, leaf});
      },
      py::arg("dy"), py::arg("w"), py::arg("x_shape"), py::arg("geometry"),
      py::arg("b") = py::none(), py::arg("gradient") = false, py::arg("leaf") = true, ReleaseGil());
  m.def("conv2d_backward_weight", &conv2d_backward_weight, py::arg("dy"), py::arg("x"),
        py::arg("w_shape"), py::arg("geometry"), ReleaseGil());
  m.def(
      "conv2d_backward",
      [](const Array& dy, Optional y, Optional argmax, Optional x, const Shape& x_shape,
         const Array& w, const Geometry& geometry, Activation activation,
         const std::optional<PoolParams>& pool, std::tuple<bool, bool, bool> wanted) {
        const auto [need_x, need_w, need_b] = wanted;
        const auto [dx, dw, db] =
            conv2d_backward(dy, or_undefined(y), or_undefined(argmax), or_undefined(x), x_shape, w,
                            geometry, activation, pool, {need_x, need_w, need_b});
        return std::tuple(or_none(dx), or_none(dw), or_none(db));
      },
      py::arg("dy"), py::arg("y"), py::arg("argmax"), py::arg("x"), py::arg("x_shape"),
      py::arg("w"), py::arg("geometry"), py::arg("activation"), py::arg("pool"), py::arg("wanted"),
      ReleaseGil());
}

}  // namespace fastconv::bind
