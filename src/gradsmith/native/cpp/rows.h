// The rows of a tensor of any strides, one after the other.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <cstdint>

namespace gradsmith {

using Dimensions = c10::SmallVector<int64_t, 6>;

class Rows {
 public:
  // From the row of that number on; `leading` are the dimensions that count rows, the last of them first.
  Rows(const at::Tensor& tensor, const Dimensions& leading, int64_t first) {
    for (auto d = leading.rbegin(); d != leading.rend(); ++d) {
      const int64_t size = tensor.size(*d), stride = tensor.stride(*d);
      places_.push_back({size, stride, first % size});
      offset_ += first % size * stride;
      first /= size;
    }
  }

  // How far from the first element of the tensor the row begins.
  int64_t offset() const { return offset_; }

  void next() {
    for (Place& place : places_) {
      offset_ += place.stride;
      if (++place.at < place.size) return;
      offset_ -= place.size * place.stride;
      place.at = 0;
    }
  }

 private:
  struct Place {
    int64_t size, stride, at;
  };
  c10::SmallVector<Place, 6> places_;  // the fastest first
  int64_t offset_ = 0;
};

}  // namespace gradsmith
