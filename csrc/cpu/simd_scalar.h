// The vector of simd.h in plain C++, for any CPU: the readable meaning of every function. Part of
// simd.h.
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastconv::cpu::FASTCONV_ISA {
namespace {

constexpr int kWidth = 4;
// Four floats that are added, multiplied and divided lane by lane.
#if defined(__GNUC__)
typedef float Floats __attribute__((vector_size(4 * sizeof(float))));  // in one register
#else
struct Floats {
  float lane[kWidth];
  float& operator[](int i) { return lane[i]; }
  float operator[](int i) const { return lane[i]; }
};
#define FASTCONV_LANE_BY_LANE(op)                                          \
  FASTCONV_INLINE Floats operator op(Floats a, Floats b) {                 \
    return Floats{a[0] op b[0], a[1] op b[1], a[2] op b[2], a[3] op b[3]}; \
  }
FASTCONV_LANE_BY_LANE(+)
FASTCONV_LANE_BY_LANE(-)
FASTCONV_LANE_BY_LANE(*)
FASTCONV_LANE_BY_LANE(/)
#undef FASTCONV_LANE_BY_LANE
#endif
struct V {
  Floats v;
};
struct Mask {
  bool m[kWidth];
};
struct U {
  uint32_t u[kWidth];
};

// f(i) for each lane i. Not a loop: until a compiler has unrolled it, it would keep all lanes in
// memory, and take three times as long.
template <class F>
FASTCONV_INLINE V each(const F& f) {
  return {Floats{f(0), f(1), f(2), f(3)}};
}
template <class F>
FASTCONV_INLINE Mask each_mask(const F& f) {
  return {{f(0), f(1), f(2), f(3)}};
}
template <class F>
FASTCONV_INLINE U each_u(const F& f) {
  return {{f(0), f(1), f(2), f(3)}};
}

FASTCONV_INLINE V load(const float* p) {
  V r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}
FASTCONV_INLINE void store(float* p, V a) { std::memcpy(p, &a.v, sizeof a.v); }
FASTCONV_INLINE void stream(float* p, V a) { store(p, a); }
FASTCONV_INLINE void stream_fence() {}
FASTCONV_INLINE V set1(float a) { return {Floats{a, a, a, a}}; }
FASTCONV_INLINE V zero() { return set1(0.0f); }
FASTCONV_INLINE V operator+(V a, V b) { return {a.v + b.v}; }
FASTCONV_INLINE V operator-(V a, V b) { return {a.v - b.v}; }
FASTCONV_INLINE V operator*(V a, V b) { return {a.v * b.v}; }
FASTCONV_INLINE V operator/(V a, V b) { return {a.v / b.v}; }
FASTCONV_INLINE V fma(V a, V b, V c) { return a * b + c; }
FASTCONV_INLINE V fnma(V a, V b, V c) { return c - a * b; }
FASTCONV_INLINE V sqrt(V a) {
  return each([&](int i) { return ::sqrtf(a.v[i]); });
}
FASTCONV_INLINE V max(V a, V b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
FASTCONV_INLINE V min(V a, V b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
FASTCONV_INLINE Mask operator>(V a, V b) {
  return each_mask([&](int i) { return a.v[i] > b.v[i]; });
}
FASTCONV_INLINE Mask operator<(V a, V b) {
  return each_mask([&](int i) { return a.v[i] < b.v[i]; });
}
FASTCONV_INLINE Mask operator<=(V a, V b) {
  return each_mask([&](int i) { return a.v[i] <= b.v[i]; });
}
FASTCONV_INLINE Mask operator==(V a, V b) {
  return each_mask([&](int i) { return a.v[i] == b.v[i]; });
}
FASTCONV_INLINE Mask is_nan(V a) {
  return each_mask([&](int i) { return a.v[i] != a.v[i]; });
}
FASTCONV_INLINE Mask either_nan(V a, V b) {
  return each_mask([&](int i) { return a.v[i] != a.v[i] || b.v[i] != b.v[i]; });
}
FASTCONV_INLINE Mask operator|(Mask a, Mask b) {
  return each_mask([&](int i) { return a.m[i] || b.m[i]; });
}
FASTCONV_INLINE Mask operator&(Mask a, Mask b) {
  return each_mask([&](int i) { return a.m[i] && b.m[i]; });
}
FASTCONV_INLINE Mask operator!(Mask a) {
  return each_mask([&](int i) { return !a.m[i]; });
}
FASTCONV_INLINE bool any(Mask a) { return a.m[0] || a.m[1] || a.m[2] || a.m[3]; }
FASTCONV_INLINE V select(Mask m, V yes, V no) {
  return each([&](int i) { return m.m[i] ? yes.v[i] : no.v[i]; });
}
FASTCONV_INLINE Mask first_lanes(int n) {
  return each_mask([&](int i) { return i < n; });
}
FASTCONV_INLINE V load_partial(const float* p, int n) {
  return each([&](int i) { return i < n ? p[i] : 0.0f; });
}
FASTCONV_INLINE V load_masked(const float* p, Mask m) {
  return each([&](int i) { return m.m[i] ? p[i] : 0.0f; });
}
FASTCONV_INLINE void store_partial(float* p, V a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
FASTCONV_INLINE V round_to_int(V a) {
  return each([&](int i) { return ::rintf(a.v[i]); });
}
FASTCONV_INLINE V scale_by_exp2(V a, V k) {
  return each([&](int i) { return ::ldexpf(a.v[i], static_cast<int>(k.v[i])); });
}
FASTCONV_INLINE V load_u16(const uint16_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
FASTCONV_INLINE void store_u16(uint16_t* p, V a) {
  for (int i = 0; i < kWidth; ++i) p[i] = static_cast<uint16_t>(a.v[i]);
}
template <int number>
FASTCONV_INLINE Mask has_bit(const uint16_t* p) {
  return each_mask([&](int i) { return (p[i] >> number & 1) != 0; });
}
FASTCONV_INLINE V load_u8(const uint8_t* p) {
  return each([&](int i) { return static_cast<float>(p[i]); });
}
FASTCONV_INLINE V load_even(const float* p, int n) {
  return each([&](int i) { return i < n ? p[2 * i] : 0.0f; });
}
FASTCONV_INLINE V evens(V a, V b) { return {Floats{a.v[0], a.v[2], b.v[0], b.v[2]}}; }
FASTCONV_INLINE V odds(V a, V b) { return {Floats{a.v[1], a.v[3], b.v[1], b.v[3]}}; }

FASTCONV_INLINE U set1_u(uint32_t a) { return {{a, a, a, a}}; }
FASTCONV_INLINE U lane_numbers() { return {{0, 1, 2, 3}}; }
FASTCONV_INLINE U operator+(U a, U b) {
  return each_u([&](int i) { return a.u[i] + b.u[i]; });
}
FASTCONV_INLINE U operator*(U a, U b) {
  return each_u([&](int i) { return a.u[i] * b.u[i]; });
}
FASTCONV_INLINE U operator&(U a, U b) {
  return each_u([&](int i) { return a.u[i] & b.u[i]; });
}
FASTCONV_INLINE U operator^(U a, U b) {
  return each_u([&](int i) { return a.u[i] ^ b.u[i]; });
}
template <unsigned bits>
FASTCONV_INLINE U shift_right(U a) {
  return each_u([&](int i) { return a.u[i] >> bits; });
}
FASTCONV_INLINE V to_float(U a) {
  return each([&](int i) { return static_cast<float>(static_cast<int32_t>(a.u[i])); });
}
FASTCONV_INLINE U bits_of(V a) {
  U r;
  std::memcpy(r.u, &a.v, sizeof r.u);
  return r;
}
FASTCONV_INLINE V from_bits(U a) {
  V r;
  std::memcpy(&r.v, a.u, sizeof r.v);
  return r;
}
struct Picks {
  const uint8_t (*of)[16];
  int first;
};
FASTCONV_INLINE void store_picks(uint8_t (&lanes)[4][16], const uint16_t* which) {
  for (int table = 0; table < 4; ++table)
    for (int i = 0; i < 16; ++i) lanes[table][i] = static_cast<uint8_t>(4 * table + which[i] % 4);
}
FASTCONV_INLINE Picks load_picks(const uint8_t (&lanes)[4][16], int part) {
  return {lanes, part * kWidth};
}
FASTCONV_INLINE V pick(const float* tables, int table, const Picks& picks) {
  V r;
  for (int i = 0; i < kWidth; ++i) r.v[i] = tables[picks.of[table][picks.first + i]];
  return r;
}

}  // namespace
}  // namespace fastconv::cpu::FASTCONV_ISA
