// The CPU's normalisations (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

Array channel_sum(const Array& x);
std::tuple<Array, Array, Array, Array> batch_norm_train(const Array& x, const Array& weight,
                                                        const Array& bias, Array& running_mean,
                                                        Array& running_var, double momentum,
                                                        double eps, const PostOps& post, Use use);
std::tuple<Array, Array, Array, Array> batch_norm_train_backward(
    const Array& dy, const Array& x, const Array& weight, const Array& bias, const Array& mean,
    const Array& inv_std, const Array& y, Activation activation, bool wants_dadd);
std::pair<Array, Array> batch_norm_eval(const Array& x, const PostOps& post,
                                        std::optional<Use> use);
std::tuple<Array, Array, Array> batch_norm_eval_backward(const Array& dy, const Array& x,
                                                         const Array& weight, const Array& mean,
                                                         const Array& var, double eps);

// Normalising C channels as y = x * scale + shift, for an operation that does it on the way.
struct ChannelMap {
  Array scale, shift;
};
ChannelMap channel_map(const Normalise& norm, int64_t C);

std::pair<Array, Array> local_response_norm(const Array& x, const LocalResponseNormParams& norm,
                                            Use use);
Array local_response_norm_backward(const Array& dy, const Array& x,
                                   const LocalResponseNormParams& norm);

}  // namespace fastconv::cpu
