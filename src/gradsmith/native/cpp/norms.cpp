// Layer norm and RMS norm of rows, each with an optional residual added first; statistics and sums in float32.
//
// The gradients of weight and bias are sums over rows. The rows are cut into blocks by their number alone, each block
// summed by one thread and the blocks one after the other, so the result is the same whatever the number of threads.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "vectors.h"

namespace gradsmith {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

const float* values_or_null(const OptionalTensor& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<float>() : nullptr;
}

void check_rows(const at::Tensor& tensor, const at::Tensor& like) {
  TORCH_CHECK(tensor.dim() == 2 && tensor.is_contiguous(), "contiguous rows");
  TORCH_CHECK(tensor.sizes() == like.sizes() && tensor.scalar_type() == like.scalar_type(), "rows of one kind");
}

void check_columns(const OptionalTensor& tensor, int64_t columns) {
  TORCH_CHECK(!tensor.has_value() || (tensor->scalar_type() == at::kFloat && tensor->is_contiguous()), "float32");
  TORCH_CHECK(!tensor.has_value() || tensor->numel() == columns, "one value for each column");
}

template <typename T>
void add_rows(const T* a, const T* b, T* to, int64_t size) {
  for_each_pair(size, [&](int64_t at, auto load, auto store) { store(load(a + at, 0) + load(b + at, 0), to + at); });
}

template <typename T>
float mean_of(const T* row, int64_t size) {
  double total = 0;
  for_each_part(size, [&](int64_t start, int64_t count) {
    Pair part = all(0);
    for_each_pair(count, [&](int64_t at, auto load, auto) { part = part + load(row + start + at, 0); });
    total += sum(part);
  });
  return static_cast<float>(total / size);
}

template <typename T>
float mean_square_around(const T* row, int64_t size, float centre) {
  double total = 0;
  for_each_part(size, [&](int64_t start, int64_t count) {
    Pair part = all(0);
    for_each_pair(count, [&](int64_t at, auto load, auto) {
      const Pair away = load(row + start + at, centre) - all(centre);
      part = fma(away, away, part);
    });
    total += sum(part);
  });
  return static_cast<float>(total / size);
}

// y = (x - mean) rstd w + b, where x = input (+ residual), and mean = 0 unless centred.
template <bool centred, typename T>
void forward_rows(
    const at::Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    double eps, const at::Tensor& out, const at::Tensor& added, float* mean, float* rstd) {
  const int64_t size = input.size(1);
  const T* from = input.const_data_ptr<T>();
  const T* other = residual.has_value() ? residual->const_data_ptr<T>() : nullptr;
  T* to = out.mutable_data_ptr<T>();
  T* sums = residual.has_value() ? added.mutable_data_ptr<T>() : nullptr;
  const float *w = values_or_null(weight), *b = values_or_null(bias);
  const bool streamed = prepare(out);
  if (residual.has_value()) prepare(added);  // written through the cache, from which it is read
  for_each_row(input.size(0), size, [&](int64_t i) {
    const T* x = from + i * size;
    if (other != nullptr) {
      add_rows(x, other + i * size, sums + i * size, size);
      x = sums + i * size;
    }
    const float centre = centred ? mean_of(x, size) : 0;
    const float scale = 1 / std::sqrt(mean_square_around(x, size, centre) + static_cast<float>(eps));
    if (centred) mean[i] = centre;
    rstd[i] = scale;
    T* y = to + i * size;
    const auto body = [&](int64_t at, auto load, auto store) {
      Pair value = (load(x + at, 0) - all(centre)) * all(scale);
      if (w != nullptr) value = value * load(w + at, 0);
      if (b != nullptr) value = value + load(b + at, 0);
      store(value, y + at);
    };
    for_each_pair(size, body, streamed);
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> forward(
    const at::Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    double eps, bool centred) {
  check_rows(input, input);
  if (residual.has_value()) check_rows(*residual, input);
  check_columns(weight, input.size(1));
  check_columns(bias, input.size(1));
  const auto single = input.options().dtype(at::kFloat);
  at::Tensor out = at::empty_like(input);
  at::Tensor added = residual.has_value() ? at::empty_like(input) : at::empty({0}, input.options());
  at::Tensor mean = at::empty({centred ? input.size(0) : 0}, single), rstd = at::empty({input.size(0)}, single);
  float *means = mean.mutable_data_ptr<float>(), *rstds = rstd.mutable_data_ptr<float>();
  GRADSMITH_DISPATCH(input.scalar_type(), "gradsmith norm", [&] {
    if (centred) {
      forward_rows<true, scalar_t>(input, residual, weight, bias, eps, out, added, means, rstds);
    } else {
      forward_rows<false, scalar_t>(input, residual, weight, bias, eps, out, added, means, rstds);
    }
  });
  return {out, added, mean, rstd};
}

// With n = (x - mean) rstd and h = grad w:  dx = rstd (h - mean(h) - n mean(h n)) + grad_added, the mean of h only
// where centred;  dw = sum_rows grad n,  db = sum_rows grad.
template <bool centred, typename T>
struct Backward {
  const T *grad, *x, *grad_added;
  const float *mean, *rstd, *weight;
  int64_t size;
  T* dx;  // null, as each of the other gradients, where it is not needed
  bool streamed;

  void row(int64_t i, float* dw, float* db) const {
    const T *g = grad + i * size, *row = x + i * size;
    const Pair centre = all(centred ? mean[i] : 0), scale = all(rstd[i]);
    const auto normalised = [&](Pair values) { return (centred ? values - centre : values) * scale; };
    double total_h = 0, total_hn = 0;
    for_each_part(size, [&](int64_t start, int64_t count) {
      Pair sum_h = all(0), sum_hn = all(0);
      for_each_pair(count, [&](int64_t offset, auto load, auto store) {
        const int64_t at = start + offset;
        const Pair upstream = load(g + at, 0), n = normalised(load(row + at, 0));
        if (dw != nullptr) store(fma(upstream, n, load(dw + at, 0)), dw + at);
        if (db != nullptr) store(upstream + load(db + at, 0), db + at);
        const Pair h = weight == nullptr ? upstream : upstream * load(weight + at, 0);
        sum_h = sum_h + h;
        sum_hn = fma(h, n, sum_hn);
      });
      total_h += sum(sum_h);
      total_hn += sum(sum_hn);
    });
    if (dx == nullptr) return;
    const Pair mean_h = all(centred ? total_h / size : 0), mean_hn = all(-total_hn / size);
    const auto body = [&](int64_t at, auto load, auto store) {
      Pair h = load(g + at, 0);
      if (weight != nullptr) h = h * load(weight + at, 0);
      Pair value = fma(normalised(load(row + at, 0)), mean_hn, h);
      if constexpr (centred) value = value - mean_h;
      value = value * scale;
      if (grad_added != nullptr) value = value + load(grad_added + i * size + at, 0);
      store(value, dx + i * size + at);
    };
    for_each_pair(size, body, streamed);
  }
};

constexpr int64_t kBlocks = 64;

template <bool centred, typename T>
void backward_rows(const Backward<centred, T>& rows, int64_t count, const at::Tensor& dw, const at::Tensor& db) {
  const int64_t size = rows.size, block = std::max<int64_t>(16, (count + kBlocks - 1) / kBlocks);
  const int64_t blocks = (count + block - 1) / block;
  const bool with_weight = dw.numel() != 0, with_bias = db.numel() != 0;
  at::Tensor partial_w = at::zeros({with_weight ? blocks : 0, size}, dw.options());
  at::Tensor partial_b = at::zeros({with_bias ? blocks : 0, size}, db.options());
  float *parts_w = partial_w.mutable_data_ptr<float>(), *parts_b = partial_b.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, std::max<int64_t>(1, rows_per_task(size) / block), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      float *dw = with_weight ? parts_w + b * size : nullptr, *db = with_bias ? parts_b + b * size : nullptr;
      for (int64_t i = b * block; i < std::min(count, (b + 1) * block); ++i) rows.row(i, dw, db);
    }
    finish_streams();
  });
  const auto total = [&](const float* parts, float* to) {
    for (int64_t b = 0; b < blocks; ++b) {
      for_each_pair(size, [&](int64_t at, auto load, auto store) {
        store(load(to + at, 0) + load(parts + b * size + at, 0), to + at);
      });
    }
  };
  if (with_weight) total(parts_w, dw.mutable_data_ptr<float>());
  if (with_bias) total(parts_b, db.mutable_data_ptr<float>());
}

// The gradients that are asked for; the others are empty.
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& input, const OptionalTensor& mean, const at::Tensor& rstd,
    const OptionalTensor& weight, const OptionalTensor& grad_added, bool for_input, bool for_weight, bool for_bias) {
  check_rows(input, input);
  check_rows(grad, input);
  if (grad_added.has_value()) check_rows(*grad_added, input);
  const int64_t count = input.size(0), size = input.size(1);
  check_columns(weight, size);
  check_columns(mean, count);
  check_columns(rstd, count);
  const auto single = input.options().dtype(at::kFloat);
  at::Tensor dx = for_input ? at::empty_like(input) : at::empty({0}, input.options());
  at::Tensor dw = at::zeros({for_weight ? size : 0}, single), db = at::zeros({for_bias ? size : 0}, single);
  GRADSMITH_DISPATCH(input.scalar_type(), "gradsmith norm backward", [&] {
    const auto run = [&](auto centred) {
      const Backward<decltype(centred)::value, scalar_t> rows{
          grad.const_data_ptr<scalar_t>(), input.const_data_ptr<scalar_t>(),
          grad_added.has_value() ? grad_added->const_data_ptr<scalar_t>() : nullptr, values_or_null(mean),
          rstd.const_data_ptr<float>(), values_or_null(weight), size,
          for_input ? dx.mutable_data_ptr<scalar_t>() : nullptr, for_input && prepare(dx)};
      backward_rows(rows, count, dw, db);
    };
    if (mean.has_value()) {
      run(std::true_type{});
    } else {
      run(std::false_type{});
    }
  });
  return {dx, dw, db};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(gradsmith_native, library) {
  library.def(
      "norm(Tensor input, Tensor? residual, Tensor? weight, Tensor? bias, float eps, bool centred) -> (Tensor, Tensor, "
      "Tensor, Tensor)");
  library.def(
      "norm_backward(Tensor grad, Tensor input, Tensor? mean, Tensor rstd, Tensor? weight, Tensor? grad_added, "
      "bool for_input, bool for_weight, bool for_bias) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(gradsmith_native, CPU, library) {
  library.impl("norm", forward);
  library.impl("norm_backward", backward);
}

}  // namespace gradsmith
