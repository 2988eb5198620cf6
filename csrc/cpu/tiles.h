// The contract of the kernels of convolutions and linear layers: one structure for each, with the
// equation that it stands for. The rules of kernels.h hold.
#pragma once

#include <cstdint>

namespace fastconv::cpu {

// What becomes of the sums of output channel k before they are stored:
//
//   y = min(max(sum * scale[k] + shift[k] + plus, low), high), NaN staying NaN
//
// scale may be null (then so is shift, and nothing is multiplied or added); plus, too. An element
// of plus lies where that of y does.
struct ChannelPostOps {
  const float *scale, *shift, *plus;
  float low, high;
};

// The broadcast tile: sums over channels and taps, one weight spread over a vector at a time.
//
//   y[k][row][col] = act(start + sum_{c < C} sum_{t < taps} w[k][c][t] * x[c][row][col][t])
//
// for each of `groups`, where an element of x or y is a *vector* of sixteen floats: sixteen samples
// (lanes), or sixteen neighbouring pixels or features (few samples, weight gradients of linear
// layers). Address of a vector:
//
//   x + group * x_group + c * x_c + row * x_row + col * x_col + x_tap[t]
//   y + group * y_group + k * y_k + row * y_row + col * y_col
//   w + group * w_group + k * w_k + c * w_c + w_tap[t]  (a single float)
//
// start is y itself (accumulate), else bias[group * K + k], else 0; act is max(., 0) when relu, NaN
// staying NaN. The sum runs over c, then t, in that order, whatever the register tile. taps may be
// 0.
//
// While a tile reads x, it asks for the vectors of `ahead`, which the next sweep will read:
//
//   x + c * x_c + row * x_row + col * x_col + offset + i * ahead.row + j * ahead.col
//
// for all i < rows and all j up to the last column of the tile and `more` floats beyond. Sweeps
// over the same x share that: this one is number `part` of `parts`. offset 0: nothing is asked for.
// Or, prefetch_w, for the weights of the next tile (behind the last one those of the next group, or
// whatever lies w_group further), which lie in rows along c, neighbours where there is one tap (w_c
// = 1): where each is read from L3 or memory.
struct Prefetch {
  int64_t offset, rows, row, col, more, part, parts;
};

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
  const ChannelPostOps* finish;  // in place of act, for one group; or null
  int tail;  // floats to write in the last vector of a row, 1..16; x must be readable for all
             // sixteen
  Prefetch prefetch;
  bool prefetch_w;
};

// Convolutions of one input and one output channel, plane by plane, sixteen samples a vector:
//
//   y[plane][row][col] = act(start + sum_{t, u} w[plane][t][u] * x[plane][row + t][col + u])
//
// start and act as above. Outputs are given by phases of rows and phases of columns; along an axis
// output i < count of a phase lies in y at y_first + i * y_step and meets, with tap t < taps, x at
// x_first + i * x_step + t, which may lie outside and is left out then, and the weight at w +
// w_first + t * w_step. There is an output, and each meets at least one pixel of x. x_step is 1 and
// taps along columns 1, 2, 3 or 5, or x_step is 2 and they are 3 or 5; taps along rows are x_step
// or more, phases kDepthwisePhases or fewer. `asks` for the rows of x that come next: where it is
// in no cache.
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

// The gradient of the weights of one such plane:
//
//   dw[t][u] = start + sum_{image, row, col} sum_lanes dy[image][row][col] *
//              x[image][x_row + row * step + t][x_col + col * step + u]
//
// for t < KH, u < KW, where dw is plain and x outside its plane is left out. start is dw itself
// (accumulate) or 0. step is 1 or 2, KW 3 or 5, and each column of dy meets a column of x.
struct DepthwiseWeightTile {
  int64_t images, rows, cols, KH, KW;
  const float* dy;
  int64_t dy_image, dy_row;  // floats from one to the next
  const float* x;            // the whole plane
  int64_t x_image, x_rows, x_cols, x_row, x_col, step;
  float* dw;
  bool accumulate, prefetch;
};

