// The loops of batch_norm. They go by tiles of 32 values, kLanes neighbouring channels of 32 /
// kLanes pixels: what belongs to the channels stays in registers, and loops over a tile are long
// enough for compilers to make vectors of them (GCC 12 makes none of loops that it unrolls).
#include "engine/backend/loops.h"
#include "engine/ops/batch_norm.h"

namespace poolgrad::normalization {
namespace {

constexpr int kTile = 32;

/// One value of each of the kLanes channels, repeated for every pixel of a tile.
template <int kLanes>
struct Lanes {
  float of[kTile];

  [[gnu::always_inline]] explicit Lanes(const float* channels) {
    for (int i = 0; i < kTile; ++i) of[i] = channels[i % kLanes];
  }
};

/// kPixels pixels, whose channels lie `channels` values apart, as a tile; and back.
template <int kLanes, int kPixels>
[[gnu::always_inline]] inline void load(const float* from, std::int64_t channels, float* tile) {
  for (int p = 0; p < kPixels; ++p) {
    for (int i = 0; i < kLanes; ++i) tile[p * kLanes + i] = from[p * channels + i];
  }
}
template <int kLanes, int kPixels>
[[gnu::always_inline]] inline void store(const float* tile, std::int64_t channels, float* to) {
  for (int p = 0; p < kPixels; ++p) {
    for (int i = 0; i < kLanes; ++i) to[p * channels + i] = tile[p * kLanes + i];
  }
}

/// Sums by channel of a and of a · b, one of each per value of a tile until the end.
template <int kLanes>
struct Sums {
  double values[kTile] = {}, products[kTile] = {};

