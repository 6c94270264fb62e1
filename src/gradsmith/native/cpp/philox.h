// Random bits that depend on a seed and a position alone: Philox 4x32-10 (Salmon et al., 2011, section 4.3).
#pragma once

#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace gradsmith {

// Words of 32 bits, each in the lower half of 64 where a product has room; what the upper half holds does not count.
using Words = uint64_t __attribute__((vector_size(kHalf * sizeof(float))));
constexpr int64_t kWords = sizeof(Words) / sizeof(uint64_t);

inline Words product(const Words& words, uint32_t factor) {
  const Words factors = Words{} + factor;
#if defined(CPU_CAPABILITY_AVX512)  // compilers multiply all 64 bits, which takes thrice as long
  return (Words)_mm512_mul_epu32((__m512i)words, (__m512i)factors);
#elif defined(CPU_CAPABILITY_AVX2)
  return (Words)_mm256_mul_epu32((__m256i)words, (__m256i)factors);
#else
  return (words & 0xFFFFFFFFu) * factors;
#endif
}

class Philox {
 public:
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kBlock = 4 * kLanes;  // positions of one call

  explicit Philox(uint64_t seed) {
    for (int round = 0; round < kRounds; ++round) {
      low_[round] = static_cast<uint32_t>(seed) + round * 0x9E3779B9u;
      high_[round] = static_cast<uint32_t>(seed >> 32) + round * 0xBB67AE85u;
    }
  }

  // 32 bits for each position from kBlock * index on. Position kLanes * w + l of a block has word w of what counter
  // kLanes * index + l gives, whatever the width of a vector.
  void block(uint64_t index, uint32_t* bits) const {
    for (int64_t lane = 0; lane < kLanes; lane += 2 * kWords) {
      Words even[4], odd[4];  // from the counters of even and of odd lanes, which take turns in the result
      four_words(kLanes * index + lane, even);
      four_words(kLanes * index + lane + 1, odd);
      for (int64_t word = 0; word < 4; ++word) {
        const Words both = (even[word] & 0xFFFFFFFFu) | (odd[word] << 32);
        std::memcpy(bits + kLanes * word + lane, &both, sizeof(both));
      }
    }
  }

 private:
  static constexpr int kRounds = 10;
  uint32_t low_[kRounds], high_[kRounds];  // the key of each round

  // For every second counter from `first` on.
  void four_words(uint64_t first, Words* result) const {
    Words a{}, c{}, d{};
    for (int64_t word = 0; word < kWords; ++word) a[word] = 2 * word;
    a += first;
    Words b = a >> 32;
    for (int round = 0; round < kRounds; ++round) {
      const Words left = product(a, 0xD2511F53u), right = product(c, 0xCD9E8D57u);
      a = (right >> 32) ^ b ^ low_[round];
      b = right;
      c = (left >> 32) ^ d ^ high_[round];
      d = left;
    }
    result[0] = a;
    result[1] = b;
    result[2] = c;
    result[3] = d;
  }
};

}  // namespace gradsmith