// The same for plain images, K x K taps, K 3 or 5:
//
//   dw[t][u] = sum_{image, row, col} dy[image][row][col] *
//              x[image][row * step + t - PT][col * step + u - PL]
//
// with x outside its plane left out, step 1 or 2. zeros: IW or OW of them, whichever is more; they
// stand in for rows of dy, so an infinite x may make NaN of taps that do not meet it.
struct DepthwiseImageWeight {
  int64_t images, IH, IW, OH, OW, K, step, PT, PL;
  const float* dy;
  int64_t dy_image;  // floats from one to the next
  const float* x;
  int64_t x_image;
  const float* zeros;
  float* dw;
};

// The dot tile: both operands are vectors; the sums over lanes come last, once per output.
//
//   out[k][j] = start + sum_{image, row, col} sum_lanes a[k][image][row][col] *
//   b[j][image][row][col]
//
//   a + k * a_k + image * a_image + row * a_row + col * a_col
//   b + b_j[j]  + image * b_image + row * b_row + col * b_col
//   out + k * out_k + j * out_j  (a single float)
//
// start is out itself (accumulate) or 0. For a convolution by weight a is dy, b is x, j runs over
// input channels and taps.
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
  int tail;  // floats that count in the last vector of a row, 1..16; none beyond them is read
  int64_t a_prefetch;  // a + a_prefetch is what the next sweep will read and is asked for; 0:
                       // nothing is
};

// Tiles of one image in lane blocks for Winograd's F(m x m, r x r) with n = m + r - 1 points along
// an axis: 5 for r = 2, 5 or 6 for r = 3, 6 for r = 4 and 5. Pixels of a tile are `stride` apart,
// tiles m * stride: tile i begins at pixel (row0 + i / tile_cols * m * stride, col0 + i % tile_cols
// * m * stride), which may lie outside.
struct WinogradGrid {
  int64_t rows, cols;  // of the image
  int64_t row0, col0;
  int64_t tile_cols;
  int64_t first, count;          // the tiles to transform
  int64_t taps, points, stride;  // r, n
};

// Of a kernel of size x size the r x r taps (row + i * stride, col + j * stride), r = ceil(size /
// stride), and the n points along an axis they are evaluated at; a tap beyond the kernel is zero.
struct WinogradTaps {
  int64_t size, stride, row, col, points;
};

// The maxima of windows of 2x2 outputs of a convolution, side by side:
//
//   y[k][row][col] = act(max_{lower, right < 2} (start + sum_{c < C} sum_{t < taps} w[k][c][t] *
//                        x[c][2 * row + lower][2 * col + right][t]))
//
// in lanes, x and w as for BroadcastTile, y_k and y_row in elements of y and of argmax. start is
// bias[k] or 0, act is max(., 0) when relu. argmax, or null: the position 2 * lower + right as
// max_pool finds it.
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

// Windows of 2x2 outputs of a convolution, two apart, of each of which the maximum was taken:
// g[k][row][col] is its gradient, at position argmax (2 * lower + right) of the window, in lanes.
struct PooledWindows {
  int64_t rows, cols;
  const float* g;
  const uint16_t* argmax;
  int64_t g_k, argmax_k;  // elements from one k to the next
};

// dw[k][c][t][u] = sum_{row, col} sum_lanes g[k][row][col] *
//                  x[c][2 * row + lower + t][2 * col + right + u]
struct PooledWeightGradient {
  int64_t K, C, size;  // of the kernels: 3 x 3 or 5 x 5
  PooledWindows windows;
  const float* x;  // every pixel that is met is there
  int64_t x_c, x_row;
  float* dw;
  int64_t dw_k;
};

// dx[c][2 * row + lower + t][2 * col + right + u] += sum_k g[k][row][col] * w[k][c][t][u]
struct PooledMaximum {
  float g[16];
  uint8_t pick[4][16];  // 4 * i + position, i < 4
};
struct PooledInputGradient {
  int64_t K, C, size, rows, cols;
  const PooledMaximum* maxima;  // [row][col][k]
  // For each pixel (t, u) of the (size + 1) x (size + 1) that a window reaches the weights that it
  // meets if the maximum is at position 0, 1, 2, 3: four floats, zero outside the kernel.
  const float* w;
  int64_t w_k, w_c;
  float* dx;
  int64_t dx_c, dx_row;
};

}  // namespace fastconv::cpu
