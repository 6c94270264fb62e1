// Gated activations, out = f(gate) up, with both gradients in one pass over memory.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "vectors.h"

namespace gradsmith {
namespace {

// f and f' at one point.
struct Point {
  Vec value, slope;
};

struct Silu {
  static Point at(const Vec& x) {
    const Sigmoid s = sigmoid(x);
    const Vec value = x * s.value;
    return {value, at::vec::fmadd(value, s.rest, s.value)};
  }
};

struct Gelu {
  static Point at(const Vec& x) {
    const Vec phi = Vec(0.5f) * (Vec(1.0f) + (x * Vec(0.70710678118654752f)).erf());
    const Vec density = Vec(0.39894228040143268f) * exp_nonpositive(x * x * Vec(-0.5f));
    return {x * phi, at::vec::fmadd(x, density, phi)};
  }
};

struct GeluTanh {
  static Point at(const Vec& x) {
    // (1 + tanh u)/2 = sigmoid(2u), which does not cancel for large negative u.
    const Vec twice_root(1.59576912160573072f), one(1.0f);
    const Vec square = x * x;
    const Sigmoid s = sigmoid(twice_root * x * at::vec::fmadd(Vec(0.044715f), square, one));
    const Vec inner = twice_root * at::vec::fmadd(Vec(3 * 0.044715f), square, one);
    const Vec value = x * s.value;
    return {value, at::vec::fmadd(value * s.rest, inner, s.value)};
  }
};

void check(const at::Tensor& tensor, const at::Tensor& like) {
  TORCH_CHECK(tensor.dim() == 2 && (tensor.size(1) == 1 || tensor.stride(1) == 1), "rows of stride 1");
  TORCH_CHECK(tensor.sizes() == like.sizes() && tensor.scalar_type() == like.scalar_type(), "rows of one kind");
}

template <typename F>
void with_activation(int64_t kind, const F& run) {
  TORCH_CHECK(kind >= 0 && kind <= 2, "0: silu, 1: gelu, 2: gelu by tanh");
  if (kind == 0) {
    run(Silu{});
  } else if (kind == 1) {
    run(Gelu{});
  } else {
    run(GeluTanh{});
  }
}

at::Tensor forward(int64_t kind, const at::Tensor& gate, const at::Tensor& up) {
  check(gate, gate);
  check(up, gate);
  const int64_t size = gate.size(1);
  at::Tensor out = at::empty(gate.sizes(), gate.options());
  GRADSMITH_DISPATCH(gate.scalar_type(), "gradsmith gated", [&] {
    const scalar_t *gates = gate.const_data_ptr<scalar_t>(), *ups = up.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    with_activation(kind, [&](auto activation) {
      at::parallel_for(0, gate.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const scalar_t *a = gates + i * gate.stride(0), *b = ups + i * up.stride(0);
          for_each_pair(size, [&](int64_t at, auto load, auto store) {
            const Pair value = each(load(a + at, 0), [](const Vec& x) { return decltype(activation)::at(x).value; });
            store(value * load(b + at, 0), to + i * size + at);
          });
        }
      });
    });
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor> backward(
    int64_t kind, const at::Tensor& grad, const at::Tensor& gate, const at::Tensor& up) {
  check(gate, gate);
  check(up, gate);
  check(grad, gate);
  const int64_t size = gate.size(1);
  at::Tensor for_gate = at::empty(gate.sizes(), gate.options()), for_up = at::empty(gate.sizes(), gate.options());
  GRADSMITH_DISPATCH(gate.scalar_type(), "gradsmith gated backward", [&] {
    const scalar_t *gates = gate.const_data_ptr<scalar_t>(), *ups = up.const_data_ptr<scalar_t>();
    const scalar_t* upstream = grad.const_data_ptr<scalar_t>();
    scalar_t *to_gate = for_gate.mutable_data_ptr<scalar_t>(), *to_up = for_up.mutable_data_ptr<scalar_t>();
    with_activation(kind, [&](auto activation) {
      at::parallel_for(0, gate.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const scalar_t *a = gates + i * gate.stride(0), *b = ups + i * up.stride(0);
          const scalar_t* g = upstream + i * grad.stride(0);
          for_each_pair(size, [&](int64_t at, auto load, auto store) {
            const Pair x = load(a + at, 0), arriving = load(g + at, 0);
            const Point low = decltype(activation)::at(x.low), high = decltype(activation)::at(x.high);
            store(arriving * load(b + at, 0) * Pair{low.slope, high.slope}, to_gate + i * size + at);
            store(arriving * Pair{low.value, high.value}, to_up + i * size + at);
          });
        }
      });
    });
  });
  return {for_gate, for_up};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(gradsmith_native, library) {
  library.def("gated(int kind, Tensor gate, Tensor up) -> Tensor");
  library.def("gated_backward(int kind, Tensor grad, Tensor gate, Tensor up) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(gradsmith_native, CPU, library) {
  library.impl("gated", forward);
  library.impl("gated_backward", backward);
}

}  // namespace gradsmith
