// f16 and bf16 against their definition: every pattern's value by its fields, and rounding as the
// search for the nearest of all values.
#include "engine/half.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace poolgrad {
namespace {

constexpr std::uint16_t kSign = 0x8000;

/// Fields of a format: value = ±(1 or 0 + mantissa / 2^digits) · 2^exponent.
struct Format {
  int digits, bias;

  [[nodiscard]] std::uint16_t infinity() const {
    return static_cast<std::uint16_t>(0x7FFF >> digits << digits);
  }
  [[nodiscard]] double value(std::uint16_t bits) const {
    const int exponent = (bits & 0x7FFF) >> digits, mantissa = bits & ((1 << digits) - 1);
    const double size = exponent == 0
                            ? std::ldexp(mantissa, 1 - bias - digits)
                            : std::ldexp(mantissa + (1 << digits), exponent - bias - digits);
    return (bits & kSign) != 0 ? -size : size;
  }
  /// The nearest of all values, of two equally near ones the even; infinity counts as the next
  /// power of two.
  [[nodiscard]] std::uint16_t nearest(double wanted) const {
    const double size = std::abs(wanted);
    int low = 0, high = infinity();  // value(low) <= size < value(high), or high is infinity
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (value(static_cast<std::uint16_t>(middle)) <= size ? low : high) = middle;
    }
    const double below = size - value(static_cast<std::uint16_t>(low)),
                 above = value(static_cast<std::uint16_t>(high)) - size;
    const int result = below < above || (below == above && low % 2 == 0) ? low : high;
    return static_cast<std::uint16_t>(result | (std::signbit(wanted) ? kSign : 0));
  }
};

constexpr Format kF16{10, 15}, kBf16{7, 127};

template <typename T>
void check_every_pattern(const Format& format) {
  for (int pattern = 0; pattern <= 0xFFFF; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    T half;
    half.bits = bits;
    const float value = half;
    const int size = bits & 0x7FFF;
    bool right = std::signbit(value) == ((bits & kSign) != 0) && T(value).bits == bits;
    if (size > format.infinity()) {  // a signalling NaN becomes a quiet one
      right = std::isnan(value) && (T(value).bits & 0x7FFF) > format.infinity();
    } else if (size == format.infinity()) {
      right = right && std::isinf(value);
    } else {
      right = right && static_cast<double>(value) == format.value(bits);
    }
    CAPTURE(pattern);
    REQUIRE(right);
  }
}

TEST_CASE("half: all 65536 patterns have their value and come back from it") {
  check_every_pattern<f16>(kF16);
  check_every_pattern<bf16>(kBf16);
}

/// Around every value: ties with the next one, and one step of a float beside them.
template <typename T>
void check_ties(const Format& format) {
  for (int pattern = 0; pattern < format.infinity(); ++pattern) {
    const double value = format.value(static_cast<std::uint16_t>(pattern)),
                 next = format.value(static_cast<std::uint16_t>(pattern + 1));
    const auto tie = static_cast<float>((value + next) / 2);
    for (const float sign : {1.0F, -1.0F}) {
      for (const float to : {0.0F, tie, std::numeric_limits<float>::infinity()}) {
        const float x = sign * std::nextafter(tie, to);
        CAPTURE(x);
        REQUIRE(T(x).bits == format.nearest(x));
      }
    }
  }
}

TEST_CASE("half: floats are rounded to the nearest, ties to even, overflow to infinity") {
  check_ties<f16>(kF16);
  check_ties<bf16>(kBf16);
  CHECK(f16(65519.0F).bits == 0x7BFF);
  CHECK(f16(65520.0F).bits == 0x7C00);
  CHECK(bf16(std::numeric_limits<float>::max()).bits == 0x7F80);
  CHECK(f16(-0.0F).bits == kSign);
}

TEST_CASE("half: any float and any double is rounded once") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 300'000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    double near = std::ldexp(1.0 + static_cast<double>(random() >> 12) * 0x1p-52,
                             static_cast<int>(random() % 44) - 27);  // where f16 has its values
    if (i % 2 == 0)  // just beside a tie, further than a float sees
      near = static_cast<double>(f16(static_cast<float>(near))) * (1 + 0x1p-12) * (1 + 0x1p-45);
    CAPTURE(x);
    CAPTURE(near);
    if (!std::isnan(x)) {
      REQUIRE(f16(x).bits == kF16.nearest(x));
      REQUIRE(bf16(x).bits == kBf16.nearest(x));
    }
    REQUIRE(f16(near).bits == kF16.nearest(near));
    REQUIRE(bf16(-near).bits == kBf16.nearest(-near));
  }
}

}  // namespace
}  // namespace poolgrad
