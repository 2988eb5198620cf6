// THE TABLE OF OPERATIONS: what a device can do. ops/ says what an operation means, checks its
// arguments and calls an entry; cpu/ and cuda/ say how. Each fills one table.
//
// Common rules, unless an entry says otherwise:
//   * Arguments are checked: element types, shapes, ranges. All arrays are on the table's device.
//   * An array may be in any layout of the device, and a result is in whichever layout suits. Only
//     what reaches a user must be row-major: `contiguous` makes it so.
//   * The device allocates the results. Arrays may be undefined where it says so.
//   * An Array by value may be given away: the result may take its storage if nobody else has it
//     (Array::sole_owner). Array& is written into, and the entry says so (Array::written).
//   * Sums have an order that depends on shapes only: the same bits on every run.
//   * An entry may be null: the device has no such kernel, which is an error, or, of a fused
//     operation, ops/ composes it from its parts.
#pragma once

#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "contract/conv2d_shape.h"
#include "contract/functions.h"
#include "contract/optimizer_rules.h"
#include "contract/pool_shape.h"
#include "contract/post_ops.h"
#include "contract/tap_table.h"
#include "core/array.h"
#include "core/device.h"

namespace fastconv {

using Arrays = std::vector<Array>;

// What decides about layouts: whether the operation is recorded for a gradient, and whether its
// first operand is a network's input (else the result of an operation).
struct Use {
  bool gradient = false;
  bool leaf = true;
};

// Which gradients somebody wants.
struct Wanted {
  bool dx, dw, db;
};

// A step of an optimiser over some parameters, checked and divided into tasks by its device. It
// holds its arrays.
class OptimStep {
 public:
  explicit OptimStep(Device device) : device_(device) {}
  virtual ~OptimStep() = default;
  Device device() const { return device_; }

 private:
  Device device_;
};

// Samples in the memory of the host: a row-major array (count, ...) of uint8 or float32. As floats
// they are x * scale[c] + shift[c], where c is the place along axis 1 when there are as many of
// them, and 0 when there is one.
struct HostSamples {
  const void* data;
  DType dtype;
  Shape shape;
  std::vector<float> scale, shift;
};

// The start of an operation's own random numbers. A recorded program gets a new one for every run.
struct Seed {
  uint64_t value;
};

struct LocalResponseNormParams {
  int64_t size;
  float alpha, beta, k;
};

struct CrossEntropyParams {
  int64_t ignore_index;
  double label_smoothing;
  Reduction reduction;
};

struct Operations {
  // ---- values
  // ------------------------------------------------------------------------------------
  Array (*full)(Device device, const Shape& shape, float value);
  Array (*zeros_like)(const Array& x);
  Array (*copy)(const Array& x);
  Array (*contiguous)(const Array& x);  // row-major; x itself if it is
  void (*assign)(Array& to, const Array& from);
  void (*count_up)(Array& x);  // adds 1 to an int64, shape ()
  // Samples indices[0 .. n), shape (n, ...). Indices are in range.
  Array (*gather_batch)(Device device, const HostSamples& samples, const int64_t* indices,
                        int64_t n, Use use);

  // ---- convolution
  // ------------------------------------------------------------------------------- (y, argmax, x):
  // argmax is defined when there is pooling and use.gradient; the last one is x in the layout that
  // conv2d_backward_weight likes best. b (OC,) may be undefined.
  std::tuple<Array, Array, Array> (*conv2d)(const Array& x, const Array& w, const Array& b,
                                            const Conv2dShape& shape, const PostOps& post, Use use);
  // dx; with b (IC,) added to each channel, the transposed convolution of dy.
  Array (*conv2d_backward_input)(const Array& dy, const Array& w, const Array& b,
                                 const Conv2dShape& shape, Use use);
  Array (*conv2d_backward_weight)(const Array& dy, const Array& x, const Conv2dShape& shape);
  // The gradient before activation and pooling. y is defined with an activation, argmax with
  // pooling.
  Array (*post_ops_backward)(Array dy, const Array& y, const Array& argmax, const PostOps& post);
  // Whether conv2d_backward is quicker than its parts, for post-ops of activation and pooling.
  bool (*fuses_conv2d_backward)(const Conv2dShape& shape, const PostOps& post);
  // (dx, dw, db), undefined where not wanted. y is defined with an activation, argmax with pooling,
  // x where dw is wanted.
  std::tuple<Array, Array, Array> (*conv2d_backward)(const Array& dy, const Array& y,
                                                     const Array& argmax, const Array& x,
                                                     const Array& w, const Conv2dShape& shape,
                                                     const PostOps& post, const Wanted& wanted);

  // ---- linear layers: x (N, I), w (O, I), y (N, O)
  // ----------------------------------------------- (y, x): the second is x in the layout that
  // linear_backward_weight likes best.
  std::pair<Array, Array> (*linear)(const Array& x, const Array& w, const Array& b,
                                    Activation activation, Use use);
  Array (*linear_backward_input)(const Array& dy, const Array& w);
  Array (*linear_backward_weight)(const Array& dy, const Array& x);

  // ---- pooling and resampling
  // -------------------------------------------------------------------- (y, argmax): argmax,
  // uint16 kh * KW + kw, of the first NaN, else of the first maximum; undefined unless
  // with_indices. relu: of max(x, 0).
  std::pair<Array, Array> (*max_pool2d)(const Array& x, const PoolShape& shape, bool relu,
                                        bool with_indices, Use use);
  // y: the output of a forward pass with relu, else undefined.
  Array (*max_pool2d_backward)(const Array& dy, const Array& argmax, const Array& y,
                               const PoolShape& shape);
  Array (*max_pool2d_indices)(const Array& argmax, const PoolShape& shape);  // int64, row-major
  // use: nothing when x is best left in the layout it came in, as the gradients of operations are.
  Array (*resample)(const Array& x, const Resampling& map, std::optional<Use> use);

