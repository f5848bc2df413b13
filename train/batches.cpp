// Shuffling by Philox.
#include "train/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/error.h"
#include "engine/random.h"

namespace poolgrad::train {
namespace {

/// The streams of a seed below this are those of parameters.
constexpr std::uint64_t kFirstStream = std::uint64_t{1} << 32U;

/// Uniform in [0, bound) for a bound below 2^32: 64 random bits, read as a fraction, times the
/// bound.
std::uint64_t below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream,
                    std::uint64_t index) {
  const auto words = draw(seed, stream, index);
  const std::uint64_t high = words[1], low = words[0];
  return (high * bound + ((low * bound) >> 32U)) >> 32U;
}

}  // namespace

Batches::Batches(std::int64_t samples, std::int64_t batch, std::uint64_t seed)
    : batch_(batch), seed_(seed) {
  if (batch < 1 || batch > samples) {
    throw ArgumentError(text("batches: batch ", batch, " of a data set of ", samples,
                             " samples; take 1 to ", samples));
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (samples > kMost)
    throw ArgumentError(text("batches: ", samples, " samples; ", kMost, " are the most"));
  order_.resize(static_cast<std::size_t>(samples));
  in_order();
}

void Batches::in_order() {
  std::iota(order_.begin(), order_.end(), 0);
  at_ = 0;
}

void Batches::shuffle(std::int64_t epoch) {
  in_order();
  const std::uint64_t stream = kFirstStream + static_cast<std::uint64_t>(epoch);
  for (std::size_t left = order_.size(); left > 1; --left)
    std::swap(order_[left - 1], order_[below(left, seed_, stream, left)]);
}

void Batches::skip(std::int64_t batches) {
  for (std::int64_t i = 0; i < batches && !next().empty(); ++i) {
  }
}

std::span<const std::int32_t> Batches::next() {
  const std::size_t count = std::min(order_.size() - at_, static_cast<std::size_t>(batch_));
  at_ += count;
  return std::span(order_).subspan(at_ - count, count);
}

}  // namespace poolgrad::train
