// Plan random: the draws of the planner, the same on every machine. Internal to memory/.
#pragma once

#include <cstdint>

namespace poolgrad::memory {

/// The upper 31 bits of a linear congruential generator (Knuth's MMIX); `state` goes on.
inline std::uint64_t draw(std::uint64_t& state) {
  state = state * 6364136223846793005U + 1442695040888963407U;
  return state >> 33U;
}

}  // namespace poolgrad::memory
