#include "cpu/conv/small_batch/window.h"

#include <algorithm>

namespace fastconv::cpu {

void copy_strided(float* to, const float* from, int64_t n, int64_t stride) {
  if (stride == 1)
    std::copy_n(from, n, to);
  else if (stride == 2)  // known to the compiler: it shuffles whole vectors
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * 2];
  else
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
}

SmallBatchWindow::SmallBatchWindow(const Conv2dShape& s)
    : width(s.OW + (s.KW - 1) * s.geometry.dilation[1] / s.geometry.stride[1]),
      phase_rows(std::min(s.geometry.stride[0], (s.KH - 1) * s.geometry.dilation[0] + 1)),
      phase_cols(std::min(s.geometry.stride[1], (s.KW - 1) * s.geometry.dilation[1] + 1)),
      s_(s),
      reach_((s.KH - 1) * s.geometry.dilation[0] / s.geometry.stride[0]) {}

void SmallBatchWindow::taps(int64_t* places) const {
  const Geometry& p = s_.geometry;
  for (int64_t r = 0; r < s_.KH; ++r) {
    const int64_t row = r * p.dilation[0], of_phase = row % p.stride[0] * phase_cols;
    const int64_t begin = row / p.stride[0] * width;
    for (int64_t t = 0; t < s_.KW; ++t) {
      const int64_t col = t * p.dilation[1], in_phase = of_phase + col % p.stride[1];
      *places++ = in_phase * phase() + begin + col / p.stride[1];
    }
  }
}

void SmallBatchWindow::copy(float* out, const float* x, int64_t row0, int64_t rows) const {
  const Geometry& p = s_.geometry;
  const int64_t count = rows + reach_;
  if (channel() == phase() && p.pads[0] == 0 && width == s_.IW && p.pads[2] == 0 &&
      p.stride[0] == 1) {
    const int64_t there = std::clamp<int64_t>(s_.IH - row0, 0, count);
    std::fill_n(std::copy_n(x + row0 * s_.IW, there * s_.IW, out), (count - there) * s_.IW, 0.0f);
    return;
  }
  for (int64_t a = 0; a < phase_rows; ++a)
    for (int64_t b = 0; b < phase_cols; ++b, out += phase()) {
      // Columns first <= j < last have 0 <= j * stride + b - left < IW.
      const int64_t shift = b - p.pads[2], step = p.stride[1];
      const int64_t first = std::min(width, shift >= 0 ? 0 : ceil_div(-shift, step));
      const int64_t last =
          std::clamp(shift < s_.IW ? ceil_div(s_.IW - shift, step) : 0, first, width);
      float* to = out;
      for (int64_t i = row0; i < row0 + count; ++i, to += width) {
        const int64_t ih = i * p.stride[0] + a - p.pads[0];
        if (ih < 0 || ih >= s_.IH) {
          std::fill_n(to, width, 0.0f);
          continue;
        }
        const float* in = x + ih * s_.IW + shift;
        std::fill(to, to + first, 0.0f);
        copy_strided(to + first, in + first * step, last - first, step);
        std::fill(to + last, to + width, 0.0f);
      }
    }
}

}  // namespace fastconv::cpu
