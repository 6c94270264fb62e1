// Dropout whose mask is a function of a seed and of the place of an element: no mask is read or written.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <utility>

#include "philox.h"
#include "rows.h"
#include "vectors.h"

namespace gradsmith {
namespace {

// Elements of a tensor in row-major order, a few at a time: as they lie, or gathered where they lie apart.
template <typename T>
class Elements {
 public:
  Elements(const at::Tensor& tensor, const Dimensions& leading, int64_t first)
      : data_(tensor.const_data_ptr<T>()),
        dense_(tensor.is_contiguous()),
        size_(dense_ ? 1 : tensor.size(-1)),
        stride_(dense_ ? 1 : tensor.stride(-1)),
        column_(first % size_),
        rows_(tensor, dense_ ? Dimensions() : leading, first / size_) {
    if (dense_) data_ += first;
  }

  // The next `count`, which may be in `buffer`.
  const T* take(int64_t count, T* buffer) {
    if (dense_) return std::exchange(data_, data_ + count);
    for (int64_t done = 0; done < count;) {
      const int64_t part = std::min(count - done, size_ - column_);
      const T* from = data_ + rows_.offset() + column_ * stride_;
      if (stride_ == 1) {
        std::copy(from, from + part, buffer + done);
      } else {
        for (int64_t i = 0; i < part; ++i) buffer[done + i] = from[i * stride_];
      }
      done += part;
      column_ += part;
      if (column_ == size_) {
        column_ = 0;
        rows_.next();
      }
    }
    return buffer;
  }

 private:
  const T* data_;
  bool dense_;
  int64_t size_, stride_, column_;
  Rows rows_;
};

// Elements are counted in row-major order of `input`, and the result is dense in that order.
at::Tensor dropout(const at::Tensor& input, double p, int64_t seed) {
  TORCH_CHECK(p > 0 && p < 1, "a probability between 0 and 1");
  at::Tensor out = at::empty(input.sizes(), input.options());
  const bool streamed = prepare(out);
  Dimensions leading;
  for (int64_t d = 0; d + 1 < input.dim(); ++d) leading.push_back(d);
  const Philox random(static_cast<uint64_t>(seed));
  // Of all values of 32 bits, as signed integers, the smallest p * 2^32 drop an element.
  const double dropped = std::min(std::nearbyint(std::ldexp(p, 32)), 4294967295.0);
  const Ints smallest_kept(static_cast<int32_t>(static_cast<int64_t>(dropped) + std::numeric_limits<int32_t>::min()));
  const Pair scale = all(static_cast<float>(1 / (1 - p)));
  const int64_t total = input.numel(), size = Philox::kBlock;
  GRADSMITH_DISPATCH(input.scalar_type(), "gradsmith dropout", [&] {
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, (total + size - 1) / size, rows_per_task(size), [&](int64_t begin, int64_t end) {
      Elements<scalar_t> elements(input, leading, begin * size);
      alignas(64) uint32_t bits[Philox::kBlock];
      alignas(64) scalar_t buffer[Philox::kBlock];
      for (int64_t block = begin; block < end; ++block) {
        const int64_t count = std::min(size, total - block * size);
        const scalar_t* x = elements.take(count, buffer);
        random.block(block, bits);
        const auto kept = [&](const Vec& value, int64_t at) {
          const Ints keep = Ints::loadu(bits + at) >= smallest_kept;
          return value & at::vec::cast<float, int32_t>(keep);  // no product: an infinity that is dropped is 0
        };
        const auto body = [&](int64_t at, auto load, auto store) {
          const Pair value = load(x + at, 0) * scale;
          store(Pair{kept(value.low, at), kept(value.high, at + kHalf)}, to + block * size + at);
        };
        for_each_pair(count, body, streamed);
      }
      finish_streams();
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(gradsmith_native, library) {
  library.def("dropout(Tensor input, float p, int seed) -> Tensor");
}

TORCH_LIBRARY_IMPL(gradsmith_native, CPU, library) { library.impl("dropout", dropout); }

}  // namespace gradsmith
