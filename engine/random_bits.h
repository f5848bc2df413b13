// Philox as Random123 has it, for host and device: what random.h draws, one counter at a time.
#pragma once

#include <cstdint>

#include <Random123/philox.h>

#include "engine/cuda/both.h"

namespace poolgrad {

using Philox = r123::Philox4x32;

/// Keyed by `seed`, at the counter (index, stream).
[[gnu::always_inline]] POOLGRAD_BOTH inline Philox::ctr_type random_bits(std::uint64_t seed,
                                                                         std::uint64_t stream,
                                                                         std::uint64_t index) {
  const Philox::ctr_type counter{
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32U),
       static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32U)}};
  const Philox::key_type key{
      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)}};
  return Philox{}(counter, key);
}

}  // namespace poolgrad
