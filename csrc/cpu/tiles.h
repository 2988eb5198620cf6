// THE KERNEL CONTRACT, part 2: convolutions and linear layers. Each kernel takes one structure; the
// comment above it is the equation that the kernel computes. The rules at the head of kernels.h
// hold.
//
// Words used throughout:
//   vector   sixteen floats side by side in memory: sixteen samples (a lane block), or sixteen
//            neighbouring pixels or features of one sample
//   tap      one position (kh, kw) of a convolution's kernel
//   x_c, y_row, ...   distance in floats from one c (or row) of x (or y) to the next
#pragma once

#include <cstdint>

namespace fastconv::cpu {

// What happens to the sums of output channel k before they are stored:
//
//   y = min(max(sum * scale[k] + shift[k] + plus, low), high)      NaN stays NaN
//
// scale and shift may both be null: no multiplication, no shift. plus may be null; else the addend
// of an element of y lies where that element lies in y.
struct ChannelPostOps {
  const float *scale, *shift, *plus;
  float low, high;
};

// What a macro-kernel prefetches while it computes: parts of x that the next call will read.
//
//   x + c * x_c + row * x_row + col * x_col + offset + i * prefetch.row + j * prefetch.col
//
// for all i < rows, and for all j up to the last column of the tile plus `more` floats. Calls over
// the same x share the work: this call is number `part` of `parts`. offset = 0: no prefetch.
struct Prefetch {
  int64_t offset, rows, row, col, more, part, parts;
};

// The broadcast tile: convolution forward and by input, linear layers. One weight is broadcast to
// all lanes and multiplied with a vector of x.
//
//   y[k][row][col] = act(start + sum_{c < C} sum_{t < taps} w[k][c][t] * x[c][row][col][t])
//
// for each of `groups`. An element of x or y is a vector, an element of w a float:
//
//   x + group * x_group + c * x_c + row * x_row + col * x_col + x_tap[t]
//   w + group * w_group + k * w_k + c * w_c + w_tap[t]
//   y + group * y_group + k * y_k + row * y_row + col * y_col
//
// start  y itself (accumulate), else bias[group * K + k], else 0
// act    max(., 0) when relu, NaN stays NaN; with `post_ops` (one group only) these post-ops
// instead order  c outside, t inside, whatever the register tile: results do not depend on it. taps
// may
//        be 0.
// tail   the last vector of a row has `tail` floats, 1 .. 16, in y. All sixteen of x must be
//        readable.
// prefetch_w   prefetch the weights of the next tile of channels (after the last one, those
//        w_group further on). For weights in L3 or memory that lie in rows along c; with one tap
//        w_c is 1. Replaces `prefetch`.
struct BroadcastTile {
  int64_t groups, K, C, taps, rows, cols;
  const float* x;
  int64_t x_group, x_c, x_row, x_col;
  const int64_t* x_tap;
  const float* w;
  int64_t w_group, w_k, w_c;
  const int64_t* w_tap;
  float* y;
  int64_t y_group, y_k, y_row, y_col;
  const float* bias;  // groups * K floats or null
  bool accumulate, relu, streaming;
  const ChannelPostOps* post_ops;  // or null
  int tail;
  Prefetch prefetch;
  bool prefetch_w;
};

// The taps of a product that has none: one, in place.
static constexpr int64_t kNoOffset = 0;

// Depthwise convolution in lane blocks, plane by plane, forward or by input:
//
//   y[plane][row][col] = act(start + sum_{t, u} w[plane][t][u] * x[plane][row + t][col + u])
//
// start and act as for BroadcastTile. A stride divides rows and columns into phases: outputs of one
// phase share their taps. On each axis, output i < count of a phase
//
//   lies in y at       y_first + i * y_step
//   reads, for t < taps,  x at  x_first + i * x_step + t    (skipped where outside the image)
//   with the weight       w + w_first + t * w_step
//
// Every output exists and reads at least one pixel. Allowed: x_step = 1 with 1, 2, 3 or 5 taps
// along columns, or x_step = 2 with 3 or 5; at least x_step taps along rows; at most
// kDepthwisePhases phases. prefetch: fetch the rows of x that come next, for an x in no cache.
struct DepthwiseAxis {
  int64_t count, y_first, x_first, taps, w_first, w_step;
};

constexpr int kDepthwisePhases = 4;
struct DepthwiseTile {
  int64_t planes;
  const float* x;
  int64_t x_rows, x_cols, x_step;
  const float* w;
  int64_t w_plane;
  float* y;
  int64_t y_plane, y_row, y_step;  // y_row: floats from one row to the next
  const DepthwiseAxis *rows, *cols;
  int64_t row_phases, col_phases;
  const float* bias;  // `planes` floats or null
  bool relu, streaming, prefetch;
};

// Depthwise convolution in lane blocks by weight, one plane:
//
//   dw[t][u] = start + sum_{image, row, col} sum_lanes dy[image][row][col] *
//              x[image][x_row + row * step + t][x_col + col * step + u]
//
// for t < KH, u < KW. dw is plain; x outside its plane counts as zero. start: dw (accumulate) or 0.
// Allowed: step 1 or 2, KW 3 or 5; each column of dy reads at least one column of x.
struct DepthwiseWeightTile {
  int64_t images, rows, cols, KH, KW;
  const float* dy;
  int64_t dy_image, dy_row;  // floats from one to the next
  const float* x;            // the whole plane
  int64_t x_image, x_rows, x_cols, x_row, x_col, step;
  float* dw;
  bool accumulate, prefetch;
};

// Depthwise convolution of plain images by weight, one channel, K x K taps:
//
//   dw[t][u] = sum_{image, row, col} dy[image][row][col] *
//              x[image][row * step + t - PT][col * step + u - PL]
//
// x outside its plane counts as zero. Allowed: K 3 or 5, step 1 or 2. zeros: max(IW, OW) floats
// that are 0, which stand in for missing rows of x and of dy; so an infinite x may make NaN of a
// tap that does not meet it.
struct DepthwiseImageWeight {
  int64_t images, IH, IW, OH, OW, K, step, PT, PL;
  const float* dy;
  int64_t dy_image;  // floats from one to the next
  const float* x;
  int64_t x_image;
  const float* zeros;
  float* dw;
};

// The dot tile: convolution by weight, linear layers for a small batch. Both operands are vectors;
// the lanes are summed once for each output, at the end.
//
//   out[k][j] = start + sum_{image, row, col} sum_lanes a[k][image][row][col] *
//                                                       b[j][image][row][col]
//
//   a + k * a_k + image * a_image + row * a_row + col * a_col     a vector
//   b + b_j[j]  + image * b_image + row * b_row + col * b_col     a vector
//   out + k * out_k + j * out_j                                   a float
//
// A convolution by weight has a = dy, b = x, and a j for each input channel and tap.
// start       out itself (accumulate) or 0
// tail        floats that count in the last vector of a row, 1 .. 16; no more of it are read
// a_prefetch  the next call reads a + a_prefetch: prefetch it. 0: no prefetch
struct DotTile {
  int64_t K, J, images, rows, cols;
  const float* a;
  int64_t a_k, a_image, a_row, a_col;
  const float* b;
  int64_t b_image, b_row, b_col;
  const int64_t* b_j;  // J offsets
  float* out;
  int64_t out_k, out_j;
  bool accumulate;
  int tail;
  int64_t a_prefetch;
};

// One image in lane blocks, in tiles for Winograd's F(m x m, r x r). n = m + r - 1 points
// along an axis: 5 for r = 2, 5 or 6 for r = 3, 6 for r = 4 and 5. Pixels of a tile are `stride`
// apart. Tile i begins at the pixel
//
//   (row0 + i / tile_cols * m * stride, col0 + i % tile_cols * m * stride)
//
// which may lie outside the image. The tiles first .. first + count - 1 are transformed.
struct WinogradGrid {
  int64_t rows, cols;  // of the image
  int64_t row0, col0;
  int64_t tile_cols;
  int64_t first, count;
  int64_t taps, points, stride;  // r, n
};

// One phase of a size x size kernel: its r x r taps (row + i * stride, col + j * stride), with
// r = ceil(size / stride), and the number n of points along an axis. A tap beyond the kernel is
// zero.
struct WinogradTaps {
  int64_t size, stride, row, col, points;
};

// Convolution and 2x2 max pooling in one pass; windows side by side:
//
//   y[k][row][col] = act(max_{lower, right < 2} (start + sum_{c < C} sum_{t < taps} w[k][c][t] *
//                        x[c][2 * row + lower][2 * col + right][t]))
//
// in lanes; addresses of x and w as for BroadcastTile. y_k and y_row count elements of y and of
// argmax. start is bias[k] or 0; act is max(., 0) when relu. argmax (or null): the position
// 2 * lower + right of the maximum, as max_pool finds it.
struct PooledTile {
  int64_t K, C, taps, rows, cols;  // rows and columns of windows
  const float* x;
  int64_t x_c, x_row, x_col;
  const int64_t* x_tap;
  const float* w;
  int64_t w_k, w_c;
  const int64_t* w_tap;
  float* y;
  uint16_t* argmax;
  int64_t y_k, y_row;
  const float* bias;
  bool relu;
};

// The gradients of 2x2 maxima of a convolution's outputs, in lanes: g[k][row][col] belongs to the
// output at position argmax (2 * lower + right) of its window.
struct PooledWindows {
  int64_t rows, cols;
  const float* g;
  const uint16_t* argmax;
  int64_t g_k, argmax_k;  // elements from one k to the next
};

// The gradient by weight, with (lower, right) the position of the maximum, in each lane its own:
//
//   dw[k][c][t][u] = sum_{row, col} sum_lanes g[k][row][col] *
//                    x[c][2 * row + lower + t][2 * col + right + u]
struct PooledWeightGradient {
  int64_t K, C, size;  // of the kernels: 3 x 3 or 5 x 5
  PooledWindows windows;
  const float* x;  // every pixel in the sum is there
  int64_t x_c, x_row;
  float* dw;
  int64_t dw_k;
};

// One maximum, laid out for the gradient by input: its gradient, and for i < 4 the index
// 4 * i + position, with which `pick` (simd.h) selects a weight.
struct PooledMaximum {
  float g[16];
  uint8_t pick[4][16];
};

// The gradient by input:
//
//   dx[c][2 * row + lower + t][2 * col + right + u] += sum_k g[k][row][col] * w[k][c][t][u]
//
// w is expanded: for each of the (size + 1) x (size + 1) pixels that a window reaches, the four
// weights that multiply it when the maximum is at position 0, 1, 2, 3; zero outside the kernel.
struct PooledInputGradient {
  int64_t K, C, size, rows, cols;
  const PooledMaximum* maxima;  // [row][col][k]
  const float* w;
  int64_t w_k, w_c;
  float* dx;
  int64_t dx_c, dx_row;
};

}  // namespace fastconv::cpu
