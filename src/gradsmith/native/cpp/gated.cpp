// Gated activations, out = f(gate) up, with both gradients in one pass over memory.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "vectors.h"

namespace gradsmith {
namespace {

// f and f' at some points.
struct Points {
  Pair value, slope;
};

struct Silu {
  GRADSMITH_INLINE static Points at(const Pair& x) {
    const Sigmoid s = sigmoid(x);
    const Pair value = x * s.value;
    return {value, fma(value, s.rest, s.value)};
  }
};

// x Φ(x), by Φ(-a) = e^(-a²/2) r(a) for a >= 0, in which nothing cancels and e^(-a²/2) serves the density as well.
// r(a) = erfcx(a/√2)/2 is t p(t), t = 1/(1 + 11a/32), with the polynomial of degree 8 whose largest relative error up
// to a = 13.3 is least: 2e-8, and 3e-7 with its rounding. (Fitted to scipy's erfcx by least squares, the weights
// multiplied by the error until all peaks are of one height: Lawson's algorithm.)
struct Gelu {
  GRADSMITH_INLINE static Points at(const Pair& x) {
    const Pair a = at_most(abs(x), 13.28f);  // where e^(-a²/2) comes out as 0
    // a² = coarse² + fine, the first exact in 12 bits by 12: a rounding of a² would be multiplied by it in the result.
    const Vec first_bits = at::vec::cast<float, int32_t>(Ints(~0xfff));
    const Pair coarse{a.low & first_bits, a.high & first_bits};
    const Pair fine = (a - coarse) * (a + coarse);
    Exponent square = exponent(coarse * coarse * all(-0.5f));
    square.rest = fma(fine, all(-0.5f), square.rest);
    const Pair e = exponential(square);
    const Pair t = all(1) / fma(a, all(0.34375f), all(1));
    Pair p = fma(all(-0.028148433f), t, all(0.14540765f));
    p = fma(p, t, all(-0.27474585f));
    p = fma(p, t, all(0.19417192f));
    p = fma(p, t, all(-0.041402135f));
    p = fma(p, t, all(0.11348623f));
    p = fma(p, t, all(0.11654485f));
    p = fma(p, t, all(0.13756745f));
    p = fma(p, t, all(0.13711832f));
    const Pair tail = p * t * e;
    const Pair phi = choose(x, 0, tail, all(1) - tail);
    return {x * phi, fma(x * all(0.39894228040143268f), e, phi)};
  }
};

struct GeluTanh {
  GRADSMITH_INLINE static Points at(const Pair& x) {
    // (1 + tanh u)/2 = sigmoid(2u), which does not cancel for large negative u.
    const Pair twice_root = all(1.59576912160573072f), square = x * x;
    const Sigmoid s = sigmoid(twice_root * x * fma(all(0.044715f), square, all(1)));
    const Pair inner = twice_root * fma(all(3 * 0.044715f), square, all(1));
    const Pair value = x * s.value;
    return {value, fma(value * s.rest, inner, s.value)};
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
  const bool streamed = prepare(out);
  GRADSMITH_DISPATCH(gate.scalar_type(), "gradsmith gated", [&] {
    const scalar_t *gates = gate.const_data_ptr<scalar_t>(), *ups = up.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    with_activation(kind, [&](auto activation) {
      for_each_row(gate.size(0), size, [&](int64_t i) {
        const scalar_t *a = gates + i * gate.stride(0), *b = ups + i * up.stride(0);
        const auto body = [&](int64_t at, auto load, auto store) {
          store(activation.at(load(a + at, 0)).value * load(b + at, 0), to + i * size + at);
        };
        for_each_pair(size, body, streamed);
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
  const bool both = prepare(for_gate) & prepare(for_up);
  GRADSMITH_DISPATCH(gate.scalar_type(), "gradsmith gated backward", [&] {
    const scalar_t *gates = gate.const_data_ptr<scalar_t>(), *ups = up.const_data_ptr<scalar_t>();
    const scalar_t* upstream = grad.const_data_ptr<scalar_t>();
    scalar_t *to_gate = for_gate.mutable_data_ptr<scalar_t>(), *to_up = for_up.mutable_data_ptr<scalar_t>();
    with_activation(kind, [&](auto activation) {
      for_each_row(gate.size(0), size, [&](int64_t i) {
        const scalar_t *a = gates + i * gate.stride(0), *b = ups + i * up.stride(0);
        const scalar_t* g = upstream + i * grad.stride(0);
        const auto body = [&](int64_t at, auto load, auto store) {
          const Points f = activation.at(load(a + at, 0));
          const Pair arriving = load(g + at, 0);
          store(arriving * load(b + at, 0) * f.slope, to_gate + i * size + at);
          store(arriving * f.value, to_up + i * size + at);
        };
        for_each_pair(size, body, both);
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
