// Shuffling by Philox, and gathering with conversion in one pass.
#include "train/batches.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/backend/loops.h"
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

/// A division, not a product with 1/255: the numbers are those of NumPy and PyTorch.
POOLGRAD_CLONES
void scale_pixels(const std::uint8_t* __restrict from, float* __restrict to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) / 255.0F;
}

void gather_sample(const ArrayView& samples, std::uint32_t row, std::int64_t n, float* to) {
  const auto begin = static_cast<std::size_t>(row) * static_cast<std::size_t>(n);
  if (samples.dtype == DType::u8) {
    scale_pixels(static_cast<const std::uint8_t*>(samples.data) + begin, to, n);
  } else {
    std::memcpy(to, static_cast<const float*>(samples.data) + begin,
                static_cast<std::size_t>(n) * sizeof(float));
  }
}

template <typename T>
void gather_labels(const ArrayView& labels, std::span<const std::uint32_t> rows, std::int64_t* to) {
  const T* from = static_cast<const T*>(labels.data);
  for (const std::uint32_t row : rows) *to++ = from[row];
}

}  // namespace

Batches::Batches(const Dataset& data, std::int64_t batch, std::uint64_t seed)
    : data_(data), batch_(batch), seed_(seed) {
  check(data, "batches");
  if (batch < 1 || batch > data.count()) {
    throw ArgumentError(text("batches: batch ", batch, " of a data set of ", data.count(),
                             " samples; take 1 to ", data.count()));
  }
  if (data.count() > std::numeric_limits<std::uint32_t>::max())
    throw ArgumentError(text("batches: ", data.count(), " samples; 4294967295 are the most"));
  sample_elements_ = data.samples.shape.count() / data.count();
  order_.resize(static_cast<std::size_t>(data.count()));
  in_order();
}

void Batches::in_order() {
  std::iota(order_.begin(), order_.end(), 0U);
  at_ = 0;
}

void Batches::shuffle(std::int64_t epoch) {
  in_order();
  const std::uint64_t stream = kFirstStream + static_cast<std::uint64_t>(epoch);
  for (std::size_t left = order_.size(); left > 1; --left)
    std::swap(order_[left - 1], order_[below(left, seed_, stream, left)]);
}

std::int64_t Batches::next(float* samples, std::int64_t* labels) {
  const std::size_t count = std::min(order_.size() - at_, static_cast<std::size_t>(batch_));
  const std::span rows(order_.data() + at_, count);
  at_ += count;
  for (const std::uint32_t row : rows) {
    gather_sample(data_.samples, row, sample_elements_, samples);
    samples += sample_elements_;
  }
  switch (data_.labels.dtype) {
    case DType::u8:
      gather_labels<std::uint8_t>(data_.labels, rows, labels);
      break;
    case DType::i32:
      gather_labels<std::int32_t>(data_.labels, rows, labels);
      break;
    default:
      gather_labels<std::int64_t>(data_.labels, rows, labels);
  }
  return static_cast<std::int64_t>(count);
}

}  // namespace poolgrad::train
