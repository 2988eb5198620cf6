// Batch normalisation, local response normalisation, and sums by channel. x is (N, C, ...); weight,
// bias, means and variances are (C,).
#pragma once

#include "contract/operations.h"

namespace fastconv {

Array channel_sum(const Array& x);  // (N, C, ...) -> (C,): the gradient of a bias

// Batch normalisation: y = activation((x - mean) / sqrt(var + eps) * weight + bias + add). weight
// and bias may be undefined, for 1 and 0.

// By the statistics of this batch, the variance biased. The running ones may be undefined; they
// move by momentum * (batch - running), with the unbiased variance. post: add and activation.
// Returns y, mean, 1 / sqrt(var + eps), and x for the way back.
std::tuple<Array, Array, Array, Array> batch_norm_train(const Array& x, const Array& weight,
                                                        const Array& bias, Array running_mean,
                                                        Array running_var, double momentum,
                                                        double eps, const PostOps& post, Use use);
// dx, dweight, dbias, and the gradient of what was added, undefined unless wanted. y is the result
// of the activation, needed where something was added before it, else undefined: then x and bias
// tell.
std::tuple<Array, Array, Array, Array> batch_norm_train_backward(
    const Array& dy, const Array& x, const Array& weight, const Array& bias, const Array& mean,
    const Array& inv_std, const Array& y, Activation activation, bool wants_dadd);

// By known statistics: post.normalise, then add and activation. Returns y, and x for the way back.
std::pair<Array, Array> batch_norm_eval(const Array& x, const PostOps& post, Use use);
// dx, dweight, dbias; without post-ops.
std::tuple<Array, Array, Array> batch_norm_eval_backward(const Array& dy, const Array& x,
                                                         const Array& weight, const Array& mean,
                                                         const Array& var, double eps);
// dx alone, where weight and bias are frozen.
Array batch_norm_eval_backward_input(const Array& dy, const Array& weight, const Array& var,
                                     double eps);
// What normalises C channels, as a post-op of any operation.
void check_normalise(const Normalise& norm, int64_t C);

// y = x / (k + alpha / size * sum over neighbouring channels of x^2)^beta, the `size` neighbours of
// channel c being c - size / 2 to c + (size - 1) / 2. Returns y, and x for the way back.
std::pair<Array, Array> local_response_norm(const Array& x, int64_t size, double alpha, double beta,
                                            double k, Use use);
Array local_response_norm_backward(const Array& dy, const Array& x, int64_t size, double alpha,
                                   double beta, double k);

}  // namespace fastconv
