// The table of one instruction set: a line for each entry of kernels.h.
#include "cpu/kernels/functions.h"

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr Kernels make_table() {
  Kernels t{};
#if defined(FASTCONV_ISA_AVX512)
  t.name = "avx512";
  t.description = "AVX-512 F, BW, DQ, VL and FMA";
#elif defined(FASTCONV_ISA_AVX2)
  t.name = "avx2";
  t.description = "AVX2 and FMA";
#else
  t.name = "scalar";
  t.description = "any CPU";
#endif
  t.width = kWidth;
  // layout.cpp
  t.to_lanes = to_lanes;
  t.to_plain = to_plain;
  t.bytes_to_lanes = bytes_to_lanes;
  t.floats_to_lanes = floats_to_lanes;
  // broadcast_tile.cpp, dot_tile.cpp
  t.broadcast_tile = broadcast_tile;
  t.dot_tile = dot_tile;
  // depthwise_tile.cpp, depthwise_weight_tile.cpp
  t.depthwise_tile = depthwise_tile;
  t.depthwise_weight_tile = depthwise_weight_tile;
  // depthwise_image.cpp, depthwise_image_weight.cpp
  t.depthwise_image = depthwise_image;
  t.depthwise_image_weight = depthwise_image_weight;
  // winograd.cpp, winograd_weight.cpp
  t.winograd_input = winograd_input;
  t.winograd_dy = winograd_dy;
  t.winograd_output = winograd_output;
  t.winograd_output_channels = winograd_output_channels;
  t.winograd_input_adjoint = winograd_input_adjoint;
  t.winograd_weight = winograd_weight;
  t.winograd_weight_channels = winograd_weight_channels;
  t.winograd_dw = winograd_dw;
  // pooled_tile.cpp, pooled_gradients.cpp
  t.pooled_tile = pooled_tile;
  t.pooled_tile_plain = pooled_tile_plain;
  t.pooled_relu_mask = pooled_relu_mask;
  t.pooled_weight_gradient = pooled_weight_gradient;
  t.pooled_input_gradient = pooled_input_gradient;
  // peak.cpp
  t.fma_loop = fma_loop;
  // elementwise.cpp
  t.unary = unary;
  t.binary = binary;
  t.dropout = dropout;
  t.sum = sum;
  t.sum_squares = sum_squares;
  // pool.cpp
  t.max_pool = max_pool;
  t.max_pool_backward = max_pool_backward;
  t.max_pool_backward_plain = max_pool_backward_plain;
  t.max_pool_backward_2x2 = max_pool_backward_2x2;
  // resample.cpp
  t.resample = resample;
  // norm.cpp
  t.channel_sums = channel_sums;
  t.channel_moments = channel_moments;
  t.channel_dots = channel_dots;
  t.channel_affine = channel_affine;
  t.batch_norm_gradient = batch_norm_gradient;
  t.local_response_norm = local_response_norm;
  t.local_response_norm_backward = local_response_norm_backward;
  // loss.cpp
  t.softmax = softmax;
  t.log_softmax = log_softmax;
  t.softmax_backward = softmax_backward;
  t.log_softmax_backward = log_softmax_backward;
  t.argmax = argmax;
  t.cross_entropy = cross_entropy;
  t.pointwise_loss = pointwise_loss;
  // optim.cpp
  t.sgd = sgd;
  t.rmsprop = rmsprop;
  t.adam = adam;
  t.adagrad = adagrad;
  return t;
}

}  // namespace

extern const Kernels table;
const Kernels table = make_table();

}  // namespace fastconv::cpu::FASTCONV_ISA
