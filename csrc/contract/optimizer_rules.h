// The update rules of torch.optim. g is the gradient after sign (maximize) and weight decay. Plain
// data: kernels include it, too.
#pragma once

namespace fastconv {

// SGD, without momentum: p -= lr * g. With it:
//   m = momentum * m + (1 - dampening) * g, but m = g at first
//   p -= lr * (nesterov ? g + momentum * m : m)
struct SgdRule {
  float lr, momentum, one_minus_dampening, weight_decay;
  bool nesterov, first, maximize;
};
//   v = alpha * v + (1 - alpha) * g^2
//   a = alpha * a + (1 - alpha) * g        when centered (grad_avg is given), else 0
//   u = g / (sqrt(v - a^2) + eps), or g / sqrt(v - a^2 + eps)
//   m = momentum * m + u                   when momentum is given, else u
//   p -= lr * m
struct RmspropRule {
  float lr, alpha, one_minus_alpha, eps, weight_decay, momentum;
  bool eps_inside_sqrt;
};
//   m = m + (1 - beta1) * (g - m)
//   v = beta2 * v + (1 - beta2) * g^2
//   u = max(u, v)                          when amsgrad (max_exp_avg_sq is given), else v
//   p = decay * p - step_size * m / (sqrt(u) * inv_sqrt_correction + eps)
struct AdamRule {
  float one_minus_beta1, beta2, one_minus_beta2, eps, weight_decay;
  float decay;                // 1 - lr * weight_decay (AdamW) or 1
  float step_size;            // lr / (1 - beta1^t)
  float inv_sqrt_correction;  // 1 / sqrt(1 - beta2^t)
  bool maximize;
};
//   s = s + g^2
//   p -= lr * g / (sqrt(s) + eps)
struct AdagradRule {
  float lr, eps, weight_decay;
};

}  // namespace fastconv
