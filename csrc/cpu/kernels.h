// THE KERNEL CONTRACT. One table of functions per instruction set; kernels/<room>.cpp holds the
// code, written once against simd.h and compiled for each set. What kernels of convolutions and
// linear layers are told is in sweeps.h.
//
// Common rules, unless an entry says otherwise:
//   * Sizes are in elements, strides in floats, and 64-bit. Sizes are > 0; ops/ checked them.
//   * Pointers need no alignment, though arena memory is 64-byte aligned. Outputs do not overlap
//   inputs.
//   * Outputs are overwritten and may be uninitialised before; what accumulates says so.
//   * A kernel runs in one thread and allocates nothing. ops/ splits the work and owns scratch
//   memory.
//   * "Channel-wise" arrays are (outer, C, inner) with inner contiguous: plain NCHW is (N, C, H*W),
//     lane blocks are (N/16, C, H*W*16), features (N, F) in lanes are (N/16, F, 16).
//   * Empty lanes: see core/array.h. Kernels compute them like any others.
//   * streaming: the output, whole vectors aligned to 64 bytes, goes past the caches to memory. For
//     arrays that would leave the caches before anybody reads them: each line is then not read
//     from memory first, nor does it drive out others.
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

// Pooling windows: tap (kh, kw) of output (oh, ow) is the pixel
//   (oh * SH - PT + kh * DH, ow * SW - PL + kw * DW).
// A pixel is `unit` floats: 16 in lanes, 1 in plain images.
struct PoolWindow {
  int64_t IH, IW, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, unit;
};

// A convolution of one plane of a plain image, y of OH x OW pixels, w of KH x KW taps. in_place: x
// is read where it lies, and scratch is IW floats and sixteen more; both strides are equal then, DH
// is 1, and KH 1, 2, 3, 5 or 7, with stride 2 3 or 5. Else the window is copied with zeros around
// it, `band` output rows at a time, into scratch: (window of `band` rows) * `phases` * `pitch`
// floats and sixteen more, where phases = min(SW, (KW - 1) * DW + 1) and pitch >= (KW - 1) * DW /
// SW + OW rounded up to sixteens.
struct DepthwiseImage {
  PoolWindow window;  // unit = 1
  bool in_place;
  int64_t band, phases, pitch;
};

// For each of n outputs along one axis, the inputs it is made from: output i has the taps
// begin[i] .. begin[i + 1] - 1, each an index and a weight.
struct Taps {
  const int64_t* begin;
  const int64_t* index;
  const float* weight;
};

// A linear map of images that is a product of one map of rows and one of columns. A pixel is `unit`
// floats: 16 in lanes, 1 in plain images.
struct Resample {
  int64_t in_rows, in_cols, out_rows, out_cols, unit;
  Taps rows, cols;
  const float* row_divisor;  // out_rows and out_cols floats, or both null
  const float* col_divisor;
};

// The gradient behind a ReLU (or ReLU6) with the result y: 0 where y <= 0 or y >= high, else dy.
// Where y is null it is computed once more, as channel_affine did: (x - mean[c]) * scale[c] +
// shift[c]. Where shift is null as well there is no ReLU.
struct ReluMask {
  const float* y;
  const float *scale, *shift;
  float high;
};

struct Moments {
  double count, mean, sum_squares;  // of the deviations from the mean
};

// y_c = x_c * s_c^-beta, with s_c = k + alpha / size * the sum of x_j^2 over the channels j that
// there are from c - size / 2 to c + (size - 1) / 2. Rows of the matrix are channels, `stride`
// floats apart.
struct LocalResponseNorm {
  int64_t C, stride, size;
  float alpha, beta, k;
};

