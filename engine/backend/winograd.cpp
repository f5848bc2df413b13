// Which copy runs, how tiles are blocked, when it pays; and the copy for any processor.
#include "engine/backend/winograd.h"

#include <algorithm>
#include <cmath>

#define POOLGRAD_LANES 4
#include "engine/backend/winograd_tiles.h"

namespace poolgrad::winograd {
namespace detail {

const Calls kBaseline{forward, weights};

std::int64_t block(const Problem& problem) {
  constexpr std::int64_t kBytes = 128 << 10;  // of the planes of one side: both stay in a small L2
  const std::int64_t channels = std::max(problem.in, problem.out);
  const auto tile = static_cast<std::int64_t>(kPlanes * sizeof(float)) * channels;
  const std::int64_t fit = std::clamp<std::int64_t>(kBytes / tile, 24, 96);
  return std::min(fit / 12 * 12, (problem.tiles() + 3) / 4 * 4);
}

}  // namespace detail

bool pays(const Problem& p) {
  if (p.in % kChannels != 0 || p.out % kChannels != 0) return false;
  if (std::max(p.in, p.out) > kMaxChannels || p.in * p.out > 128 * 128) return false;
  // In multiplications, or what takes as long. Weights are transformed at each call.
  const std::int64_t products = p.in * p.out;
  const std::int64_t plain = 9 * products * p.images * p.out_height() * p.out_width();
  return p.tiles() * (36 * products + 250 * (p.in + p.out)) + 300 * products < plain;
}

// A part that the transforms make, and one that grows with the sum, in roundings of 2^-24. Both are
// fitted to what winograd_test.cpp measures.
double forward_error(std::int64_t in) {
  return std::ldexp(6 + 1.6 * std::sqrt(static_cast<double>(in)), -24);
}

double weights_error(std::int64_t tiles) {
  return std::ldexp(5.5 + 1.5 * std::sqrt(static_cast<double>(tiles)), -24);
}

std::size_t workspace_bytes(const Problem& p) {
  const std::int64_t values = p.in * p.out + detail::block(p) * (p.in + p.out) + 3 * detail::kApart;
  return static_cast<std::size_t>(kPlanes * values) * sizeof(float);
}

const Calls& calls(int level) {
#ifdef POOLGRAD_X86_LEVELS
  if (level == 4) return detail::kV4;
  if (level == 3) return detail::kV3;
#endif
  (void)level;
  return detail::kBaseline;
}

}  // namespace poolgrad::winograd
