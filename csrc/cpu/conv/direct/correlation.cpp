#include "cpu/conv/direct/correlation.h"

#include <algorithm>

#include "cpu/conv/stride_phases.h"

namespace fastconv::cpu {
namespace {

CorrelationAxis forward_axis(int64_t outputs, int64_t inputs, int64_t kernel, int64_t pad,
                             int64_t stride, int64_t dilation, int64_t w_tap) {
  CorrelationAxis axis{outputs, outputs, 0, 1, inputs, -pad, stride, {}, {}};
  for (int64_t r = 0; r < kernel; ++r) {
    axis.taps.push_back(r * dilation);
    axis.w_taps.push_back(r * w_tap);
  }
  return axis;
}

std::vector<CorrelationAxis> backward_axes(int64_t outputs, int64_t inputs, int64_t kernel,
                                           int64_t pad, int64_t stride, int64_t dilation,
                                           int64_t w_tap) {
  std::vector<CorrelationAxis> axes;
  for (const StridePhase& phase : stride_phases(inputs, kernel, pad, stride, dilation)) {
    CorrelationAxis axis{
        phase.count, inputs, phase.first, stride, outputs, (phase.first + pad) / stride, 1, {}, {}};
    for (const int64_t r : phase.taps) {
      axis.taps.push_back(-(r * dilation / stride));
      axis.w_taps.push_back(r * w_tap);
    }
    axes.push_back(axis);
  }
  return axes;
}

// How many outputs of a phase come before output number `at` of the axis.
int64_t count_before(const CorrelationAxis& phase, int64_t at) {
  return std::clamp<int64_t>(ceil_div(std::max<int64_t>(at - phase.y_first, 0), phase.y_step), 0,
                             phase.count);
}

}  // namespace

Correlation forward_correlation(const Conv2dShape& s, bool streaming) {
  const Geometry& g = s.geometry;
  const int64_t w_c = s.KH * s.KW, w_k = s.IC_per_group * w_c;
  return {g.groups,
          s.OC_per_group,
          s.IC_per_group,
          s.OC_per_group * w_k,
          w_k,
          w_c,
          {forward_axis(s.OH, s.IH, s.KH, g.pads[0], g.stride[0], g.dilation[0], s.KW)},
          {forward_axis(s.OW, s.IW, s.KW, g.pads[2], g.stride[1], g.dilation[1], 1)},
          streaming};
}

Correlation backward_input_correlation(const Conv2dShape& s, bool streaming) {
  const Geometry& g = s.geometry;
  const int64_t w_k = s.KH * s.KW, w_c = s.IC_per_group * w_k;
  return {g.groups,
          s.IC_per_group,
          s.OC_per_group,
          s.OC_per_group * w_c,
          w_k,
          w_c,
          backward_axes(s.OH, s.IH, s.KH, g.pads[0], g.stride[0], g.dilation[0], s.KW),
          backward_axes(s.OW, s.IW, s.KW, g.pads[2], g.stride[1], g.dilation[1], 1),
          streaming};
}

std::vector<CorrelationAxis> outputs_from(const std::vector<CorrelationAxis>& axis, int64_t at) {
  std::vector<CorrelationAxis> rest;
  for (CorrelationAxis phase : axis) {
    const int64_t before = count_before(phase, at);
    phase.y_first += before * phase.y_step, phase.x_first += before * phase.x_step;
    phase.count -= before;
    if (phase.count > 0) rest.push_back(phase);
  }
  return rest;
}

std::vector<CorrelationAxis> outputs_before(const std::vector<CorrelationAxis>& axis, int64_t at) {
  std::vector<CorrelationAxis> first;
  for (CorrelationAxis phase : axis) {
    phase.count = count_before(phase, at);
    if (phase.count > 0) first.push_back(phase);
  }
  return first;
}

}  // namespace fastconv::cpu
