// f16 and bf16: values of two bytes, kept that way and computed with as floats. Arithmetic on them
// is deliberately missing: a kernel reads float(x), computes, and rounds once by T(result).
#pragma once

#include <bit>
#include <cstdint>

#include "engine/cuda/both.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace poolgrad {
namespace half {

// Conversions between bits, to the nearest, of two equally near ones the even. Without branches, so
// that loops over them are vectorized. NaN stays NaN; which one is not said, since devices differ.

/// 1 sign, 5 exponent, 10 mantissa bits: steps of 2^-24 below 2^-14, infinite from 65520 on.
[[gnu::always_inline]] inline std::uint16_t f16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t size = bits & 0x7FFF'FFFF, odd = (size >> 13) & 1;
  // What 13 bits less round to, carried into the exponent if need be, whose bias is 112 less.
  const std::uint32_t normal = (size + 0xFFF + odd - (112U << 23)) >> 13;
  // A float from 0.5 on has steps of 2^-24: the sum rounds as it must, and counts them.
  const float counted = std::bit_cast<float>(size < 0x3880'0000 ? size : 0) + 0.5F;
  const std::uint32_t small = std::bit_cast<std::uint32_t>(counted) - 0x3F00'0000;
  const std::uint32_t nan = 0x7E00 | ((size >> 13) & 0x3FF);
  std::uint32_t result = size < 0x3880'0000 ? small : normal;
  result = size >= 0x477F'F000 ? 0x7C00 : result;
  result = size > 0x7F80'0000 ? nan : result;
  return static_cast<std::uint16_t>(result | ((bits >> 16) & 0x8000));
}

[[gnu::always_inline]] inline float f16_value(std::uint16_t bits) {
  const std::uint32_t size = bits & 0x7FFFU, sign = (bits & 0x8000U) << 16;
  const std::uint32_t bias = size >= 0x7C00 ? 224U << 23 : 112U << 23;
  const float counted = static_cast<float>(static_cast<std::int32_t>(size & 0x3FF)) * 0x1p-24F;
  const std::uint32_t small = std::bit_cast<std::uint32_t>(counted);
  return std::bit_cast<float>((size < 0x400 ? small : (size << 13) + bias) | sign);
}

/// The upper half of a float: 1 sign, 8 exponent, 7 mantissa bits.
[[gnu::always_inline]] inline std::uint16_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  const bool nan = (bits & 0x7FFF'FFFF) > 0x7F80'0000;
  return static_cast<std::uint16_t>((nan ? bits | 0x40'0000 : rounded) >> 16);
}

[[gnu::always_inline]] inline float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// A float from which rounding goes on to where it would have gone from `value`: where bits are
/// lost, the last one left is 1, so that it is no tie.
inline float sticky(double value) {
  const auto nearest = static_cast<float>(value);
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  const auto back = static_cast<double>(nearest);
  if (back == value || back != back) return nearest;
  const bool away = value < 0 ? back < value : back > value;
  return std::bit_cast<float>((away ? bits - 1 : bits) | 1);
}

}  // namespace half

struct f16 {
  std::uint16_t bits;

  f16() = default;
  POOLGRAD_BOTH explicit f16(float value) {
#ifdef __CUDA_ARCH__
    bits = __half_as_ushort(__float2half_rn(value));
#else
    bits = half::f16_bits(value);
#endif
  }
  explicit f16(double value) : f16(half::sticky(value)) {}
  POOLGRAD_BOTH operator float() const {  // exact, and so implicit
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(bits));
#else
    return half::f16_value(bits);
#endif
  }
};

struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  POOLGRAD_BOTH explicit bf16(float value) {
#ifdef __CUDA_ARCH__
    bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    bits = half::bf16_bits(value);
#endif
  }
  explicit bf16(double value) : bf16(half::sticky(value)) {}
  POOLGRAD_BOTH operator float() const {
#ifdef __CUDA_ARCH__
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
#else
    return half::bf16_value(bits);
#endif
  }
};

}  // namespace poolgrad
