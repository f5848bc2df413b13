// Batches: which samples come when, and how they get into the input slots.
#pragma once

#include <vector>

#include "train/dataset.h"

namespace poolgrad::train {

/// Goes through a data set in an order that only seed, epoch and count decide: the same on any
/// machine and after a resume. Every sample comes once per epoch; the last batch may be short.
class Batches {
 public:
  /// `data` must outlive this. Throws ArgumentError for a batch below 1 or above the data set, and
  /// what check() throws.
  Batches(const Dataset& data, std::int64_t batch, std::uint64_t seed);

  /// Begins an epoch. Shuffled: Fisher-Yates over Philox. Allocates nothing.
  void shuffle(std::int64_t epoch);
  /// Begins an epoch in the order of the data set.
  void in_order();

  /// Gathers the next batch: samples as f32 (u8 / 255) to `samples`, labels as i64 to `labels`;
  /// answers how many rows, 0 at the end of the epoch. Both have room for a whole batch. Allocates
  /// nothing.
  std::int64_t next(float* samples, std::int64_t* labels);

  [[nodiscard]] std::int64_t per_epoch() const { return (data_.count() + batch_ - 1) / batch_; }
  [[nodiscard]] std::int64_t batch() const { return batch_; }
  [[nodiscard]] std::int64_t samples() const { return data_.count(); }

 private:
  const Dataset& data_;
  std::int64_t batch_;
  std::uint64_t seed_;
  std::int64_t sample_elements_;
  std::vector<std::uint32_t> order_;
  std::size_t at_ = 0;
};

}  // namespace poolgrad::train
