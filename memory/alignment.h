// Alignment: what every slot begins on, and how sizes are rounded up to it.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>

namespace poolgrad::memory {

inline constexpr std::size_t kAlignment = 64;

/// Whether `alignment` is a power of two, the only kind there is.
constexpr bool is_alignment(std::size_t alignment) {
  return alignment != 0 && (alignment & (alignment - 1)) == 0;
}

/// `bytes` rounded up to a multiple of `alignment`, a power of two. The caller knows that it fits.
constexpr std::size_t aligned(std::size_t bytes, std::size_t alignment = kAlignment) {
  return (bytes + alignment - 1) & ~(alignment - 1);
}

/// As aligned(), but nothing when the result would not fit into std::size_t.
constexpr std::optional<std::size_t> checked_aligned(std::size_t bytes,
                                                     std::size_t alignment = kAlignment) {
  if (bytes > std::numeric_limits<std::size_t>::max() - (alignment - 1)) return std::nullopt;
  return aligned(bytes, alignment);
}

}  // namespace poolgrad::memory
