// Random numbers by place, not by sequence: the same on any thread, in any order, after a resume.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace poolgrad {

/// Four 32-bit numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
/// 3", 2011) keyed by `seed`, at the counter (index, stream).
[[nodiscard]] std::array<std::uint32_t, 4> draw(std::uint64_t seed, std::uint64_t stream,
                                                std::uint64_t index);

/// How many numbers draw_block() gives.
inline constexpr std::int64_t kDrawn = 64;

/// Many numbers in less time: number i is draw(seed, stream, 16 · block + i % 16)[i / 16].
void draw_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t block,
                std::span<std::uint32_t, kDrawn> numbers);

/// In [0, 1), a multiple of 2^-24.
[[nodiscard]] constexpr float unit(std::uint32_t bits) {
  return static_cast<float>(bits >> 8U) / 16777216.0F;
}

}  // namespace poolgrad
