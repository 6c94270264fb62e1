// How a large result is written: one that leaves the cache before it is read again.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace gradsmith {

constexpr uintptr_t kLarge = uintptr_t(1) << 25, kLine = 64, kHugePage = uintptr_t(1) << 21;

inline bool is_untouched(uintptr_t address) {
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  unsigned char resident = 1;
  return mincore(reinterpret_cast<void*>(address / page * page), page, &resident) == 0 && (resident & 1) == 0;
}

// Whether the rows of a result are to be written with `stream`. A plain store brings the line that it overwrites into
// cache first, which takes as long as the writing. Not so when the memory is touched for the first time: the system
// zeroes each page then, in cache. That costs more than all else, and less by huge pages; they are asked for where the
// system leaves that to the program.
inline bool prepare(const at::Tensor& rows) {
  const auto begin = reinterpret_cast<uintptr_t>(rows.data_ptr()), end = begin + rows.nbytes();
  if (!rows.is_contiguous() || end - begin < kLarge) return false;
  if (is_untouched(begin + (end - begin) / 2)) {
    const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a wish: it may be refused
    return false;
  }
  return begin % kLine == 0 && rows.nbytes() / rows.size(0) % kLine == 0;
}

// Store past the cache, to an address that is a multiple of the vector's length.
inline void stream(const at::vec::Vectorized<float>& values, float* to) {
#if defined(CPU_CAPABILITY_AVX512)
  _mm512_stream_ps(to, values);
#elif defined(CPU_CAPABILITY_AVX2)
  _mm256_stream_ps(to, values);
#else
  values.store(to);
#endif
}

template <typename T>  // of 16 bits
inline void stream(const at::vec::Vectorized<T>& values, T* to) {
#if defined(CPU_CAPABILITY_AVX512)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), values);
#elif defined(CPU_CAPABILITY_AVX2)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), values);
#else
  values.store(to);
#endif
}

// What this thread streamed is seen by others that it tells to go on.
inline void finish_streams() {
#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
  _mm_sfence();
#endif
}

}  // namespace gradsmith