// loss = (1 - e) * w[label] * -logp[label] + e / C * sum_c w[c] * -logp[c], with logp = log softmax
// of the column and e the label smoothing; dx = scale * dloss/dx.
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
  // One lane block: y[f][i] = x[i * stride + f] for f < features, i < samples; lanes i >= samples
  // become 0. x: samples rows, `stride` floats apart. y: features * 16 floats.
  void (*to_lanes)(float* y, const float* x, int64_t features, int64_t stride, int samples);
  // The inverse, of features y_f floats apart: x[i * x_i + f] = y[f * y_f + i] for i < samples
  // only.
  void (*to_plain)(float* x, int64_t x_i, const float* y, int64_t y_f, int64_t features,
                   int samples);
  // One lane block gathered from bytes: y[f][i] = scale * x[i][f] + shift, x[i] a pointer to sample
  // i's bytes; lanes i >= samples become 0.
  void (*bytes_to_lanes)(float* y, const uint8_t* const* x, int64_t features, int samples,
                         float scale, float shift);
  // The same from floats.
  void (*floats_to_lanes)(float* y, const float* const* x, int64_t features, int samples,
                          float scale, float shift);

  // ---- peak.cpp ---------------------------------------------------------------------------------
  // A loop of independent fused multiply-adds on registers. Returns the floating-point operations
  // done, two for each multiply-add: a whole multiple of `rounds`.
  double (*fma_loop)(int64_t rounds);

  // ---- tile.cpp: convolution forward and by input, linear layers --------------------------------
  void (*broadcast_tile)(const BroadcastTile& args);

  // ---- depthwise_tile.cpp, depthwise_weight_tile.cpp
  // ----------------------------------------------------------------
  void (*depthwise_tile)(const DepthwiseTile& args);
  void (*depthwise_weight_tile)(const DepthwiseWeightTile& sum);

  // ---- depthwise_image.cpp, depthwise_image_weight.cpp
  // --------------------------------------------------------- finish: of these K channels; never
  // null.
  void (*depthwise_image)(float* y, const float* x, const float* w, const float* bias,
                          const DepthwiseImage& shape, const ChannelPostOps& finish,
                          float* scratch);
  void (*depthwise_image_weight)(const DepthwiseImageWeight& sum);

  // ---- winograd.cpp, winograd_weight.cpp -------------------------------------------------------
  // One NaN or infinity makes a whole transformed tile so: those that make results return whether
  // all sums are finite.
  //
  // Point p = 0 .. n * n - 1 of channel c and tile t (counted from grid.first) is the vector
  // v + p * v_point + c * v_c + t * 16. x: C images; pixels outside an image are zero.
  void (*winograd_input)(float* v, int64_t v_point, int64_t v_c, const float* x, int64_t C,
                         const WinogradGrid& grid);
  void (*winograd_dy)(float* v, int64_t v_point, int64_t v_k, const float* dy, int64_t K,
                      const WinogradGrid& grid);
  // y: K images, of which the tiles write their m x m pixels, those outside the image left out. A
  // sum that is not finite is stored as NaN, whatever bias and ReLU would make of it.
  bool (*winograd_output)(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                          const float* bias, bool relu, const WinogradGrid& grid, bool streaming);
  // The same where the lanes are sixteen channels of one image: K blocks of channels, y = min(max(.
  // * scale + shift, low), high) with a scale and a shift for each lane (16 * K floats).
  bool (*winograd_output_channels)(float* y, const float* m, int64_t m_point, int64_t m_k,
                                   int64_t K, const float* scale, const float* shift, float low,
                                   float high, const WinogradGrid& grid);
  // The adjoint of winograd_input: K images of which every pixel is start[k] (0 when null) and the
  // sum of what the tiles that reach it make of their points m. Tiles of an image are added in
  // order, those that begin with its first one overwrite it. With the last one the images are
  // looked at; values of 1e19 and more may be taken for not finite.
  bool (*winograd_input_adjoint)(float* y, const float* m, int64_t m_point, int64_t m_k, int64_t K,
                                 const float* start, const WinogradGrid& grid, bool last);
  // pairs (1 .. 16) kernels, w_pair floats apart, of each of which `taps` are transformed; point p
  // of pair i is u[p * u_point + i]. turned: the taps by 180 degrees, but where r = 2 and the
  // kernel has a single one along an axis, it stays the first. w + w_prefetch will be read soon: it
  // is asked for.
  void (*winograd_weight)(float* u, int64_t u_point, const float* w, int64_t w_pair, int pairs,
                          const WinogradTaps& taps, bool turned, int64_t w_prefetch);
  // C kernels for each of sixteen output channels, which are the lanes: w is [C][taps * taps][16],
  // point p of channel c the vector u + p * u_point + c * u_c. 3 to 5 taps, 36 points.
  void (*winograd_weight_channels)(float* u, int64_t u_point, int64_t u_c, const float* w,
                                   int64_t C, int taps);
  // The adjoint of winograd_weight, not turned: those taps of the kernels dw, dw_pair floats apart,
  // are overwritten.
  bool (*winograd_dw)(float* dw, int64_t dw_pair, const float* u, int64_t u_point, int pairs,
                      const WinogradTaps& taps);

  // ---- dot.cpp: convolution by weight, linear layers for a few samples --------------------------
  void (*dot_tile)(const DotTile& args);

  // ---- pooled_tile.cpp, pooled.cpp: convolution and 2x2 maxima, forward and back ----------------
  void (*pooled_tile)(const PooledTile& args);
  // The same of a plain image, whose columns are neighbouring floats: x_col is 1 and argmax null.
  // Beyond the last column that is met, 31 floats of x can be read.
  void (*pooled_tile_plain)(const PooledTile& args);
  // The gradients of `windows` maxima of each of K channels, 0 where y <= 0: as g[k][window], and,
  // unless null, as maxima[window][k].
  void (*pooled_relu_mask)(float* g, PooledMaximum* maxima, const float* dy, const float* y,
                           const uint16_t* argmax, int64_t K, int64_t windows);
  void (*pooled_weight_gradient)(const PooledWeightGradient& sum);
  void (*pooled_input_gradient)(const PooledInputGradient& sum);

  // ---- elementwise.cpp -------------------------------------------------------------------------
  // y[i] = f(x[i]) for i < n; y may be x.
  void (*unary)(Unary f, float* y, const float* x, int64_t n, float p, float q, bool streaming);
  // y[i] = f(a[i], b[i]) for i < n; y may be a or b.
  void (*binary)(Binary f, float* y, const float* a, const float* b, int64_t n, float p,
                 bool streaming);
  // y[i] = x[i] * scale where the element is kept, else 0; y may be x. Element i = 16 * row + lane
  // has the number first + row * row_step + lane * lane_step (modulo 2^32), and is kept when a hash
  // of (key, number), taken as a fraction in [0, 1), is p or more.
  void (*dropout)(float* y, const float* x, int64_t n, const Dropout& dropout, uint32_t first);
  // The sum of x[0 .. n), or of squares, in double across runs and float within (simd_math.h). Of
  // every sixteen elements the first `lanes` count; when lanes < 16, n is a multiple of 16.
  double (*sum)(const float* x, int64_t n, int lanes);
  double (*sum_squares)(const float* x, int64_t n, int lanes);

  // ---- pool.cpp --------------------------------------------------------------------------------
  // `planes` images, unit * IH * IW floats each, to unit * OH * OW: y is the maximum of the
  // window's taps inside the image, argmax its position kh * KW + kw (< 65536): of the first NaN if
  // there is one, else of the first maximum. A window with no tap inside: -inf, position 0. Null:
  // not wanted. relu: of max(x, 0).
  void (*max_pool)(float* y, uint16_t* argmax, const float* x, int64_t planes,
                   const PoolWindow& shape, bool relu);
  // dx[ih][iw] = sum of dy over the windows whose argmax it is; with y given, over those with y > 0
  // (or NaN) only. In lanes, rows gives for each ih the oh whose window it may be in, with weight
  // kh * KW; cols gives the ow, with weight kw.
  void (*max_pool_backward)(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                            int64_t planes, const Resample& windows);
  // The same for plain images.
  void (*max_pool_backward_plain)(float* dx, const float* dy, const uint16_t* argmax,
                                  const float* y, int64_t planes, const PoolWindow& shape);
  // The same in lanes where windows are 2x2, two apart, all inside the image: uses only the sizes.
  void (*max_pool_backward_2x2)(float* dx, const float* dy, const uint16_t* argmax, const float* y,
                                int64_t planes, const Resample& windows);

  // ---- resample.cpp: average pooling, interpolation, and their gradients -----------------------
  // y[r][c] = the sum over taps i of row r and j of column c of w_i * w_j * x[index_i][index_j],
  // divided by row_divisor[r] * col_divisor[c] when these are given. scratch: unit * in_cols
  // floats.
  void (*resample)(float* y, const float* x, int64_t planes, const Resample& map, float* scratch);

  // ---- norm.cpp --------------------------------------------------------------------------------
  // Sums over a channel-wise array: x points at the first of `channels` planes of `inner` floats,
  // and outer such groups lie `stride` floats apart. sums[c]: the sum of channel c.
  void (*channel_sums)(double* sums, const float* x, int64_t outer, int64_t channels, int64_t inner,
                       int64_t stride);
  // Mean and sum of squared deviations of each channel, by the two-pass formula over short runs
  // (which stay in L1) joined in double (Chan, Golub, LeVeque 1979): exact to float32 whatever the
  // mean. In the last of the outer groups only the first `lanes` of every sixteen elements count.
  void (*channel_moments)(Moments* moments, const float* x, int64_t outer, int64_t channels,
                          int64_t inner, int64_t stride, int lanes);
  // sums[2 * c] = sum of g, sums[2 * c + 1] = sum of g * (x - mean[c]), with g the gradient dy
  // behind the gate.
  void (*channel_dots)(double* sums, const float* dy, const float* x, const ReluMask& gate,
                       const float* mean, int64_t outer, int64_t channels, int64_t inner,
                       int64_t stride);
  // Planes first .. first + planes - 1 of (outer, C, inner), plane p being of channel c = p % C;
  // pointers are to the whole arrays. y = act((x - mean[c]) * scale[c] + shift[c] + plus), plus 0
  // when null; act is min(max(., low), high), NaN staying NaN; y may be x.
  void (*channel_affine)(float* y, const float* x, const float* plus, int64_t first, int64_t planes,
                         int64_t C, int64_t inner, const float* mean, const float* scale,
                         const float* shift, float low, float high, bool streaming);
  // dx = scale[c] * (g - dy_mean[c] - (x - mean[c]) * slope[c]) and, unless dplus is null, dplus =
  // g, with g as for channel_dots; lanes of dx beyond `lanes` become 0.
  void (*batch_norm_backward_input)(float* dx, float* dplus, const float* dy, const float* x,
                                    const ReluMask& gate, int64_t first, int64_t planes, int64_t C,
                                    int64_t inner, const float* mean, const float* scale,
                                    const float* dy_mean, const float* slope, int lanes,
                                    bool streaming);
  // Columns 0 .. n - 1 of (C, stride), n <= stride: see LocalResponseNorm. The scratch memory of
  // the backward pass is C * n floats.
  void (*local_response_norm)(float* y, const float* x, int64_t n, const LocalResponseNorm& norm);
  void (*local_response_norm_backward)(float* dx, const float* dy, const float* x, int64_t n,
                                       const LocalResponseNorm& norm, float* scratch);

  // ---- loss.cpp --------------------------------------------------------------------------------
  // Columns 0 .. n - 1 of a matrix of C rows, `stride` floats apart: softmax down each column, its
  // logarithm, and their gradients from y (or log y) and dy. The result may overwrite x, y or dy.
  void (*softmax)(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
  void (*log_softmax)(float* y, const float* x, int64_t n, int64_t C, int64_t stride);
  void (*softmax_backward)(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                           int64_t stride);
  void (*log_softmax_backward)(float* dx, const float* dy, const float* y, int64_t n, int64_t C,
                               int64_t stride);
  // best[i]: the row of the first maximum (first NaN if any) of column i.
  void (*argmax)(float* best, const float* x, int64_t n, int64_t C, int64_t stride);
  // Columns as above; labels[i]: the class of column i, or -1 for a column that does not count,
  // whose loss and gradient are 0. See CrossEntropy.
  void (*cross_entropy)(float* loss, float* dx, const float* x, const float* labels, int64_t n,
                        const CrossEntropy& params);
  // dx[i] = scale * dloss/dx; loss[i] unless loss is null; returns the sum of the losses. Lanes
  // beyond `lanes` of every sixteen elements get 0 and count nowhere (n is a multiple of 16 then).
  double (*pointwise_loss)(PointwiseLoss kind, float* loss, float* dx, const float* x,
                           const float* t, int64_t n, float scale, int lanes);

  // ---- optim.cpp -------------------------------------------------------------------------------
  // One step of an optimiser on n parameters p with gradients g, in place. State pointers may be
  // null where the rule does not use them.
  void (*sgd)(float* p, const float* g, float* momentum, int64_t n, const SgdRule& rule);
  void (*rmsprop)(float* p, const float* g, float* square_avg, float* grad_avg, float* momentum,
                  int64_t n, const RmspropRule& rule);
  void (*adam)(float* p, const float* g, float* exp_avg, float* exp_avg_sq, float* max_exp_avg_sq,
               int64_t n, const AdamRule& rule);
  void (*adagrad)(float* p, const float* g, float* state_sum, int64_t n, const AdagradRule& rule);
};

}  // namespace fastconv::cpu
