// Softmax and losses. A loss comes with its gradient, made in the same pass.
#pragma once

#include <string>

#include "contract/operations.h"

namespace fastconv {

// Along any axis; negative ones count from the end. Backward: dy and the result of the forward
// pass.
Array softmax(const Array& x, int64_t axis);
Array softmax_backward(const Array& dy, const Array& y, int64_t axis);
Array log_softmax(const Array& x, int64_t axis);
Array log_softmax_backward(const Array& dy, const Array& y, int64_t axis);

// Each: the loss and its gradient by the first argument. reduction: "mean" or "sum", a loss of
// shape (), or "none", one for each label or element.

// logits (N, C, ...), labels int64 (N, ...) from 0 to C - 1, or ignore_index for those that do not
// count; weight (C,) or undefined. "mean" divides by the sum of the labels' weights: NaN when there
// are none.
std::pair<Array, Array> cross_entropy(const Array& logits, const Array& labels, const Array& weight,
                                      int64_t ignore_index, double label_smoothing,
                                      const std::string& reduction);
// x and target of one shape; binary_cross_entropy wants 0 <= x <= 1.
std::pair<Array, Array> pointwise_loss(PointwiseLoss kind, const Array& x, const Array& target,
                                       const std::string& reduction);

// Rows of (N, C) whose first maximum stands at the label.
int64_t count_correct(const Array& logits, const Array& labels);

}  // namespace fastconv
