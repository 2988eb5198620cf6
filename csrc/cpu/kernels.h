// THE KERNEL CONTRACT: one table of functions for each instruction set. kernels/*.cpp holds the
// code, written once against simd.h and compiled for each set. tiles.h describes the arguments of
// the kernels of convolutions and linear layers.
//
// Rules for every entry, unless it says otherwise:
//   * Sizes count elements, strides count floats, both in 64 bits. The caller has checked them; all
//     sizes are > 0.
//   * Pointers need no alignment (arena memory has 64 bytes). Outputs do not overlap inputs.
//   * Outputs are overwritten and may be uninitialised before. An entry that accumulates says so.
//   * A kernel runs in one thread and allocates nothing. The caller splits the work and owns
//   scratch
//     memory.
//   * A channel-wise array is (outer, C, inner), inner contiguous: plain NCHW is (N, C, H*W), lane
//     blocks are (N/16, C, H*W*16), features (N, F) in lanes are (N/16, F, 16).
//   * Empty lanes (core/array.h) are computed like any others.
//   * streaming: store whole vectors with non-temporal stores; the output is 64-byte aligned. For
//     outputs that would leave the caches before anybody reads them: no line is then read from
//     memory before it is overwritten, and none pushes out other data.
#pragma once

#include "contract/functions.h"
#include "contract/optimizer_rules.h"
#include "cpu/tiles.h"

namespace fastconv::cpu {

struct Dropout {
  uint32_t key[2];
  uint32_t row_step, lane_step;
  float p, scale;
};

// Pooling windows: tap (kh, kw) of output (oh, ow) reads the pixel
//
//   (oh * SH - PT + kh * DH, ow * SW - PL + kw * DW)
//
// A pixel is `unit` floats: 16 in lanes, 1 in plain images.
struct PoolWindow {
  int64_t IH, IW, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, unit;
};

// Depthwise convolution of one plane of a plain image: OH x OW outputs, KH x KW taps, in one of two
// ways.
//
//   in_place   reads x where it is. For equal strides, DH = 1 and KH 1, 2, 3, 5 or 7 (3 or 5 with
//              stride 2). scratch: IW + 16 floats.
//   otherwise  copies the rows for `band` output rows at a time into scratch, with zeros around
//              them and columns sorted by phase of the stride: rows * phases * pitch + 16 floats,
//              with phases = min(SW, (KW - 1) * DW + 1) and
//              pitch >= (KW - 1) * DW / SW + OW rounded up to a multiple of 16.
struct DepthwiseImage {
  PoolWindow window;  // unit = 1
  bool in_place;
  int64_t band, phases, pitch;
};

// A sparse linear map along one axis, in compressed rows: output i is the weighted sum of the
// inputs index[t] for t = begin[i] .. begin[i + 1] - 1.
struct Taps {
  const int64_t* begin;
  const int64_t* index;
  const float* weight;
};

// A separable linear map of images: one map of rows, one of columns. A pixel is `unit` floats: 16
// in lanes, 1 in plain images.
struct Resample {
  int64_t in_rows, in_cols, out_rows, out_cols, unit;
  Taps rows, cols;
  const float* row_divisor;  // out_rows and out_cols floats, or both null
  const float* col_divisor;
};

// A channel-wise array, of which a kernel gets the first plane of `inner` floats: `outer` groups of
// `channels` planes, from one group to the next `stride` floats.
struct ChannelGroups {
  int64_t outer, channels, inner, stride;
};

// Planes first .. first + count - 1 of a channel-wise array (outer, C, inner), of which a kernel
// gets the beginning; plane p is of channel c = p % C.
struct Planes {
  int64_t first, count, C, inner;
};

// y = min(max((x - mean[c]) * scale[c] + shift[c] + add, low), high), NaN staying NaN; add may be
// null, for 0; y may be x.
struct ChannelAffine {
  float* y;
  const float *x, *add;
  const float *mean, *scale, *shift;
  float low, high;
  bool streaming;
};

// The gradient g before a ReLU (or ReLU6) with the result y: 0 where y <= 0 or y >= high, else dy.
// Where y is null it is computed once more, as ChannelAffine: (x - mean[c]) * scale[c] + shift[c].
// Where shift is null as well there is no ReLU.
struct ReluMask {
  const float* y;
  const float *scale, *shift;
  float high;
};

// dx = scale[c] * (g - dy_mean[c] - (x - mean[c]) * slope[c]), where g is the masked dy. Lanes of
// dx beyond `lanes` of every sixteen become 0. dadd = g unless null.
struct BatchNormGradient {
  float *dx, *dadd;
  const float *dy, *x;
  ReluMask mask;
  const float *mean, *scale, *dy_mean, *slope;
  int lanes;
  bool streaming;
};

struct Moments {
  double count, mean, sum_squares;  // of the deviations from the mean
};

// y_c = x_c * s_c^-beta,   s_c = k + alpha / size * sum_j x_j^2
//
// j runs over the existing channels from c - size / 2 to c + (size - 1) / 2. Channels are the rows
// of a matrix, `stride` floats apart.
struct LocalResponseNorm {
  int64_t C, stride, size;
  float alpha, beta, k;
};

// loss = -(1 - e) * w[label] * logp[label] - e / C * sum_c w[c] * logp[c]
//
// with logp the log-softmax of the column and e the label smoothing. dx = scale * dloss/dx.
struct CrossEntropy {
  int64_t C, stride;
  const float* weight;  // w, C floats; never null
  float weight_total;   // sum of w
  float label_smoothing, scale;
};

struct Kernels {
  const char* name;         // "avx512"
  const char* description;  // the CPU features it needs
  int width;                // floats in a vector

