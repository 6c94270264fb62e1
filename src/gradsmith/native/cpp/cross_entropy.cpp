// Cross entropy of rows of logits, and its gradient: softmax minus target, in one or two passes over memory.
//
// A row is read once for its log-sum-exp, in blocks that stay in the first-level cache, and once more for the gradient,
// then from the second-level cache where loss and gradient are computed together.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <vector>

#include "vectors.h"

namespace gradsmith {
namespace {

constexpr int64_t kBlock = 1024;

// What belongs to the loss and not to a row. The loss of a row with label y and class weights w is
//   (1-s) w_y (lse - z_y) + s/C sum_c w_c (lse - z_c) + z_loss lse^2
// where z are the logits, capped as cap tanh(z/cap) where there is a cap.
struct Loss {
  const float* weight;  // null: all 1
  int64_t ignore_index;
  float smoothing;
  float cap;  // 0: none
  float z_loss;
  float total_weight;  // of all classes
};

// cap tanh(x/cap), in float32.
template <typename T>
void cap_row(const T* row, float* to, int64_t size, float cap) {
  const Pair inverse = all(1 / cap), factor = all(cap);
  for_each_pair(size, [&](int64_t at, auto load, auto store) {
    store(factor * tanh(load(row + at, 0) * inverse), to + at);
  });
}

// The exponentials of one row, kept from its log-sum-exp for its gradient: e^(z - tops[block]).
struct Exponentials {
  std::vector<float> values, tops;

  void resize(int64_t size) {
    values.resize(size + kStep);
    tops.resize(size / kBlock + 1);
  }
};

// log sum_c exp z_c = top + log(total), in two parts: with huge logits, nothing is left of the second in their sum.
struct LogSumExp {
  float top = -kInfinity;  // the largest
  double total = 0;        // sum_c exp(z_c - top)

  float log_total() const { return static_cast<float>(std::log(total)); }
  float value() const { return top == kInfinity ? top : top + log_total(); }
};

// By blocks: each block's largest value first, then its exponentials while it is in cache.
template <typename Z>
LogSumExp log_sum_exp(const Z* z, int64_t size, Exponentials* kept) {
  LogSumExp sums;
  for (int64_t start = 0; start < size; start += kBlock) {
    const int64_t count = std::min(kBlock, size - start);
    const Z* block = z + start;
    Pair top = all(-kInfinity);
    for_each_pair(count, [&](int64_t at, auto load, auto) {
      prefetch(block + at + kBlock);
      top = larger(top, load(block + at, -kInfinity));
    });
    const float block_top = max(top);
    if (!(block_top <= sums.top)) {
      if (sums.top != -kInfinity) sums.total *= std::exp(sums.top - block_top);
      sums.top = block_top;
    }
    const Pair base = all(sums.top == -kInfinity ? 0 : sums.top);
    Pair total = all(0);
    for_each_pair(count, [&](int64_t at, auto load, auto) {
      const Pair e = exp_nonpositive(load(block + at, -kInfinity) - base);
      total = total + e;
      if (kept != nullptr) write_pair(e, kept->values.data() + start + at);
    });
    sums.total += sum(total);
    if (kept != nullptr) kept->tops[start / kBlock] = sums.top;
  }
  return sums;
}

// What the loss and the gradient of one row are made of.
struct Row {
  int64_t size, label;
  float scale;
  LogSumExp sums;
  float on_label;  // the share of the loss that is the label's alone: (1-s) w_y
  float on_all;    // and that of each class: s/C
  float factor;    // of softmax in the gradient

