// Lanes: sixteen floats at once, one register with AVX-512, two with AVX2. And max-pooling of 2 by
// 2 with ReLU on them, which remembers the winner of each lane.
#pragma once

#include <cstdint>

#include <immintrin.h>

namespace steps {

#define POOLGRAD_INLINE [[gnu::always_inline]] inline

#ifdef __AVX512F__

inline constexpr bool kAvx512 = true;

struct Lanes {
  __m512 all;
};
using Mask = __mmask16;

POOLGRAD_INLINE Lanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
POOLGRAD_INLINE void store(float* p, Lanes a) { _mm512_storeu_ps(p, a.all); }
POOLGRAD_INLINE Lanes same(float value) { return {_mm512_set1_ps(value)}; }
POOLGRAD_INLINE Lanes zero() { return {_mm512_setzero_ps()}; }
POOLGRAD_INLINE Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.all, b.all)}; }
POOLGRAD_INLINE Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.all, b.all)}; }
POOLGRAD_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm512_fmadd_ps(a.all, b.all, c.all)};
}
POOLGRAD_INLINE Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.all, b.all)}; }
POOLGRAD_INLINE Mask greater(Lanes a, Lanes b) {
  return _mm512_cmp_ps_mask(a.all, b.all, _CMP_GT_OQ);
}
POOLGRAD_INLINE Mask at_least(Lanes a, Lanes b) {
  return _mm512_cmp_ps_mask(a.all, b.all, _CMP_GE_OQ);
}
POOLGRAD_INLINE Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
POOLGRAD_INLINE Mask second_only(Mask a, Mask b) { return static_cast<Mask>(~a & b); }
POOLGRAD_INLINE Lanes keep(Mask m, Lanes a) { return {_mm512_maskz_mov_ps(m, a.all)}; }
POOLGRAD_INLINE std::uint16_t bits(Mask m) { return m; }
POOLGRAD_INLINE Mask mask(std::uint16_t bits) { return bits; }

#else

inline constexpr bool kAvx512 = false;

struct Lanes {
  __m256 low, high;
};
using Mask = Lanes;

POOLGRAD_INLINE Lanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
POOLGRAD_INLINE void store(float* p, Lanes a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
POOLGRAD_INLINE Lanes same(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
POOLGRAD_INLINE Lanes zero() { return same(0.0F); }
POOLGRAD_INLINE Lanes operator+(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
POOLGRAD_INLINE Lanes operator*(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
POOLGRAD_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
POOLGRAD_INLINE Lanes max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
POOLGRAD_INLINE Mask greater(Lanes a, Lanes b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)};
}
POOLGRAD_INLINE Mask at_least(Lanes a, Lanes b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_GE_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GE_OQ)};
}
POOLGRAD_INLINE Mask both(Mask a, Mask b) {
  return {_mm256_and_ps(a.low, b.low), _mm256_and_ps(a.high, b.high)};
}
POOLGRAD_INLINE Mask second_only(Mask a, Mask b) {
  return {_mm256_andnot_ps(a.low, b.low), _mm256_andnot_ps(a.high, b.high)};
}
POOLGRAD_INLINE Lanes keep(Mask m, Lanes a) { return both(m, a); }
POOLGRAD_INLINE std::uint16_t bits(Mask m) {
  return static_cast<std::uint16_t>(_mm256_movemask_ps(m.low) | _mm256_movemask_ps(m.high) << 8);
}
POOLGRAD_INLINE Mask mask(std::uint16_t bits) {
  const __m256i one_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const auto spread = [&](int eight) {
    const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(eight), one_bit);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, one_bit));
  };
  return {spread(bits & 255), spread(bits >> 8)};
}

#endif

/// max(a, b, c, d, 0). winners[i] is where the i-th of the four won, nowhere in a lane that ReLU
/// makes zero: so the backward pass of both is four masked copies. Of equals the first wins.
POOLGRAD_INLINE Lanes pool(Lanes a, Lanes b, Lanes c, Lanes d, std::uint16_t* winners) {
  const Lanes most = max(max(a, b), max(c, d));
  const Mask alive = greater(most, zero());
  const Mask first = both(at_least(a, most), alive);
  Mask rest = second_only(first, alive);
  const Mask second = both(at_least(b, most), rest);
  rest = second_only(second, rest);
  const Mask third = both(at_least(c, most), rest);
  winners[0] = bits(first);
  winners[1] = bits(second);
  winners[2] = bits(third);
  winners[3] = bits(second_only(third, rest));
  return keep(alive, most);
}

}  // namespace steps
