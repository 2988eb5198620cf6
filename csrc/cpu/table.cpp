#include "cpu/table.h"

#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/linear.h"
#include "cpu/movement.h"
#include "cpu/pool.h"
#include "cpu/resample.h"
#include "cpu/values.h"

namespace fastconv::cpu {
namespace {

Operations make_table() {
  Operations table{};
  // ---- values
  table.full = full;
  table.zeros_like = zeros_like;
  table.copy = copy;
  table.contiguous = contiguous;
  table.assign = assign;
  table.count_up = count_up;
  table.gather_batch = gather_batch;
  // ---- linear layers
  table.linear = linear;
  table.linear_backward_input = linear_backward_input;
  table.linear_backward_weight = linear_backward_weight;
  // ---- pooling and resampling
  table.max_pool2d = max_pool2d;
  table.max_pool2d_backward = max_pool2d_backward;
  table.max_pool2d_indices = max_pool2d_indices;
  table.resample = resample;
  // ---- elementwise
  table.unary = unary;
  table.binary = binary;
  table.add_into = add_into;
  table.dropout = dropout;
  table.sum = sum;
  // ---- movement
  table.pad2d = pad2d;
  table.cat = cat;
  table.slice_axis = slice_axis;
  table.gather2d = gather2d;
  return table;
}

}  // namespace

const Operations& operations() {
  static const Operations table = make_table();
  return table;
}

}  // namespace fastconv::cpu
