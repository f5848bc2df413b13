// Philox, as Random123 has it.
#include "engine/random.h"

#include "engine/backend/loops.h"
#include "engine/random_bits.h"

namespace poolgrad {
namespace {

constexpr std::uint64_t kLanes = kDrawn / 4;  // counters at once

POOLGRAD_CLONES
void fill(std::uint64_t seed, std::uint64_t stream, std::uint64_t index, std::uint32_t* numbers) {
  for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
    const Philox::ctr_type four = random_bits(seed, stream, index + lane);
    for (std::uint64_t i = 0; i < 4; ++i) numbers[i * kLanes + lane] = four[i];
  }
}

}  // namespace

std::array<std::uint32_t, 4> draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const Philox::ctr_type four = random_bits(seed, stream, index);
  return {four[0], four[1], four[2], four[3]};
}

void draw_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t block,
                std::span<std::uint32_t, kDrawn> numbers) {
  fill(seed, stream, block * kLanes, numbers.data());
}

}  // namespace poolgrad
