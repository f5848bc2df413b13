// Numbers by place: known answers, and a rough look at how they are spread.
#include "engine/random.h"

#include <cmath>

#include <doctest/doctest.h>

namespace poolgrad {
namespace {

TEST_CASE("draw: equals Philox4x32-10's published known answers") {
  using Words = std::array<std::uint32_t, 4>;  // kat_vectors of Random123
  CHECK(draw(0, 0, 0) == Words{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U});
  CHECK(draw(~0ULL, ~0ULL, ~0ULL) == Words{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU});
}

TEST_CASE("unit: evenly spread over [0, 1)") {
  double sum = 0, squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const float u = unit(draw(7, 3, static_cast<std::uint64_t>(i))[0]);
    REQUIRE(u >= 0.0F);
    REQUIRE(u < 1.0F);
    sum += u, squares += static_cast<double>(u) * u;
  }
  CHECK(std::abs(sum / kCount - 0.5) < 0.005);
  CHECK(std::abs(squares / kCount - 1.0 / 3) < 0.005);
}

}  // namespace
}  // namespace poolgrad