  [[gnu::always_inline]] void take(const float* a, const float* b, int count) {
    for (int i = 0; i < count; ++i) {
      const double value = a[i];
      values[i] += value;
      products[i] += value * static_cast<double>(b[i]);
    }
  }
  [[gnu::always_inline]] void put(bool add, std::int64_t channels, double* sums) const {
    for (int i = 0; i < kLanes; ++i) {
      double sum = add ? sums[i] : 0.0, sum_of_products = add ? sums[channels + i] : 0.0;
      for (int k = i; k < kTile; k += kLanes) {
        sum += values[k];
        sum_of_products += products[k];
      }
      sums[i] = sum;
      sums[channels + i] = sum_of_products;
    }
  }
};

// ---- a tile, or one pixel of it

template <int kLanes, int kPixels>
[[gnu::always_inline]] inline void sum_tile(const float* x, std::int64_t channels,
                                            Sums<kLanes>& sums) {
  float tile[kTile];
  load<kLanes, kPixels>(x, channels, tile);
  sums.take(tile, tile, kLanes * kPixels);
}

template <int kLanes, int kPixels, bool kRelu>
[[gnu::always_inline]] inline void apply_tile(const float* x, std::int64_t channels,
                                              const Lanes<kLanes>& scale,
                                              const Lanes<kLanes>& shift, float* y) {
  float tile[kTile];
  load<kLanes, kPixels>(x, channels, tile);
  for (int i = 0; i < kLanes * kPixels; ++i) {
    const float value = tile[i] * scale.of[i] + shift.of[i];
    tile[i] = kRelu && value < 0.0F ? 0.0F : value;  // NaN stays
  }
  store<kLanes, kPixels>(tile, channels, y);
}

/// x and dy; dy is 0 where the ReLU behind the line cuts off. The same arithmetic as forward, so
/// it cuts off the same values.
template <int kLanes, int kPixels, bool kRelu>
[[gnu::always_inline]] inline void load_both(const float* dy, const float* x, std::int64_t channels,
                                             const Lanes<kLanes>& scale, const Lanes<kLanes>& shift,
                                             float* dy_tile, float* x_tile) {
  load<kLanes, kPixels>(x, channels, x_tile);
  load<kLanes, kPixels>(dy, channels, dy_tile);
  if (!kRelu) return;
  for (int i = 0; i < kLanes * kPixels; ++i)
    dy_tile[i] = x_tile[i] * scale.of[i] + shift.of[i] > 0.0F ? dy_tile[i] : 0.0F;
}

// ---- kLanes channels of all pixels: whole tiles, then pixel by pixel

template <int kLanes>
[[gnu::always_inline]] inline void sum_lanes(const float* x, const Extent& e, bool add,
                                             double* result) {
  constexpr int kPixels = kTile / kLanes;
  Sums<kLanes> sums;
  std::int64_t p = 0;
  for (; p + kPixels <= e.pixels; p += kPixels)
    sum_tile<kLanes, kPixels>(x + p * e.channels, e.channels, sums);
  for (; p < e.pixels; ++p) sum_tile<kLanes, 1>(x + p * e.channels, e.channels, sums);
  sums.put(add, e.channels, result);
}

template <int kLanes, bool kRelu>
[[gnu::always_inline]] inline void apply_lanes(const float* x, const Extent& e, const Line& line,
                                               std::int64_t channel, float* y) {
  constexpr int kPixels = kTile / kLanes;
  const Lanes<kLanes> scale(line.scale + channel), shift(line.shift + channel);
  std::int64_t p = 0, at = channel;
  for (; p + kPixels <= e.pixels; p += kPixels, at += kPixels * e.channels)
    apply_tile<kLanes, kPixels, kRelu>(x + at, e.channels, scale, shift, y + at);
  for (; p < e.pixels; ++p, at += e.channels)
    apply_tile<kLanes, 1, kRelu>(x + at, e.channels, scale, shift, y + at);
}

template <int kLanes, bool kRelu>
[[gnu::always_inline]] inline void grad_sum_lanes(const float* dy, const float* x, const Extent& e,
                                                  const Line& line, std::int64_t channel, bool add,
                                                  double* result) {
  constexpr int kPixels = kTile / kLanes;
  const Lanes<kLanes> scale(line.scale + channel), shift(line.shift + channel);
  Sums<kLanes> sums;
  float dy_tile[kTile], x_tile[kTile];
  std::int64_t p = 0, at = channel;
  for (; p + kPixels <= e.pixels; p += kPixels, at += kPixels * e.channels) {
    load_both<kLanes, kPixels, kRelu>(dy + at, x + at, e.channels, scale, shift, dy_tile, x_tile);
    sums.take(dy_tile, x_tile, kTile);
  }
  for (; p < e.pixels; ++p, at += e.channels) {
    load_both<kLanes, 1, kRelu>(dy + at, x + at, e.channels, scale, shift, dy_tile, x_tile);
    sums.take(dy_tile, x_tile, kLanes);
  }
  sums.put(add, e.channels, result + channel);
}

template <int kLanes, int kPixels, bool kRelu>
[[gnu::always_inline]] inline void grad_tile(const float* dy, const float* x, std::int64_t channels,
                                             const Lanes<kLanes>& scale, const Lanes<kLanes>& shift,
                                             const Lanes<kLanes>& by_dy, const Lanes<kLanes>& by_x,
                                             const Lanes<kLanes>& rest, float* dx) {
  float dy_tile[kTile], x_tile[kTile];
  load_both<kLanes, kPixels, kRelu>(dy, x, channels, scale, shift, dy_tile, x_tile);
  for (int i = 0; i < kLanes * kPixels; ++i)
    x_tile[i] = by_dy.of[i] * dy_tile[i] + (by_x.of[i] * x_tile[i] + rest.of[i]);
  store<kLanes, kPixels>(x_tile, channels, dx);
}

template <int kLanes, bool kRelu>
[[gnu::always_inline]] inline void grad_lanes(const float* dy, const float* x, const Extent& e,
                                              const Line& line, const Slope& slope,
                                              std::int64_t channel, float* dx) {
  constexpr int kPixels = kTile / kLanes;
  const Lanes<kLanes> scale(line.scale + channel), shift(line.shift + channel);
  const Lanes<kLanes> by_dy(slope.by_dy + channel), by_x(slope.by_x + channel),
      rest(slope.shift + channel);
  std::int64_t p = 0, at = channel;
  for (; p + kPixels <= e.pixels; p += kPixels, at += kPixels * e.channels)
    grad_tile<kLanes, kPixels, kRelu>(dy + at, x + at, e.channels, scale, shift, by_dy, by_x, rest,
                                      dx + at);
  for (; p < e.pixels; ++p, at += e.channels)
    grad_tile<kLanes, 1, kRelu>(dy + at, x + at, e.channels, scale, shift, by_dy, by_x, rest,
                                dx + at);
}

// ---- all channels

template <bool kRelu>
[[gnu::always_inline]] inline void apply_all(const float* x, const Extent& e, const Line& line,
                                             float* y) {
  std::int64_t i = 0;
  for (; i + 16 <= e.channels; i += 16) apply_lanes<16, kRelu>(x, e, line, i, y);
  for (; i + 4 <= e.channels; i += 4) apply_lanes<4, kRelu>(x, e, line, i, y);
  for (; i < e.channels; ++i) apply_lanes<1, kRelu>(x, e, line, i, y);
}

template <bool kRelu>
[[gnu::always_inline]] inline void grad_sums_all(const float* dy, const float* x, const Extent& e,
                                                 const Line& line, bool add, double* sums) {
  std::int64_t i = 0;
  for (; i + 16 <= e.channels; i += 16) grad_sum_lanes<16, kRelu>(dy, x, e, line, i, add, sums);
  for (; i + 4 <= e.channels; i += 4) grad_sum_lanes<4, kRelu>(dy, x, e, line, i, add, sums);
  for (; i < e.channels; ++i) grad_sum_lanes<1, kRelu>(dy, x, e, line, i, add, sums);
}

template <bool kRelu>
[[gnu::always_inline]] inline void grad_all(const float* dy, const float* x, const Extent& e,
                                            const Line& line, const Slope& slope, float* dx) {
  std::int64_t i = 0;
  for (; i + 16 <= e.channels; i += 16) grad_lanes<16, kRelu>(dy, x, e, line, slope, i, dx);
  for (; i + 4 <= e.channels; i += 4) grad_lanes<4, kRelu>(dy, x, e, line, slope, i, dx);
  for (; i < e.channels; ++i) grad_lanes<1, kRelu>(dy, x, e, line, slope, i, dx);
}

// ---- clones: Clang 14 makes none of functions that a header has declared

POOLGRAD_CLONES
void clones_of_sums(const float* x, const Extent& e, bool add, double* sums) {
  std::int64_t i = 0;
  for (; i + 16 <= e.channels; i += 16) sum_lanes<16>(x + i, e, add, sums + i);
  for (; i + 4 <= e.channels; i += 4) sum_lanes<4>(x + i, e, add, sums + i);
  for (; i < e.channels; ++i) sum_lanes<1>(x + i, e, add, sums + i);
}

POOLGRAD_CLONES
void clones_of_apply(const float* x, const Extent& e, const Line& line, float* y) {
  line.relu ? apply_all<true>(x, e, line, y) : apply_all<false>(x, e, line, y);
}

POOLGRAD_CLONES
void clones_of_grad_sums(const float* dy, const float* x, const Extent& e, const Line& line,
                         bool add, double* sums) {
  line.relu ? grad_sums_all<true>(dy, x, e, line, add, sums)
            : grad_sums_all<false>(dy, x, e, line, add, sums);
}

POOLGRAD_CLONES
void clones_of_grad(const float* dy, const float* x, const Extent& e, const Line& line,
                    const Slope& slope, float* dx) {
  line.relu ? grad_all<true>(dy, x, e, line, slope, dx)
            : grad_all<false>(dy, x, e, line, slope, dx);
}

}  // namespace

void sums(const float* x, const Extent& extent, bool add, double* sums) {
  clones_of_sums(x, extent, add, sums);
}

void apply(const float* x, const Extent& extent, const Line& line, float* y) {
  clones_of_apply(x, extent, line, y);
}

void grad_sums(const float* dy, const float* x, const Extent& extent, const Line& line, bool add,
               double* sums) {
  clones_of_grad_sums(dy, x, extent, line, add, sums);
}

void grad(const float* dy, const float* x, const Extent& extent, const Line& line,
          const Slope& slope, float* dx) {
  clones_of_grad(dy, x, extent, line, slope, dx);
}

}  // namespace poolgrad::normalization
