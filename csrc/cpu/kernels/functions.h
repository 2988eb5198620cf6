// The kernels of one instruction set, declared for kernels/table.cpp and for each other. kernels.h
// says what each one computes.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace fastconv::cpu::FASTCONV_ISA {

// layout.cpp
void to_lanes(float* y, const float* x, int64_t features, int64_t stride, int samples);
void to_plain(float* x, int64_t x_i, const float* y, int64_t y_f, int64_t features, int samples);
void bytes_to_lanes(float* y, const uint8_t* const* x, int64_t features, int samples, float scale,
                    float shift);
void floats_to_lanes(float* y, const float* const* x, int64_t features, int samples, float scale,
                     float shift);

// broadcast_tile.cpp, dot_tile.cpp
void broadcast_tile(const BroadcastTile& args);
void dot_tile(const DotTile& args);

// depthwise_tile.cpp, depthwise_weight_tile.cpp
void depthwise_tile(const DepthwiseTile& args);
void depthwise_weight_tile(const DepthwiseWeightTile& sum);

// depthwise_image.cpp, depthwise_image_weight.cpp
void depthwise_image(float* y, const float* x, const float* w, const float* bias,
                     const DepthwiseImage& shape, const ChannelPostOps& post_ops, float* scratch);
void depthwise_image_weight(const DepthwiseImageWeight& sum);

// winograd.cpp, winograd_weight.cpp
void winograd_input(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                    const WinogradGrid& grid);
void winograd_dy(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                 const WinogradGrid& grid);
bool winograd_output(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                     const float* bias, bool relu, const WinogradGrid& grid, bool streaming);
bool winograd_output_channels(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                              const float* scale, const float* shift, float low, float high,
                              const WinogradGrid& grid);
bool winograd_input_adjoint(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                            const float* start, const WinogradGrid& grid, bool last);
void winograd_weight(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                     const WinogradTaps& taps, bool flipped, int64_t w_prefetch);
void winograd_weight_channels(float* u, int64_t u_point, int64_t u_c, const float* w, int64_t C,
                              int taps);
bool winograd_dw(float* dw, int64_t dw_pair, const float* u, int64_t u_point, int pairs,
                 const WinogradTaps& taps);

// pooled_tile.cpp, pooled_gradients.cpp
void pooled_tile(const PooledTile& args);
void pooled_tile_plain(const PooledTile& args);
void pooled_relu_mask(float* g, PooledMaximum* maxima, const float* dy, const float* y,
                      const uint16_t* argmax, int64_t K, int64_t windows);
void pooled_weight_gradient(const PooledWeightGradient& sum);
void pooled_input_gradient(const PooledInputGradient& sum);

// peak.cpp
double fma_loop(int64_t rounds);

// elementwise.cpp
void unary(Unary f, float* y, const float* x, int64_t n, float p, float q, bool streaming);
void binary(Binary f, float* y, const float* a, const float* b, int64_t n, float p, bool streaming);
void dropout(float* y, const float* x, int64_t n, const Dropout& dropout, uint32_t first);
double sum(const float* x, int64_t n, int lanes);
double sum_squares(const float* x, int64_t n, int lanes);

// pool.cpp
void max_pool(float* y, uint16_t* argmax, const float* x, int64_t planes, const PoolWindow& shape,
              bool relu);
void max_pool_backward(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                       int64_t planes, const Resample& windows);
void max_pool_backward_plain(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                             int64_t planes, const PoolWindow& shape);
void max_pool_backward_2x2(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                           int64_t planes, const Resample& windows);

// resample.cpp
void resample(float* y, const float* x, int64_t planes, const Resample& map, float* scratch);

// norm.cpp
void channel_sums(double* sums, const float* x, const ChannelGroups& groups);
void channel_moments(Moments* moments, const float* x, const ChannelGroups& groups, int lanes);
void channel_dots(double* sums, const float* dy, const float* x, const ReluMask& mask,
                  const float* mean, const ChannelGroups& groups);
void channel_affine(const ChannelAffine& map, const Planes& planes);
void batch_norm_gradient(const BatchNormGradient& gradient, const Planes& planes);
void local_response_norm(float* y, const float* x, int64_t n, const LocalResponseNorm& norm);
void local_response_norm_backward(float* dx, const float* dy, const float* x, int64_t n,
                                  const LocalResponseNorm& norm, float* scratch);

// loss.cpp
void softmax(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
void log_softmax(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
void softmax_backward(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                      int64_t stride);
void log_softmax_backward(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                          int64_t stride);
void argmax(float* best, const float* x, int64_t n, int64_t C, int64_t stride);
void cross_entropy(float* loss, float* dx, const float* x, const float* labels, int64_t n,
                   const CrossEntropy& params);
double pointwise_loss(PointwiseLoss kind, float* loss, float* dx, const float* x, const float* t,
                      int64_t n, float scale, int lanes);

// optim.cpp
void sgd(float* p, const float* g, float* momentum, int64_t n, const SgdRule& rule);
void rmsprop(float* p, const float* g, float* square_avg, float* grad_avg, float* momentum,
             int64_t n, const RmspropRule& rule);
void adam(float* p, const float* g, float* exp_avg, float* exp_avg_sq, float* max_exp_avg_sq,
          int64_t n, const AdamRule& rule);
void adagrad(float* p, const float* g, float* state_sum, int64_t n, const AdagradRule& rule);

}  // namespace fastconv::cpu::FASTCONV_ISA
