#include "cpu/table.h"

#include "cpu/loss.h"
#include "cpu/norm.h"
#include "cpu/optim.h"

namespace fastconv::cpu {
namespace {

Operations make_table() {
  Operations table{};

  // normalisation
  table.channel_sum = channel_sum;
  table.batch_norm_train = batch_norm_train;
  table.batch_norm_train_backward = batch_norm_train_backward;
  table.batch_norm_eval = batch_norm_eval;
  table.batch_norm_eval_backward = batch_norm_eval_backward;
  table.local_response_norm = local_response_norm;
  table.local_response_norm_backward = local_response_norm_backward;

  // softmax and losses
  table.softmax = softmax;
  table.softmax_backward = softmax_backward;
  table.log_softmax = log_softmax;
  table.log_softmax_backward = log_softmax_backward;
  table.cross_entropy = cross_entropy;
  table.pointwise_loss = pointwise_loss;
  table.count_correct = count_correct;

  // optimisers
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