  Row(int64_t size, int64_t label, float scale, const LogSumExp& sums, const Loss& loss)
      : size(size), label(label), scale(scale), sums(sums), on_all(loss.smoothing / size) {
    on_label = (loss.weight == nullptr ? 1 : loss.weight[label]) * (1 - loss.smoothing);
    factor = scale * (on_label + on_all * loss.total_weight + 2 * loss.z_loss * (loss.z_loss != 0 ? sums.value() : 0));
  }
};

// sum_c w_c (lse - z_c)
template <typename Z>
float distance_to_all(const Z* z, const Row& row, const Loss& loss) {
  const Pair top = all(row.sums.top), log_total = all(row.sums.log_total());
  double total = 0;
  for (int64_t start = 0; start < row.size; start += kBlock) {
    const int64_t count = std::min(kBlock, row.size - start);
    Pair sums = all(0);
    for_each_pair(count, [&](int64_t offset, auto load, auto) {
      const int64_t at = start + offset;
      const Pair away = top - load(z + at, row.sums.top);
      sums = loss.weight == nullptr ? sums + away : fma(load(loss.weight + at, 0), away + log_total, sums);
    });
    total += sum(sums) + (loss.weight == nullptr ? count * static_cast<double>(row.sums.log_total()) : 0);
  }
  return static_cast<float>(total);
}

template <typename Z>
float row_loss(const Z* z, const Row& row, const Loss& loss) {
  float value = row.on_label * (row.sums.top - static_cast<float>(z[row.label]) + row.sums.log_total());
  if (row.on_all != 0) value += row.on_all * distance_to_all(z, row, loss);
  if (loss.z_loss != 0) value += loss.z_loss * row.sums.value() * row.sums.value();
  return value;
}

// scale * (softmax_c (sum of weights) - s/C w_c - (1-s) w_y 1[c = y]), times the derivative of the cap. From the
// exponentials of the row where they were kept. `next` is brought into cache meanwhile.
template <typename Z, typename T>
void row_gradient(
    const Z* z, T* to, const Row& row, const Loss& loss, const Exponentials* kept, const T* next, bool streamed) {
  if (row.sums.top == -kInfinity) {  // no logit is finite, and none can change that
    std::fill(to, to + row.size, static_cast<T>(0));
    return;
  }
  const float inverse = loss.cap != 0 ? 1 / loss.cap : 0;
  const float label_value = static_cast<float>(z[row.label]);  // read first: `to` may be `z`
  const float share = static_cast<float>(row.factor / row.sums.total);
  const Pair top = all(row.sums.top);
  for (int64_t start = 0; start < row.size; start += kBlock) {
    float block_share = share;
    if (kept != nullptr) {
      const float block_top = kept->tops[start / kBlock];
      block_share = block_top == row.sums.top ? share : share * std::exp(block_top - row.sums.top);
    }
    const auto body = [&](int64_t offset, auto load, auto store) {
      const int64_t at = start + offset;
      prefetch(next + at);
      if constexpr (sizeof(T) == 4) prefetch(next + at + kHalf);
      const Pair e = kept != nullptr ? read_pair(kept->values.data() + at)
                                     : exp_nonpositive(load(z + at, -kInfinity) - top);
      Pair gradient = e * all(block_share);
      if (row.on_all != 0) {
        const Pair weights = loss.weight == nullptr ? all(1) : load(loss.weight + at, 0);
        gradient = fma(weights, all(-row.scale * row.on_all), gradient);
      }
      if (inverse != 0) {
        const Pair ratio = load(z + at, 0) * all(inverse);
        gradient = gradient * (all(1) - ratio * ratio);
      }
      store(gradient, to + at);
    };
    for_each_pair(std::min(kBlock, row.size - start), body, streamed);
  }
  float at_label = share * std::exp(label_value - row.sums.top) - row.scale * row.on_label;
  if (row.on_all != 0) at_label -= row.scale * row.on_all * (loss.weight == nullptr ? 1 : loss.weight[row.label]);
  if (inverse != 0) at_label *= 1 - (label_value * inverse) * (label_value * inverse);
  to[row.label] = static_cast<T>(at_label);
}

struct Rows {
  const at::Tensor& logits;
  const int64_t* targets;
  const float* scale;  // null: no gradient is asked for
  const at::Tensor* gradient;
  float* losses;
};

// One row that is not ignored: its loss, and its gradient unless `to` is null.
template <typename Z, typename T>
float run_row(
    const Z* z, T* to, int64_t size, int64_t label, float scale, const Loss& loss, Exponentials* kept, const T* next,
    bool streamed) {
  const Row row(size, label, scale, log_sum_exp(z, size, to == nullptr ? nullptr : kept), loss);
  const float value = row_loss(z, row, loss);
  if (to != nullptr) row_gradient(z, to, row, loss, kept, next, streamed);
  return value;
}

template <typename T>
void run_rows(const Rows& rows, const Loss& loss) {
  const int64_t size = rows.logits.size(1), count = rows.logits.size(0);
  const int64_t stride = rows.logits.stride(0);
  const T* from = rows.logits.const_data_ptr<T>();
  T* to = rows.scale == nullptr ? nullptr : rows.gradient->mutable_data_ptr<T>();
  const int64_t to_stride = rows.scale == nullptr ? 0 : rows.gradient->stride(0);
  const bool streamed = to != nullptr && to != from && prepare(*rows.gradient);  // in place it is in cache
  at::parallel_for(0, count, rows_per_task(size), [&](int64_t begin, int64_t end) {
    Exponentials kept;
    if (to != nullptr) kept.resize(size);
    std::vector<float> capped(loss.cap != 0 ? size : 0);
    for (int64_t i = begin; i < end; ++i) {
      const T* row = from + i * stride;
      T* gradient = to == nullptr ? nullptr : to + i * to_stride;
      const int64_t label = rows.targets[i];
      if (label == loss.ignore_index) {
        rows.losses[i] = 0;
        if (gradient != nullptr) std::fill(gradient, gradient + size, static_cast<T>(0));
        continue;
      }
      const float scale = to == nullptr ? 0 : rows.scale[i];
      const T* next = i + 1 < end ? row + stride : row;
      if (loss.cap != 0) {
        cap_row(row, capped.data(), size, loss.cap);
        rows.losses[i] = run_row(capped.data(), gradient, size, label, scale, loss, &kept, next, streamed);
      } else {
        rows.losses[i] = run_row(row, gradient, size, label, scale, loss, &kept, next, streamed);
      }
    }
    finish_streams();
  });
}

void check_targets(const at::Tensor& targets, int64_t classes, int64_t ignore_index) {
  const int64_t* values = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < targets.numel(); ++i) {
    TORCH_CHECK_INDEX(
        values[i] == ignore_index || (values[i] >= 0 && values[i] < classes), "Target ", values[i],
        " is out of bounds.");
  }
}

void check_rows(const at::Tensor& rows) {
  TORCH_CHECK(rows.dim() == 2 && (rows.size(1) == 1 || rows.stride(1) == 1), "rows of stride 1");
}

at::Tensor run(
    const at::Tensor& logits, const at::Tensor& targets, const std::optional<at::Tensor>& weight, int64_t ignore_index,
    double smoothing, double cap, double z_loss, const at::Tensor* scale, const at::Tensor* gradient) {
  check_rows(logits);
  TORCH_CHECK(targets.is_contiguous() && targets.scalar_type() == at::kLong && targets.numel() == logits.size(0));
  check_targets(targets, logits.size(1), ignore_index);
  Loss loss{nullptr, ignore_index, static_cast<float>(smoothing), static_cast<float>(cap), static_cast<float>(z_loss),
            static_cast<float>(logits.size(1))};
  if (weight.has_value()) {
    TORCH_CHECK(weight->is_contiguous() && weight->scalar_type() == at::kFloat && weight->numel() == logits.size(1));
    loss.weight = weight->const_data_ptr<float>();
    double total = 0;
    for (int64_t c = 0; c < logits.size(1); ++c) total += loss.weight[c];
    loss.total_weight = static_cast<float>(total);
  }
  at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const Rows rows{
      logits, targets.const_data_ptr<int64_t>(), scale == nullptr ? nullptr : scale->const_data_ptr<float>(), gradient,
      losses.mutable_data_ptr<float>()};
  GRADSMITH_DISPATCH(logits.scalar_type(), "gradsmith cross_entropy", [&] {
    run_rows<scalar_t>(rows, loss);
  });
  return losses;
}

at::Tensor forward(
    const at::Tensor& logits, const at::Tensor& targets, const std::optional<at::Tensor>& weight, int64_t ignore_index,
    double smoothing, double cap, double z_loss) {
  return run(logits, targets, weight, ignore_index, smoothing, cap, z_loss, nullptr, nullptr);
}

at::Tensor fused(
    const at::Tensor& logits, const at::Tensor& targets, const std::optional<at::Tensor>& weight, int64_t ignore_index,
    double smoothing, double cap, double z_loss, const at::Tensor& scale, at::Tensor& gradient) {
  check_rows(gradient);
  TORCH_CHECK(gradient.sizes() == logits.sizes() && gradient.scalar_type() == logits.scalar_type());
  TORCH_CHECK(scale.is_contiguous() && scale.scalar_type() == at::kFloat && scale.numel() == logits.size(0));
  return run(logits, targets, weight, ignore_index, smoothing, cap, z_loss, &scale, &gradient);
}

at::Tensor log_sum_exp_rows(const at::Tensor& rows) {
  check_rows(rows);
  at::Tensor lse = at::empty({rows.size(0)}, rows.options().dtype(at::kFloat));
  float* to = lse.mutable_data_ptr<float>();
  GRADSMITH_DISPATCH(rows.scalar_type(), "gradsmith logsumexp", [&] {
    const scalar_t* from = rows.const_data_ptr<scalar_t>();
    for_each_row(rows.size(0), rows.size(1), [&](int64_t i) {
      to[i] = log_sum_exp(from + i * rows.stride(0), rows.size(1), nullptr).value();
    });
  });
  return lse;
}

// grad_i softmax(row_i)
at::Tensor log_sum_exp_backward(const at::Tensor& grad, const at::Tensor& rows) {
  check_rows(rows);
  TORCH_CHECK(grad.is_contiguous() && grad.scalar_type() == at::kFloat && grad.numel() == rows.size(0));
  const int64_t size = rows.size(1);
  const float* scale = grad.const_data_ptr<float>();
  at::Tensor out = at::empty(rows.sizes(), rows.options());
  const bool streamed = prepare(out);
  GRADSMITH_DISPATCH(rows.scalar_type(), "gradsmith logsumexp backward", [&] {
    const scalar_t* from = rows.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    for_each_row(rows.size(0), size, [&](int64_t i) {
      const scalar_t* row = from + i * rows.stride(0);
      const LogSumExp sums = log_sum_exp(row, size, nullptr);
      const Pair top = all(sums.top), share = all(scale[i] / sums.total);
      const auto body = [&](int64_t at, auto load, auto store) {
        store(exp_nonpositive(load(row + at, 0) - top) * share, to + i * size + at);
      };
      for_each_pair(size, body, streamed);
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(gradsmith_native, library) {
  library.def(
      "cross_entropy(Tensor logits, Tensor targets, Tensor? weight, int ignore_index, float smoothing, float cap, "
      "float z_loss) -> Tensor");
  library.def(
      "cross_entropy_fused(Tensor logits, Tensor targets, Tensor? weight, int ignore_index, float smoothing, "
      "float cap, float z_loss, Tensor scale, Tensor(a!) gradient) -> Tensor");
  library.def("logsumexp(Tensor rows) -> Tensor");
  library.def("logsumexp_backward(Tensor grad, Tensor rows) -> Tensor");
}

TORCH_LIBRARY_IMPL(gradsmith_native, CPU, library) {
  library.impl("cross_entropy", forward);
  library.impl("cross_entropy_fused", fused);
  library.impl("logsumexp", log_sum_exp_rows);
  library.impl("logsumexp_backward", log_sum_exp_backward);
}

}  // namespace gradsmith
