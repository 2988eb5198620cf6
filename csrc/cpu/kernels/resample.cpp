// Average pooling, nearest and bilinear interpolation, and their gradients: separable linear maps
// (contract: resample in cpu/kernels.h).
//
//   y[r][c] = sum_{i in rows(r)} sum_{j in cols(c)} w_i * w_j * x[index_i][index_j]
//
// Each output row takes two steps, both for every layout:
//
//     x rows(r)  | . . . . . . |  --sum over i-->  scratch | . . . . . . |  --sum over j-->  y[r]
//                                  vertical: whole rows,     horizontal: vectors in lanes,
//                                  contiguous                floats in plain images
//
// Cost of an output row: one multiply-add for each input element of rows(r), and one for each tap
// of cols(c); so memory is the ceiling. A single row of weight 1 is read where it is.
#include "cpu/kernels/functions.h"
#include "cpu/simd_math.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

// The vertical step of output row r. Returns scratch, or the input row itself when it is a single
// one of weight 1.
const float* sum_rows(const float* x, int64_t r, const Resample& m, float* scratch) {
  const int64_t begin = m.rows.begin[r], end = m.rows.begin[r + 1], length = m.in_cols * m.unit;
  if (end - begin == 1 && m.rows.weight[begin] == 1.0f) return x + m.rows.index[begin] * length;
  for_vectors(length, [&](int64_t i, int valid) {
    V sum = zero();
    for (int64_t t = begin; t < end; ++t)
      sum = fma(set1(m.rows.weight[t]), load_first(x + m.rows.index[t] * length + i, valid), sum);
    store_first(scratch + i, sum, valid);
  });
  return scratch;
}

void sum_cols_in_lanes(float* y, const float* row, int64_t c, const Resample& m, float divisor) {
  for (int part = 0; part < kParts; ++part) {
    V sum = zero();
    for (int64_t t = m.cols.begin[c]; t < m.cols.begin[c + 1]; ++t)
      sum = fma(set1(m.cols.weight[t]), load(row + m.cols.index[t] * kBlock + part * kWidth), sum);
    store(y + part * kWidth, divisor == 1.0f ? sum : sum / set1(divisor));
  }
}

float sum_cols(const float* row, int64_t c, const Resample& m, float divisor) {
  float sum = 0.0f;
  for (int64_t t = m.cols.begin[c]; t < m.cols.begin[c + 1]; ++t)
    sum += m.cols.weight[t] * row[m.cols.index[t]];
  return sum / divisor;
}

}  // namespace

void resample(float* y, const float* x, int64_t planes, const Resample& m, float* scratch) {
  for (int64_t plane = 0; plane < planes; ++plane, x += m.in_rows * m.in_cols * m.unit) {
    for (int64_t r = 0; r < m.out_rows; ++r) {
      const float* row = sum_rows(x, r, m, scratch);
      for (int64_t c = 0; c < m.out_cols; ++c, y += m.unit) {
        const float divisor = m.row_divisor ? m.row_divisor[r] * m.col_divisor[c] : 1.0f;
        if (m.unit == kBlock)
          sum_cols_in_lanes(y, row, c, m, divisor);
        else
          *y = sum_cols(row, c, m, divisor);
      }
    }
  }
}

}  // namespace fastconv::cpu::FASTCONV_ISA