  // ---- layout.cpp -------------------------------------------------------------------------------
  // One lane block: y[f][i] = x[i * stride + f] for f < features and i < samples; lanes
  // i >= samples become 0. y: features * 16 floats.
  void (*to_lanes)(float* y, const float* x, int64_t features, int64_t stride, int samples);
  // The inverse, for features y_f floats apart: x[i * x_i + f] = y[f * y_f + i] for i < samples.
  void (*to_plain)(float* x, int64_t x_i, const float* y, int64_t y_f, int64_t features,
                   int samples);
  // One lane block gathered from bytes: y[f][i] = scale * x[i][f] + shift, where x[i] points at the
  // bytes of sample i; lanes i >= samples become 0.
  void (*bytes_to_lanes)(float* y, const uint8_t* const* x, int64_t features, int samples,
                         float scale, float shift);
  // The same from floats.
  void (*floats_to_lanes)(float* y, const float* const* x, int64_t features, int samples,
                          float scale, float shift);

  // ---- peak.cpp ---------------------------------------------------------------------------------
  // A loop of independent fused multiply-adds on registers. Returns the number of floating-point
  // operations, two for each multiply-add: a whole multiple of `rounds`.
  double (*fma_loop)(int64_t rounds);

  // ---- broadcast_tile.cpp: convolution forward and by input, linear layers ----------------------
  void (*broadcast_tile)(const BroadcastTile& args);

  // ---- depthwise_tile.cpp, depthwise_weight_tile.cpp --------------------------------------------
  void (*depthwise_tile)(const DepthwiseTile& args);
  void (*depthwise_weight_tile)(const DepthwiseWeightTile& sum);

  // ---- depthwise_image.cpp, depthwise_image_weight.cpp ------------------------------------------
  // One channel. bias: a float or null. post_ops: of this channel.
  void (*depthwise_image)(float* y, const float* x, const float* w, const float* bias,
                          const DepthwiseImage& shape, const ChannelPostOps& post_ops,
                          float* scratch);
  void (*depthwise_image_weight)(const DepthwiseImageWeight& sum);

