// Rows of float32, bfloat16 or float16, read and written as pairs of float32 vectors: all arithmetic is in float32.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace gradsmith {

using Vec = at::vec::Vectorized<float>;
using Ints = at::vec::Vectorized<int32_t>;

constexpr int64_t kHalf = Vec::size();
constexpr int64_t kStep = 2 * kHalf;  // the elements of a Pair, and of one vector of a 16-bit type
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Pair {
  Vec low, high;
};

inline Pair all(float value) { return {Vec(value), Vec(value)}; }

inline Pair operator+(const Pair& a, const Pair& b) { return {a.low + b.low, a.high + b.high}; }
inline Pair operator-(const Pair& a, const Pair& b) { return {a.low - b.low, a.high - b.high}; }
inline Pair operator*(const Pair& a, const Pair& b) { return {a.low * b.low, a.high * b.high}; }
inline Pair fma(const Pair& a, const Pair& b, const Pair& c) {
  return {at::vec::fmadd(a.low, b.low, c.low), at::vec::fmadd(a.high, b.high, c.high)};
}
// Of two numbers the larger; NaN where either is NaN.
inline Pair larger(const Pair& a, const Pair& b) {
  return {at::vec::maximum(a.low, b.low), at::vec::maximum(a.high, b.high)};
}
template <typename F>
inline Pair each(const Pair& x, const F& function) {
  return {function(x.low), function(x.high)};
}

template <typename T>
inline Pair read_pair(const T* from) {
  if constexpr (std::is_same_v<T, float>) {
    return {Vec::loadu(from), Vec::loadu(from + kHalf)};
  } else {
    auto [low, high] = at::vec::convert_to_float<T>(at::vec::Vectorized<T>::loadu(from));
    return {low, high};
  }
}

template <typename T>
inline void write_pair(const Pair& values, T* to) {
  if constexpr (std::is_same_v<T, float>) {
    values.low.store(to);
    values.high.store(to + kHalf);
  } else {
    at::vec::convert_from_float<T>(values.low, values.high).store(to);
  }
}

// The last elements of a row, fewer than a Pair holds; `fill` stands in for the others.
template <typename T>
inline Pair read_some(const T* from, int64_t count, float fill) {
  alignas(64) float buffer[kStep];  // not of T, in which `fill` would be rounded
  std::fill(buffer, buffer + kStep, fill);
  std::copy(from, from + count, buffer);
  return read_pair(buffer);
}

template <typename T>
inline void write_some(const Pair& values, T* to, int64_t count) {
  alignas(64) T buffer[kStep];
  write_pair(values, buffer);
  std::copy(buffer, buffer + count, to);
}

// Call `body(offset, load, store)` for each Pair of a row of `size` elements. `load(pointer, fill)` and
// `store(values, pointer)` stay inside the row, its end included.
template <typename Body>
inline void for_each_pair(int64_t size, const Body& body) {
  int64_t at = 0;
  for (; at + kStep <= size; at += kStep) {
    body(
        at, [](const auto* from, float) { return read_pair(from); },
        [](const Pair& values, auto* to) { write_pair(values, to); });
  }
  if (at < size) {
    const int64_t rest = size - at;
    body(
        at, [rest](const auto* from, float fill) { return read_some(from, rest, fill); },
        [rest](const Pair& values, auto* to) { write_some(values, to, rest); });
  }
}

// Call `body(start, count)` for parts of a row that are short enough for sums in float32; their sums are added in
// float64, so that no row is too long.
constexpr int64_t kPart = 4096;

template <typename Body>
inline void for_each_part(int64_t size, const Body& body) {
  for (int64_t start = 0; start < size; start += kPart) body(start, std::min(kPart, size - start));
}

