// Sums by channel over the pixels of channels-last images, two at once, in f64: parts of the pixels
// by a group each, then the parts in order. For .cu files.
#pragma once

#include "engine/cuda/launch.h"

namespace poolgrad::cuda {

/// Of `n` images from row `first` of the batch on.
struct PixelSums {
  static constexpr std::int64_t kParts = 32;

  std::int64_t n, pixels, channels, first;

  [[nodiscard]] std::size_t workspace_bytes() const {
    return static_cast<std::size_t>(2 * kParts * channels) * sizeof(double);
  }
};

/// `value`.first(at, channel) and .second() are what is added up. `rows`: of the batch that count;
/// nullptr: all.
template <typename Value>
struct SumPart {
  PixelSums s;
  Value value;
  const std::int32_t* rows;
  double* parts;  // [2, kParts, channels]

  POOLGRAD_BOTH void operator()(std::int64_t i, const Group& group) const {
    const std::int64_t part = i / s.channels, channel = i % s.channels;
    std::int64_t images = rows == nullptr ? s.n : *rows - s.first;
    images = images < 0 ? 0 : images < s.n ? images : s.n;
    const std::int64_t all = images * s.pixels;
    const std::int64_t begin = all * part / PixelSums::kParts,
                       end = all * (part + 1) / PixelSums::kParts;
    const auto first = [&](std::int64_t p) {
      return value.first((begin + p) * s.channels + channel, channel);
    };
    const auto second = [&](std::int64_t p) {
      return value.second((begin + p) * s.channels + channel, channel);
    };
    const double sum = group.sum<double>(end - begin, first);
    const double other = group.sum<double>(end - begin, second);
    group.each(1, [&](std::int64_t) {
      parts[i] = sum;
      parts[PixelSums::kParts * s.channels + i] = other;
    });
  }
};

/// first [channels] and second [channels]: the parts' sums, in order.
template <typename T>
struct SumParts {
  const double* parts;
  std::int64_t channels;
  T *first, *second;  // second: nullptr: not wanted
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    double a = 0.0, b = 0.0;
    for (std::int64_t part = 0; part < PixelSums::kParts; ++part) {
      a += parts[part * channels + i];
      b += parts[(PixelSums::kParts + part) * channels + i];
    }
    first[i] = static_cast<T>(a);
    if (second != nullptr) second[i] = static_cast<T>(b);
  }
};

template <typename Value>
void sum_pixels(const Queue& queue, const PixelSums& s, const Value& value,
                const std::int32_t* rows, std::byte* workspace, double* sums) {
  auto* const parts = reinterpret_cast<double*>(workspace);
  each_group(queue, PixelSums::kParts * s.channels, SumPart<Value>{s, value, rows, parts});
  each(queue, s.channels, SumParts<double>{parts, s.channels, sums, sums + s.channels});
}

}  // namespace poolgrad::cuda
