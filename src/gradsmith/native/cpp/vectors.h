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

#include "results.h"

namespace gradsmith {

using Vec = at::vec::Vectorized<float>;
using Ints = at::vec::Vectorized<int32_t>;

constexpr int64_t kHalf = Vec::size();
constexpr int64_t kStep = 2 * kHalf;  // the elements of a Pair, and of one vector of a 16-bit type
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Arithmetic on two vectors at a time, an operation on one next to the same on the other: the processor looks ahead
// only so far, and the second need not wait for the first.
struct Pair {
  Vec low, high;
};

inline Pair all(double value) { return {Vec(static_cast<float>(value)), Vec(static_cast<float>(value))}; }

inline Pair operator+(const Pair& a, const Pair& b) { return {a.low + b.low, a.high + b.high}; }
inline Pair operator-(const Pair& a, const Pair& b) { return {a.low - b.low, a.high - b.high}; }
inline Pair operator*(const Pair& a, const Pair& b) { return {a.low * b.low, a.high * b.high}; }
inline Pair operator/(const Pair& a, const Pair& b) { return {a.low / b.low, a.high / b.high}; }
inline Pair operator-(const Pair& a) { return {a.low.neg(), a.high.neg()}; }
inline Pair abs(const Pair& a) { return {a.low.abs(), a.high.abs()}; }
inline Pair fma(const Pair& a, const Pair& b, const Pair& c) {
  return {at::vec::fmadd(a.low, b.low, c.low), at::vec::fmadd(a.high, b.high, c.high)};
}
// Of two numbers the larger; NaN where either is NaN.
inline Pair larger(const Pair& a, const Pair& b) {
  return {at::vec::maximum(a.low, b.low), at::vec::maximum(a.high, b.high)};
}
// NaN where x is NaN.
inline Pair at_least(const Pair& x, float value) {
  return {at::vec::clamp_min(x.low, Vec(value)), at::vec::clamp_min(x.high, Vec(value))};
}
inline Pair at_most(const Pair& x, float value) {
  return {at::vec::clamp_max(x.low, Vec(value)), at::vec::clamp_max(x.high, Vec(value))};
}
// `below` where x < limit, and `otherwise` elsewhere.
inline Pair choose(const Pair& x, float limit, const Pair& below, const Pair& otherwise) {
  return {
      Vec::blendv(otherwise.low, below.low, x.low < Vec(limit)),
      Vec::blendv(otherwise.high, below.high, x.high < Vec(limit))};
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

template <typename T>
inline void stream_pair(const Pair& values, T* to) {
  if constexpr (std::is_same_v<T, float>) {
    stream(values.low, to);
    stream(values.high, to + kHalf);
  } else {
    stream(at::vec::convert_from_float<T>(values.low, values.high), to);
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
// `store(values, pointer)` stay inside the row, its end included. What is stored is streamed where `prepare` says so.
template <typename Body>
inline void for_each_pair(int64_t size, const Body& body, bool streamed = false) {
  int64_t at = 0;
  const auto load = [](const auto* from, float) { return read_pair(from); };
  if (streamed) {
    for (; at + kStep <= size; at += kStep) {
      body(at, load, [](const Pair& values, auto* to) { stream_pair(values, to); });
    }
  } else {
    for (; at + kStep <= size; at += kStep) {
      body(at, load, [](const Pair& values, auto* to) { write_pair(values, to); });
    }
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

// Into each loop, lest its constants be read again in every turn.
#define GRADSMITH_INLINE [[gnu::always_inline]] inline

// e^x = power e^rest, with a power of 2 and |rest| <= log(2)/2, for x between log(2) (-126.5, -127.5) and log(2) 128.5;
// at the ends the power is 0 and infinity.
struct Exponent {
  Pair power, rest;
};

// The power of 2 whose exponent's field, as an integer, the last bits of a float are.
inline Vec power_of_two(const Vec& field) {
  return at::vec::cast<float, int32_t>(at::vec::cast<int32_t, float>(field) << Ints(23));
}

GRADSMITH_INLINE Exponent exponent(const Pair& x) {
  // Next to 1.5 2^23 there is a float for each integer, with that integer in its last bits: n, by which to halve or
  // double, and 127 more.
  const Pair origin = all(12582912.0f + 127);
  const Pair shifted = fma(x, all(1.44269504088896341f), origin);
  const Pair n = shifted - origin;
  const Pair rest = fma(n, all(-0.693359375f), x);  // exact: log(2) is taken off in two parts
  return {{power_of_two(shifted.low), power_of_two(shifted.high)}, fma(n, all(2.12194440e-4f), rest)};
}

// By the polynomial of degree 6, of those that begin with 1 + x, whose largest relative error is least: 3e-9. With its
// rounding, the result is off by 0.7 units in the last place.
GRADSMITH_INLINE Pair exponential(const Exponent& x) {
  Pair p = fma(all(0.0013814433f), x.rest, all(0.008368797f));
  p = fma(p, x.rest, all(0.041668396f));
  p = fma(p, x.rest, all(0.1666652f));
  p = fma(p, x.rest, all(0.49999994f));
  p = fma(p, x.rest, all(1));
  p = fma(p, x.rest, all(1));
  return p * x.power;
}

constexpr float kLowest = -88.0f, kHighest = 88.5f;  // their exponentials come out as 0 and infinity

// e^x; NaN stays NaN, and what is below the smallest normal number is 0.
GRADSMITH_INLINE Pair exp(const Pair& x) { return exponential(exponent(at_most(at_least(x, kLowest), kHighest))); }

// The same for x <= 0.
GRADSMITH_INLINE Pair exp_nonpositive(const Pair& x) { return exponential(exponent(at_least(x, kLowest))); }

// sigmoid(x) and 1 - sigmoid(x) = sigmoid(-x), neither by cancellation. Where the first is 0, so is the second.
struct Sigmoid {
  Pair value, rest;
};

GRADSMITH_INLINE Sigmoid sigmoid(const Pair& x) {
  const Pair e = exp(-x), value = all(1) / (all(1) + e);
  return {value, at_most(e, std::numeric_limits<float>::max()) * value};
}

GRADSMITH_INLINE Pair tanh(const Pair& x) {
  // Near 0 the quotient below would cancel; there x - x³/3 + … is exact enough (Cephes, tanhf).
  const Pair magnitude = abs(x);
  const Pair e = exp_nonpositive(magnitude * all(-2));
  const Pair far = (all(1) - e) / (all(1) + e);
  const Pair square = x * x;
  Pair p = fma(all(-5.70498872745e-3f), square, all(2.06390887954e-2f));
  p = fma(p, square, all(-5.37397155531e-2f));
  p = fma(p, square, all(1.33314422036e-1f));
  p = fma(p, square, all(-3.33332819422e-1f));
  const Pair near = fma(p * square, x, x);
  return choose(magnitude, 0.625f, near, choose(x, 0, -far, far));
}

// A share of the rows for each thread, such that a share is worth a thread.
inline int64_t rows_per_task(int64_t columns) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, columns));
}

// Call `body(i)` for each row, on several threads.
template <typename Body>
inline void for_each_row(int64_t rows, int64_t columns, const Body& body) {
  at::parallel_for(0, rows, rows_per_task(columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
    finish_streams();
  });
}

inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }

#define GRADSMITH_DISPATCH(dtype, name, ...) \
  AT_DISPATCH_SWITCH(                        \
      dtype, name,                           \
      AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__) \
          AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__))

}  // namespace gradsmith
