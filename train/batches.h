// Batches: which samples come when. Getting them into the arena is the step's own work (gather(),
// engine/ops.h).
#pragma once

#include <span>
#include <vector>

#include "train/dataset.h"

namespace poolgrad::train {

/// Goes through a data set in an order that only seed, epoch and count decide: the same on any
/// machine and after a resume. Every sample comes once per epoch; the last batch may be short.
class Batches {
 public:
  /// Throws ArgumentError for a batch below 1 or above the data set, and for more than 2^31 - 1
  /// samples.
  Batches(std::int64_t samples, std::int64_t batch, std::uint64_t seed);

  /// Begins an epoch. Shuffled: Fisher-Yates over Philox. Allocates nothing.
  void shuffle(std::int64_t epoch);
  /// Begins an epoch in the order of the data set.
  void in_order();

  /// Leaves out the next batches, as if they had been asked for.
  void skip(std::int64_t batches);

  /// The rows of the data set that make the next batch; none at the end of the epoch.
  [[nodiscard]] std::span<const std::int32_t> next();

  [[nodiscard]] std::int64_t samples() const { return static_cast<std::int64_t>(order_.size()); }
  [[nodiscard]] std::int64_t batch() const { return batch_; }
  [[nodiscard]] std::int64_t per_epoch() const { return (samples() + batch_ - 1) / batch_; }

 private:
  std::int64_t batch_;
  std::uint64_t seed_;
  std::vector<std::int32_t> order_;
  std::size_t at_ = 0;
};

}  // namespace poolgrad::train
