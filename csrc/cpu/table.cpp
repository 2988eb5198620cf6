#include "cpu/table.h"

#include "cpu/conv/route.h"
#include "cpu/elementwise.h"
#include "cpu/layout.h"
#include "cpu/linear.h"
#include "cpu/loss.h"
#include "cpu/movement.h"
#include "cpu/norm.h"
#include "cpu/optim.h"
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
  // ---- convolution
  table.conv2d = conv2d;
  table.conv2d_backward_input = conv2d_backward_input;
  table.conv2d_backward_weight = conv2d_backward_weight;
  table.post_ops_backward = post_ops_backward;
  table.fuses_conv2d_backward = fuses_conv2d_backward;
  table.conv2d_backward = conv2d_backward;
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
  table.scale_by = scale_by;
  table.sum = sum;
  // ---- movement
  table.pad2d = pad2d;
  table.cat = cat;
  table.slice_axis = slice_axis;
  table.gather2d = gather2d;
  // ---- normalisation
  table.channel_sum = channel_sum;
  table.batch_norm_train = batch_norm_train;
  table.batch_norm_train_backward = batch_norm_train_backward;
  table.batch_norm_eval = batch_norm_eval;
  table.batch_norm_eval_backward = batch_norm_eval_backward;
  table.local_response_norm = local_response_norm;
  table.local_response_norm_backward = local_response_norm_backward;
  // ---- softmax and losses
  table.softmax = softmax;
  table.softmax_backward = softmax_backward;
  table.log_softmax = log_softmax;
  table.log_softmax_backward = log_softmax_backward;
  table.cross_entropy = cross_entropy;
  table.pointwise_loss = pointwise_loss;
  table.count_correct = count_correct;
  // ---- optimisers
  table.sgd_step = sgd_step;
  table.rmsprop_step = rmsprop_step;
  table.adam_step = adam_step;
  table.adagrad_step = adagrad_step;
  table.take_steps = take_steps;
  table.grad_norm = grad_norm;
  table.scale_all = scale_all;
  return table;
}

}  // namespace

const Operations& operations() {
  static const Operations table = make_table();
  return table;
}

}  // namespace fastconv::cpu