  // ---- normalisation: x (N, C, ...)
  // --------------------------------------------------------------
  Array (*channel_sum)(const Array& x);  // (C,)
  // (y, mean, 1 / sqrt(var + eps), x): statistics of this batch, the variance biased. The running
  // ones may be undefined; they move by momentum * (batch - running), with the unbiased variance.
  // post: add and activation.
  std::tuple<Array, Array, Array, Array> (*batch_norm_train)(const Array& x, const Array& weight,
                                                             const Array& bias, Array& running_mean,
                                                             Array& running_var, double momentum,
                                                             double eps, const PostOps& post,
                                                             Use use);
  // (dx, dweight, dbias, dadd): through the activation first, whose result is y where something was
  // added before it, else undefined: then x and bias tell. dadd is undefined unless wanted.
  std::tuple<Array, Array, Array, Array> (*batch_norm_train_backward)(
      const Array& dy, const Array& x, const Array& weight, const Array& bias, const Array& mean,
      const Array& inv_std, const Array& y, Activation activation, bool wants_dadd);
  // (y, x): post has normalise. use: nothing when x is a gradient, which stays in the layout it
  // came in.
  std::pair<Array, Array> (*batch_norm_eval)(const Array& x, const PostOps& post,
                                             std::optional<Use> use);
  std::tuple<Array, Array, Array> (*batch_norm_eval_backward)(const Array& dy, const Array& x,
                                                              const Array& weight,
                                                              const Array& mean, const Array& var,
                                                              double eps);
  std::pair<Array, Array> (*local_response_norm)(const Array& x,
                                                 const LocalResponseNormParams& norm,
                                                 Use use);  // (y, x)
  Array (*local_response_norm_backward)(const Array& dy, const Array& x,
                                        const LocalResponseNormParams& norm);

  // ---- elementwise
  // -------------------------------------------------------------------------------
  Array (*unary)(Unary f, const Array& x, float p, float q);
  Array (*binary)(Binary f, Array a, const Array& b, float p);
  void (*add_into)(Array& a, const Array& b);  // a += b
  // 0 with probability p, else x * scale. What happens to an element follows from the seed and from
  // the element's row-major number.
  Array (*dropout)(const Array& x, float p, float scale, Seed seed);
  Array (*scale_by)(const Array& x, const Array& factor);  // x * factor, which is one element
  Array (*sum)(const Array& x);                            // shape ()

  // ---- softmax and losses
  // ------------------------------------------------------------------------
  Array (*softmax)(const Array& x, int axis);
  Array (*softmax_backward)(const Array& dy, const Array& y, int axis);
  Array (*log_softmax)(const Array& x, int axis);
  Array (*log_softmax_backward)(const Array& dy, const Array& y, int axis);
  // (loss, gradient): logits (N, C, ...), labels int64 (N, ...); weight (C,) may be undefined.
  // Values are checked here: std::invalid_argument for a label that is neither a class nor
  // ignore_index, and for what binary_cross_entropy takes for a probability.
  std::pair<Array, Array> (*cross_entropy)(const Array& logits, const Array& labels,
                                           const Array& weight, const CrossEntropyParams& params);
  std::pair<Array, Array> (*pointwise_loss)(PointwiseLoss kind, const Array& x, const Array& target,
                                            Reduction reduction);
  int64_t (*count_correct)(const Array& logits, const Array& labels);

  // ---- movement
  // ---------------------------------------------------------------------------------- y is the
  // shape of the result; pads (top, bottom, left, right) may be negative.
  Array (*pad2d)(const Array& x, const Shape& y, const std::array<int64_t, 4>& pads, float value);
  Array (*cat)(const Arrays& arrays, const Shape& y, int axis);
  Array (*slice_axis)(const Array& x, int axis, int64_t begin, int64_t end);
  Array (*gather2d)(const Array& x, const std::vector<int64_t>& rows,
                    const std::vector<int64_t>& cols);

  // ---- optimisers
  // -------------------------------------------------------------------------------- Parameters,
  // gradients and state in lists of one array each; state lists may be empty. Lists by value are
  // written into once the step is taken.
  std::unique_ptr<OptimStep> (*sgd_step)(Arrays params, const Arrays& grads, Arrays momenta,
                                         const SgdRule& rule);
  std::unique_ptr<OptimStep> (*rmsprop_step)(Arrays params, const Arrays& grads, Arrays square_avg,
                                             Arrays momenta, Arrays grad_avg,
                                             const RmspropRule& rule);
  std::unique_ptr<OptimStep> (*adam_step)(Arrays params, const Arrays& grads, Arrays exp_avg,
                                          Arrays exp_avg_sq, Arrays max_exp_avg_sq,
                                          const AdamRule& rule);
  std::unique_ptr<OptimStep> (*adagrad_step)(Arrays params, const Arrays& grads, Arrays state_sum,
                                             const AdagradRule& rule);
  void (*take_steps)(const std::vector<const OptimStep*>& steps);
  double (*grad_norm)(const Arrays& grads);  // 2-norm over all elements, summed in double
  void (*scale_all)(Arrays arrays, float scale);
};

// The table of a device; std::runtime_error where this build or machine has no such device.
const Operations& operations(Device device);

}  // namespace fastconv