  // ---- winograd.cpp, winograd_weight.cpp -------------------------------------------------------
  // Point p < n * n of channel c and tile t (counted from grid.first) is the vector
  // v + p * v_point + c * v_c + t * 16. Pixels outside an image count as zero.
  //
  // A NaN or infinity in one pixel makes its whole transformed tile NaN. Entries that return a
  // bool return whether all sums are finite; if not, the caller computes the result without
  // Winograd.
  //
  // x: C images.
  void (*winograd_input)(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                         const WinogradGrid& grid);
  void (*winograd_dy)(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                      const WinogradGrid& grid);
  // Each tile writes its m x m pixels of y, K images; pixels outside the image are skipped. A sum
  // that is not finite is stored as NaN, whatever bias and ReLU would make of it.
  bool (*winograd_output)(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                          const float* bias, bool relu, const WinogradGrid& grid, bool streaming);
  // The same where the lanes are sixteen channels of one image: K blocks of channels,
  // y = min(max(sum * scale + shift, low), high), scale and shift one float a channel (16 * K).
  bool (*winograd_output_channels)(float* y, const float* m, int64_t m_point, int64_t m_k,
                                   int64_t K, const float* scale, const float* shift, float low,
                                   float high, const WinogradGrid& grid);
  // The adjoint of winograd_input: each pixel of K images is start[k] (0 when null) plus the sum of
  // what the tiles that reach it make of their points m. The tiles of an image must be passed in
  // order: a call that begins with tile 0 overwrites the image, later ones add to it. The call with
  // `last` also checks the images; it may take values of 1e19 and more for not finite.
  bool (*winograd_input_adjoint)(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                                 const float* start, const WinogradGrid& grid, bool last);
  // Transforms the phase `taps` of `pairs` (1 .. 16) kernels, w_pair floats apart. Point p of pair
  // i is u[p * u_point + i]. flipped: rotate the taps by 180 degrees; with r = 2 a phase with a
  // single tap along an axis keeps it first. Prefetches w + w_prefetch, which the next call reads.
  void (*winograd_weight)(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                          const WinogradTaps& taps, bool flipped, int64_t w_prefetch);
  // The same with sixteen output channels in the lanes: w is [C][taps * taps][16], and point p of
  // channel c the vector u + p * u_point + c * u_c. taps 3 to 5, 36 points.
  void (*winograd_weight_channels)(float* u, int64_t u_point, int64_t u_c, const float* w,
                                   int64_t C, int taps);
  // The adjoint of winograd_weight without flipping: overwrites these taps of the kernels dw,
  // dw_pair floats apart.
  bool (*winograd_dw)(float* dw, int64_t dw_pair, const float* u, int64_t u_point, int pairs,
                      const WinogradTaps& taps);

  // ---- dot_tile.cpp: convolution by weight, linear layers for a small batch ---------------------
  void (*dot_tile)(const DotTile& args);

  // ---- pooled_tile.cpp, pooled_gradients.cpp: convolution and 2x2 max pooling -------------------
  void (*pooled_tile)(const PooledTile& args);
  // The same for a plain image, whose columns are neighbouring floats: x_col = 1, no argmax. Reads
  // up to 31 floats of x beyond the last column that counts.
  void (*pooled_tile_plain)(const PooledTile& args);
  // The gradients of `windows` maxima of each of K channels, 0 where y <= 0 (y may be null): as
  // g[k][window] and, unless null, as maxima[window][k].
  void (*pooled_relu_mask)(float* g, PooledMaximum* maxima, const float* dy, const float* y,
                           const uint16_t* argmax, int64_t K, int64_t windows);
  void (*pooled_weight_gradient)(const PooledWeightGradient& sum);
  void (*pooled_input_gradient)(const PooledInputGradient& sum);

  // ---- elementwise.cpp -------------------------------------------------------------------------
  // y[i] = f(x[i]) for i < n, with parameters p and q (contract/functions.h); y may be x.
  void (*unary)(Unary f, float* y, const float* x, int64_t n, float p, float q, bool streaming);
  // y[i] = f(a[i], b[i]) for i < n; y may be a or b.
  void (*binary)(Binary f, float* y, const float* a, const float* b, int64_t n, float p,
                 bool streaming);
  // y[i] = x[i] * scale where the element is kept, else 0; y may be x. Element i = 16 * row + lane
  // has the number first + row * row_step + lane * lane_step (modulo 2^32). It is kept when the
  // hash of (key, number), read as a fraction in [0, 1), is at least p.
  void (*dropout)(float* y, const float* x, int64_t n, const Dropout& dropout, uint32_t first);
  // The sum of x[0 .. n), or of its squares: float within short runs, double across them
  // (simd_math.h). Of every sixteen elements the first `lanes` count; when lanes < 16, n is a
  // multiple of 16.
  double (*sum)(const float* x, int64_t n, int lanes);
  double (*sum_squares)(const float* x, int64_t n, int lanes);

