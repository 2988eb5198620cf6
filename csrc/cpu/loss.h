// The CPU's softmax and losses (contract/operations.h).
#pragma once

#include "contract/operations.h"

namespace fastconv::cpu {

Array softmax(const Array& x, int axis);
Array softmax_backward(const Array& dy, const Array& y, int axis);
Array log_softmax(const Array& x, int axis);
Array log_softmax_backward(const Array& dy, const Array& y, int axis);
std::pair<Array, Array> cross_entropy(const Array& logits, const Array& labels, const Array& weight,
                                      const CrossEntropyParams& params);
std::pair<Array, Array> pointwise_loss(PointwiseLoss kind, const Array& x, const Array& target,
                                       Reduction reduction);
int64_t count_correct(const Array& logits, const Array& labels);

}  // namespace fastconv::cpu
