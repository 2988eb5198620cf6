// Plane by plane of outputs; where planes are few, a task is some rows of one.
#include "cpu/conv/small_batch/depthwise.h"

#include <algorithm>

#include "cpu/conv/channel_post_ops.h"
#include "cpu/dispatch.h"
#include "cpu/runtime/scratch.h"
#include "cpu/runtime/split.h"

namespace fastconv::cpu {
namespace {

// What the kernel reads without a copy.
bool is_in_place(const Conv2dShape& s) {
  const int64_t stride = s.geometry.stride[0], K = s.KH;
  return s.geometry.dilation[0] == 1 && s.geometry.stride[1] == stride &&
         ((stride == 1 && (K <= 3 || K == 5 || K == 7)) || (stride == 2 && (K == 3 || K == 5)));
}

}  // namespace

bool depthwise_small_batch_pays(const Conv2dShape& s) {
  return s.IC_per_group == 1 && (s.OC_per_group == 1 || is_in_place(s));
}

void depthwise_small_batch(float* y, const float* x, const float* w, const float* bias,
                           const Conv2dShape& s, const ChannelPostOps& post) {
  const Geometry& p = s.geometry;
  const int64_t x_plane = s.IH * s.IW, y_plane = s.OH * s.OW, taps = s.KH * s.KW;
  const int64_t planes = s.N * s.OC;
  constexpr int64_t kTasks = 16, kWholeTiles = 28;  // rows that every instruction set tiles well
  const int64_t task_rows = ceil_div(s.OH, std::max<int64_t>(1, kTasks / planes));
  const int64_t rows = std::min(s.OH, ceil_div(task_rows, kWholeTiles) * kWholeTiles);
  const int64_t tasks_of_plane = ceil_div(s.OH, rows);

  DepthwiseImage job{};
  job.window = {s.IH,        s.IW,      s.OH,      s.OW,          s.KH,          s.KW, p.stride[0],
                p.stride[1], p.pads[0], p.pads[2], p.dilation[0], p.dilation[1], 1};
  job.in_place = is_in_place(s);
  const int64_t span = (s.KW - 1) * p.dilation[1];
  job.phases = std::min(p.stride[1], span + 1);
  job.pitch = ceil_div(span / p.stride[1] + ceil_div(s.OW, kLanes) * kLanes, kLanes) * kLanes;
  const auto window_rows = [&](int64_t count) {
    return (count - 1) * p.stride[0] + (s.KH - 1) * p.dilation[0] + 1;
  };
  // The window of a tile of rows takes half of L1.
  constexpr int64_t kWindowFloats = 4096;
  const int64_t most = kWindowFloats / (job.phases * job.pitch) - window_rows(1);
  job.band = std::clamp<int64_t>(most / p.stride[0] + 1, std::min<int64_t>(7, rows), rows);
  job.band = ceil_div(rows, ceil_div(rows, job.band));
  const int64_t floats = job.in_place ? s.IW : window_rows(job.band) * job.phases * job.pitch;

  const int64_t work = rows * s.OW * std::max<int64_t>(1, taps / 8);
  for_chunks(planes * tasks_of_plane, work, [&](int64_t begin, int64_t end) {
    Scratch<float> scratch(floats + kLanes);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t plane = i / tasks_of_plane, row = i % tasks_of_plane * rows, k = plane % s.OC;
      const int64_t at = plane * y_plane + row * s.OW;
      DepthwiseImage own = job;
      own.window.OH = std::min(rows, s.OH - row);
      own.window.PT -= row * p.stride[0];
      cpu::kernels().depthwise_image(
          y + at, x + (plane / s.OC * s.IC + k / s.OC_per_group) * x_plane, w + k * taps,
          bias ? bias + k : nullptr, own, post_ops_from(post, k, at), scratch.data());
    }
  });
}

bool depthwise_weight_small_batch_applies(const Conv2dShape& s) {
  const Geometry& p = s.geometry;
  constexpr int64_t kMostOutputs = 2;  // of a group: each would load x again
  return s.IC_per_group == 1 && s.OC_per_group <= kMostOutputs && s.KH == s.KW &&
         (s.KH == 3 || s.KH == 5) && p.stride[0] == p.stride[1] && p.stride[0] <= 2 &&
         p.dilation == std::array<int64_t, 2>{1, 1};
}

void depthwise_weight_small_batch(float* dw, const float* dy, const float* x,
                                  const Conv2dShape& s) {
  const int64_t x_plane = s.IH * s.IW, y_plane = s.OH * s.OW, taps = s.KH * s.KW;
  const int64_t zeros = std::max(s.IW, s.OW);
  for_chunks(s.OC, s.N * y_plane * taps / 8, [&](int64_t begin, int64_t end) {
    Scratch<float> row(zeros);
    std::fill_n(row.data(), zeros, 0.0f);
    for (int64_t k = begin; k < end; ++k)
      cpu::kernels().depthwise_image_weight(
          {s.N, s.IH, s.IW, s.OH, s.OW, s.KH, s.geometry.stride[0], s.geometry.pads[0],
           s.geometry.pads[2], dy + k * y_plane, s.OC * y_plane, x + k / s.OC_per_group * x_plane,
           s.IC * x_plane, row.data(), dw + k * taps});
  });
}

}  // namespace fastconv::cpu