  // ---- pool.cpp --------------------------------------------------------------------------------
  // `planes` images of unit * IH * IW floats to unit * OH * OW each. y: the maximum over the taps
  // inside the image, of max(x, 0) with relu. argmax (or null): its position kh * KW + kw, which is
  // below 65536; the first NaN wins, else the first maximum. A window without a tap inside has
  // maximum -inf at position 0.
  void (*max_pool)(float* y, uint16_t* argmax, const float* x, int64_t planes,
                   const PoolWindow& shape, bool relu);
  // dx[ih][iw] = the sum of dy over the windows whose maximum was there; with y given, over those
  // with y > 0 or NaN only. In lanes: windows.rows lists for each ih the oh whose windows reach it,
  // with weight kh * KW; windows.cols lists the ow, with weight kw.
  void (*max_pool_backward)(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                            int64_t planes, const Resample& windows);
  // The same for plain images.
  void (*max_pool_backward_plain)(float* dx, const float* dy, const uint16_t* argmax,
                                  const float* y, int64_t planes, const PoolWindow& shape);
  // The same in lanes for 2x2 windows, two apart, all inside the image: only the sizes are read.
  void (*max_pool_backward_2x2)(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                                int64_t planes, const Resample& windows);

  // ---- resample.cpp: average pooling, interpolation, and their gradients -----------------------
  // y[r][c] = sum_{i in rows(r), j in cols(c)} w_i * w_j * x[index_i][index_j], divided by
  // row_divisor[r] * col_divisor[c] when these are given. scratch: unit * in_cols floats.
  void (*resample)(float* y, const float* x, int64_t planes, const Resample& map, float* scratch);

  // ---- norm.cpp --------------------------------------------------------------------------------
  // sums[c]: the sum of channel c.
  void (*channel_sums)(double* sums, const float* x, const ChannelGroups& groups);
  // Mean and sum of squared deviations of each channel, by the two-pass formula over short runs
  // (which stay in L1) joined in double (Chan, Golub, LeVeque 1979): exact to float32 whatever the
  // mean. In the last of the outer groups only the first `lanes` of every sixteen elements count.
  void (*channel_moments)(Moments* moments, const float* x, const ChannelGroups& groups, int lanes);
  // sums[2 * c] = sum of g, sums[2 * c + 1] = sum of g * (x - mean[c]), where g is the masked
  // dy. All pointers are to the first channel.
  void (*channel_dots)(double* sums, const float* dy, const float* x, const ReluMask& mask,
                       const float* mean, const ChannelGroups& groups);
  void (*channel_affine)(const ChannelAffine& map, const Planes& planes);
  void (*batch_norm_gradient)(const BatchNormGradient& gradient, const Planes& planes);
  // Columns 0 .. n - 1 of (C, stride), n <= stride. scratch: C * n floats.
  void (*local_response_norm)(float* y, const float* x, int64_t n, const LocalResponseNorm& norm);
  void (*local_response_norm_backward)(float* dx, const float* dy, const float* x, int64_t n,
                                       const LocalResponseNorm& norm, float* scratch);

  // ---- loss.cpp --------------------------------------------------------------------------------
  // Softmax of each column of a matrix, columns 0 .. n - 1 of C rows, `stride` floats apart; its
  // logarithm; and their gradients from dy and y (or log y). Outputs may be x, y or dy.
  void (*softmax)(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
  void (*log_softmax)(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
  void (*softmax_backward)(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                           int64_t stride);
  void (*log_softmax_backward)(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                               int64_t stride);
  // best[i]: the row of the first NaN of column i, else of the first maximum.
  void (*argmax)(float* best, const float* x, int64_t n, int64_t C, int64_t stride);
  // Columns as above. labels[i]: the class of column i, or -1 for a column that does not count: its
  // loss and gradient are 0.
  void (*cross_entropy)(float* loss, float* dx, const float* x, const float* labels, int64_t n,
                        const CrossEntropy& params);
  // dx[i] = scale * dloss/dx, and loss[i] unless loss is null. Returns the sum of the losses. Of
  // every sixteen elements those beyond `lanes` become 0 and do not count (n is then a multiple of
  // 16).
  double (*pointwise_loss)(PointwiseLoss kind, float* loss, float* dx, const float* x,
                           const float* t, int64_t n, float scale, int lanes);

  // ---- optim.cpp -------------------------------------------------------------------------------
  // One step of an optimiser on n parameters p with gradients g, in place. State that a rule does
  // not use may be null.
  void (*sgd)(float* p, const float* g, float* momentum, int64_t n, const SgdRule& rule);
  void (*rmsprop)(float* p, const float* g, float* square_avg, float* grad_avg, float* momentum,
                  int64_t n, const RmspropRule& rule);
  void (*adam)(float* p, const float* g, float* exp_avg, float* exp_avg_sq, float* max_exp_avg_sq,
               int64_t n, const AdamRule& rule);
  void (*adagrad)(float* p, const float* g, float* state_sum, int64_t n, const AdagradRule& rule);
};

}  // namespace fastconv::cpu
