// Sums by channel, batch normalisation, local response normalisation. x is (N, C, ...), plain or in
// lanes; weight, bias, means and variances are plain (C,). Empty lanes do not count, and dx is zero
// there.
#pragma once

#include "core/array.h"

namespace fastconv {

Array channel_sum(const Array& x);  // (N, C, ...) -> (C,): the gradient of a bias

// What may come behind batch normalisation in the same pass over memory: y = act(normalised +
// plus), where act is ReLU below `cap` (6 for ReLU6), and plus has the shape of x.
struct Epilogue {
  bool relu = false;
  double cap = 0.0;  // infinity for ReLU
  Array plus;        // undefined for none
};

// What evaluation normalises by; weight and bias may be undefined.
struct NormStatistics {
  Array weight, bias, mean, var;
  double eps;
};

// y = (x - mean) * inv_std * weight + bias, inv_std = 1 / sqrt(variance + eps).
struct BatchNorm {
  Array y, mean, inv_std;
};
struct BatchNormGradients {
  Array dx, dweight, dbias;
  Array dplus;  // where wanted
};

// Statistics of this batch, the variance biased. weight, bias (1 and 0 when undefined),
// running_mean and running_var may be undefined; the last two move by momentum * (batch - running),
// with the unbiased variance.
BatchNorm batch_norm_train(const Array& x, const Array& weight, const Array& bias,
                           Array running_mean, Array running_var, double momentum, double eps,
                           const Epilogue& epilogue = {});
Array batch_norm_eval(const Array& x, const Array& weight, const Array& bias, const Array& mean,
                      const Array& var, double eps, const Epilogue& epilogue = {});
// The same as y = x * scale + shift of C channels, for an operation that does it on the way.
struct ChannelMap {
  Array scale, shift;
};
ChannelMap batch_norm_map(int64_t C, const NormStatistics& norm);
// What came behind the normalisation that a gradient passes: a ReLU below `cap` if that is above 0.
// Its result y is needed where something was added before it; else it is found from x and bias
// again, which costs less than reading it.
struct BehindNorm {
  double cap = 0.0;
  Array y, bias;
  bool wants_dplus = false;
};
BatchNormGradients batch_norm_train_backward(const Array& dy, const Array& x, const Array& weight,
                                             const Array& mean, const Array& inv_std,
                                             const BehindNorm& behind = {});
BatchNormGradients batch_norm_eval_backward(const Array& dy, const Array& x, const Array& weight,
                                            const Array& mean, const Array& var, double eps);

// y = x / (k + alpha / size * sum over neighbouring channels of x^2)^beta, the `size` neighbours of
// channel c being c - size / 2 to c + (size - 1) / 2.
Array local_response_norm(const Array& x, int64_t size, double alpha, double beta, double k);
Array local_response_norm_backward(const Array& dy, const Array& x, int64_t size, double alpha,
                                   double beta, double k);

}  // namespace fastconv