inline float sum(const Pair& values) {
  alignas(64) float lanes[kHalf];
  (values.low + values.high).store(lanes);
  for (int64_t width = kHalf / 2; width > 0; width /= 2) {
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

inline float max(const Pair& values) {
  alignas(64) float lanes[kHalf];
  at::vec::maximum(values.low, values.high).store(lanes);
  float largest = lanes[0];
  for (int64_t lane = 1; lane < kHalf; ++lane) {
    if (!(lanes[lane] <= largest)) largest = lanes[lane];  // NaN stays
    if (largest != largest) break;
  }
  return largest;
}

// e^x for x <= 0, to about two units in the last place; NaN stays NaN, and what is below the smallest normal number
// becomes 0. Reduction and polynomial as in the Cephes library (expf), on any vector width.
inline Vec exp_nonpositive(const Vec& x) {
  const Vec smallest(-87.33654f);
  const Vec clamped = at::vec::maximum(x, smallest);
  const Vec n = (clamped * Vec(1.44269504088896341f)).round();
  Vec r = at::vec::fmadd(n, Vec(-0.693359375f), clamped);
  r = at::vec::fmadd(n, Vec(2.12194440e-4f), r);
  Vec p(1.9875691500e-4f);
  p = at::vec::fmadd(p, r, Vec(1.3981999507e-3f));
  p = at::vec::fmadd(p, r, Vec(8.3334519073e-3f));
  p = at::vec::fmadd(p, r, Vec(4.1665795894e-2f));
  p = at::vec::fmadd(p, r, Vec(1.6666665459e-1f));
  p = at::vec::fmadd(p, r, Vec(5.0000001201e-1f));
  p = at::vec::fmadd(p * r, r, r + Vec(1.0f));
  const Ints exponent = at::vec::convert_to_int_of_same_size(n) + Ints(127);
  const Vec scale = at::vec::cast<float, int32_t>(exponent << Ints(23));
  return Vec::blendv(p * scale, Vec(0.0f), x < smallest);
}

inline Pair exp_nonpositive(const Pair& x) {
  return each(x, [](const Vec& v) { return exp_nonpositive(v); });
}

// sigmoid(x) and 1 - sigmoid(x) = sigmoid(-x), neither by cancellation.
struct Sigmoid {
  Vec value, rest;
};

inline Sigmoid sigmoid(const Vec& x) {
  const Vec e = exp_nonpositive(x.abs().neg());
  const Vec larger = Vec(1.0f) / (Vec(1.0f) + e), smaller = e * larger;
  const Vec negative = x < Vec(0.0f);
  return {Vec::blendv(larger, smaller, negative), Vec::blendv(smaller, larger, negative)};
}

inline Vec tanh(const Vec& x) {
  // Near 0 the quotient below would cancel; there x - x³/3 + … is exact enough (Cephes, tanhf).
  const Vec magnitude = x.abs();
  const Vec e = exp_nonpositive(magnitude * Vec(-2.0f));
  const Vec far = (Vec(1.0f) - e) / (Vec(1.0f) + e);
  const Vec square = x * x;
  Vec p(-5.70498872745e-3f);
  p = at::vec::fmadd(p, square, Vec(2.06390887954e-2f));
  p = at::vec::fmadd(p, square, Vec(-5.37397155531e-2f));
  p = at::vec::fmadd(p, square, Vec(1.33314422036e-1f));
  p = at::vec::fmadd(p, square, Vec(-3.33332819422e-1f));
  const Vec near = at::vec::fmadd(p * square, x, x);
  const Vec signed_far = Vec::blendv(far, far.neg(), x < Vec(0.0f));
  return Vec::blendv(signed_far, near, magnitude < Vec(0.625f));
}

// A share of the rows for each thread, such that a share is worth a thread.
inline int64_t rows_per_task(int64_t columns) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, columns));
}

inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }

#define GRADSMITH_DISPATCH(dtype, name, ...) \
  AT_DISPATCH_SWITCH(                        \
      dtype, name,                           \
      AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__) \
          AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__))

}  // namespace gradsmith
