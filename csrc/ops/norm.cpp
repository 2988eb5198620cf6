#include "ops/norm.h"

#include "ops/check.h"
#include "program/run.h"

namespace fastconv {
namespace {

using program::run;

void check_channels(const char* op, const char* what, const Array& x) {
  check_float32(op, what, x);
  if (x.ndim() < 2)
    throw ShapeError(message("[", op, "] ", what,
                             " must have at least 2 dimensions (N, C, ...), got ", x.shape()));
  for (int axis = 1; axis < x.ndim(); ++axis)
    if (x.dim(axis) == 0)
      throw ShapeError(
          message("[", op, "] ", what, " has size 0 in dimension ", axis, ": ", x.shape()));
}

// One value a channel.
void check_vector(const char* op, const char* what, const Array& vector, int64_t C) {
  check_float32(op, what, vector);
  if (vector.shape() != Shape{C})
    throw ShapeError(message("[", op, "] ", what, " must have shape (", C,
                             ",), one value a channel, got ", vector.shape()));
}

void check_optional(const char* op, const char* what, const Array& vector, int64_t C) {
  if (vector.defined()) check_vector(op, what, vector, C);
}

void check_running(const char* what, const Array& running, int64_t C) {
  if (!running.defined()) return;
  check_vector("batch_norm", what, running, C);
  if (running.layout() != Layout::plain)
    throw std::invalid_argument(
        message("[batch_norm] ", what, " must be row-major to be updated in place"));
}

void check_add(const PostOps& post, const Array& x) {
  if (!post.add.defined()) return;
  check_float32("batch_norm", "plus", post.add);
  check_same_shape("batch_norm", "plus", post.add, "input", x);
}

void check_gradient(const char* op, const Array& dy, const Array& x) {
  check_channels(op, "input", x);
  check_float32(op, "dy", dy);
  check_same_shape(op, "dy", dy, "input", x);
}

LocalResponseNormParams checked_params(const char* op, const Array& x, int64_t size, double alpha,
                                       double beta, double k) {
  check_channels(op, "input", x);
  if (size < 1)
    throw std::invalid_argument(message("[", op, "] size must be at least 1, got ", size));
  return {size, static_cast<float>(alpha), static_cast<float>(beta), static_cast<float>(k)};
}

}  // namespace

Array channel_sum(const Array& x) {
  check_channels("channel_sum", "input", x);
  return run("channel_sum", &Operations::channel_sum, x);
}

std::tuple<Array, Array, Array, Array> batch_norm_train(const Array& x, const Array& weight,
                                                        const Array& bias, Array running_mean,
                                                        Array running_var, double momentum,
                                                        double eps, const PostOps& post, Use use) {
  const char* const op = "batch_norm";
  check_channels(op, "input", x);
  check_add(post, x);
  const int64_t C = x.dim(1);
  check_optional(op, "weight", weight, C);
  check_optional(op, "bias", bias, C);
  check_running("running_mean", running_mean, C);
  check_running("running_var", running_var, C);
  if (x.shape().numel() == C)
    throw std::invalid_argument(
        message("[batch_norm] training needs more than one value a channel, the "
                "input is ",
                x.shape(), "; use a larger batch, or model.eval()"));
  return run("batch_norm_train", &Operations::batch_norm_train, x, weight, bias, running_mean,
             running_var, momentum, eps, post, use);
}

std::tuple<Array, Array, Array, Array> batch_norm_train_backward(
    const Array& dy, const Array& x, const Array& weight, const Array& bias, const Array& mean,
    const Array& inv_std, const Array& y, Activation activation, bool wants_dadd) {
  const char* const op = "batch_norm_backward";
  check_gradient(op, dy, x);
  const int64_t C = x.dim(1);
  check_optional(op, "weight", weight, C);
  check_optional(op, "bias", bias, C);
  check_vector(op, "mean", mean, C);
  check_vector(op, "inv_std", inv_std, C);
  if (y.defined()) {
    check_float32(op, "y", y);
    check_same_shape(op, "y", y, "input", x);
  }
  return run("batch_norm_train_backward", &Operations::batch_norm_train_backward, dy, x, weight,
             bias, mean, inv_std, y, activation, wants_dadd);
}

void check_normalise(const Normalise& norm, int64_t C) {
  const char* const op = "batch_norm";
  check_optional(op, "weight", norm.weight, C);
  check_optional(op, "bias", norm.bias, C);
  check_vector(op, "running_mean", norm.mean, C);
  check_vector(op, "running_var", norm.var, C);
}

std::pair<Array, Array> batch_norm_eval(const Array& x, const PostOps& post, Use use) {
  check_channels("batch_norm", "input", x);
  check_add(post, x);
  check_normalise(*post.normalise, x.dim(1));
  return run("batch_norm_eval", &Operations::batch_norm_eval, x, post, use);
}

std::tuple<Array, Array, Array> batch_norm_eval_backward(const Array& dy, const Array& x,
                                                         const Array& weight, const Array& mean,
                                                         const Array& var, double eps) {
  const char* const op = "batch_norm_backward";
  check_gradient(op, dy, x);
  const int64_t C = x.dim(1);
  check_optional(op, "weight", weight, C);
  check_vector(op, "mean", mean, C);
  check_vector(op, "var", var, C);
  return run("batch_norm_eval_backward", &Operations::batch_norm_eval_backward, dy, x, weight, mean,
             var, eps);
}

// dy * weight / sqrt(var + eps): the forward formula without mean and bias.
Array batch_norm_eval_backward_input(const Array& dy, const Array& weight, const Array& var,
                                     double eps) {
  const char* const op = "batch_norm_backward";
  check_channels(op, "dy", dy);
  check_optional(op, "weight", weight, dy.dim(1));
  check_vector(op, "var", var, dy.dim(1));
  const PostOps post{Normalise{weight, {}, {}, var, eps}, {}, Activation::none, {}};
  return run("batch_norm_eval_backward_input", &Operations::batch_norm_eval, dy, post, std::nullopt)
      .first;
}

std::pair<Array, Array> local_response_norm(const Array& x, int64_t size, double alpha, double beta,
                                            double k, Use use) {
  const char* const op = "local_response_norm";
  return run(op, &Operations::local_response_norm, x, checked_params(op, x, size, alpha, beta, k),
             use);
}

Array local_response_norm_backward(const Array& dy, const Array& x, int64_t size, double alpha,
                                   double beta, double k) {
  const char* const op = "local_response_norm_backward";
  const LocalResponseNormParams params = checked_params(op, x, size, alpha, beta, k);
  check_gradient(op, dy, x);
  return run(op, &Operations::local_response_norm_backward, dy, x, params);
}

}  // namespace fastconv
