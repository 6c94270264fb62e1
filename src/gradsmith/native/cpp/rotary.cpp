// Rotary position embedding: pairs of features turned, in one pass over memory and for any strides of what leads.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "rows.h"
#include "vectors.h"

namespace gradsmith {
namespace {

// Some elements as one vector in float32, at most kHalf of them.
template <typename T>
Vec read(const T* from, int64_t count) {
  if constexpr (std::is_same_v<T, float>) {
    return Vec::loadu(from, count);
  } else {
    return std::get<0>(at::vec::convert_to_float<T>(at::vec::Vectorized<T>::loadu(from, count)));
  }
}

template <typename T>
void write(const Vec& values, T* to, int64_t count) {
  if constexpr (std::is_same_v<T, float>) {
    values.store(to, count);
  } else {
    at::vec::convert_from_float<T>(values, values).store(to, count);
  }
}

template <typename V>
struct Turned {
  V first, second;
};

template <typename V>
inline Turned<V> turn(const V& a, const V& b, const V& cosine, const V& sine) {
  return {a * cosine - b * sine, b * cosine + a * sine};
}

template <typename T>
struct Row {
  const T* x;
  const float *cosines, *sines;
  float sign;
  int64_t pairs;
  T* to;

  // Feature k with feature pairs + k.
  void turn_halves(bool streamed) const {
    const int64_t whole = pairs / kStep * kStep;
    const auto body = [&](int64_t at, auto load, auto store) {
      const Pair cosine = load(cosines + at, 0), sine = load(sines + at, 0) * all(sign);
      const auto both = turn(load(x + at, 0), load(x + pairs + at, 0), cosine, sine);
      store(both.first, to + at);
      store(both.second, to + pairs + at);
    };
    for_each_pair(whole, body, streamed && whole == pairs);
    for (int64_t at = whole; at < pairs; at += kHalf) {  // 16 pairs are usual, and half a step of the widest vectors
      const int64_t count = std::min(kHalf, pairs - at);
      const Vec cosine = read(cosines + at, count), sine = read(sines + at, count) * Vec(sign);
      const auto both = turn(read(x + at, count), read(x + pairs + at, count), cosine, sine);
      write(both.first, to + at, count);
      write(both.second, to + pairs + at, count);
    }
  }

  // Feature 2k with feature 2k + 1.
  void turn_neighbours(bool streamed) const {
    const auto body = [&](int64_t at, auto load, auto store) {
      const int64_t count = std::min(kHalf, pairs - at / 2);
      const Pair features = load(x + at, 0);
      const auto [a, b] = at::vec::deinterleave2(features.low, features.high);
      const Vec cosine = read(cosines + at / 2, count), sine = read(sines + at / 2, count) * Vec(sign);
      const auto both = turn(a, b, cosine, sine);
      const auto [low, high] = at::vec::interleave2(both.first, both.second);
      store(Pair{low, high}, to + at);
    };
    for_each_pair(2 * pairs, body, streamed);
  }
};

// The dimensions but for the last, in the order in which they lie in memory.
Dimensions in_order(const at::Tensor& x) {
  Dimensions leading;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) leading.push_back(d);
  std::stable_sort(leading.begin(), leading.end(), [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
  return leading;
}

// The angles are expanded to the leading dimensions of x; sign -1 turns back.
at::Tensor rotary(
    const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool interleaved, double sign) {
  TORCH_CHECK(x.dim() > 0, "rows");
  const int64_t size = x.size(-1), pairs = cos.size(-1);
  for (const at::Tensor& angles : {cos, sin}) {
    TORCH_CHECK(angles.scalar_type() == at::kFloat, "angles in float32");
    TORCH_CHECK(angles.sizes().slice(0, angles.dim() - 1) == x.sizes().slice(0, x.dim() - 1), "angles for each row");
    TORCH_CHECK(angles.size(-1) == pairs && 2 * pairs <= size, "an angle for two features");
    TORCH_CHECK(pairs <= 1 || angles.stride(-1) == 1, "rows of stride 1");
  }
  TORCH_CHECK(size <= 1 || x.stride(-1) == 1, "rows of stride 1");
  at::Tensor out = at::empty_like(x);
  if (out.stride(-1) != 1) out = at::empty(x.sizes(), x.options());
  if (x.numel() == 0) return out;
  const Dimensions leading = in_order(x);
  const bool streamed = prepare(out) && size * x.element_size() % kLine == 0;
  GRADSMITH_DISPATCH(x.scalar_type(), "gradsmith rotary", [&] {
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    const float *cosines = cos.const_data_ptr<float>(), *sines = sin.const_data_ptr<float>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, x.numel() / size, rows_per_task(size), [&](int64_t begin, int64_t end) {
      Rows in(x, leading, begin), c(cos, leading, begin), s(sin, leading, begin), result(out, leading, begin);
      for (int64_t i = begin; i < end; ++i) {
        const Row<scalar_t> row{
            from + in.offset(), cosines + c.offset(), sines + s.offset(), static_cast<float>(sign), pairs,
            to + result.offset()};
        if (interleaved) {
          row.turn_neighbours(streamed);
        } else {
          row.turn_halves(streamed);
        }
        std::copy(row.x + 2 * pairs, row.x + size, row.to + 2 * pairs);
        for (Rows* rows : {&in, &c, &s, &result}) rows->next();
      }
      finish_streams();
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(gradsmith_native, library) {
  library.def("rotary(Tensor x, Tensor cos, Tensor sin, bool interleaved, float sign) -> Tensor");
}

TORCH_LIBRARY_IMPL(gradsmith_native, CPU, library) { library.impl("rotary", rotary); }

}  // namespace gradsmith
