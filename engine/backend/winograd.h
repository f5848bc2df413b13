// Convolutions of 3 by 3 windows with stride 1 by Winograd's F(4x4, 3x3), on the thread that calls
// and in workspace that the caller gives. Knows no tensors. The body is in winograd_tiles.h.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): 36 multiplications
// for each 4 by 4 outputs instead of 144. The points are 0, ±3/4, ±3/2 and infinity, which
// round less than the usual 0, ±1, ±2 and infinity.
#pragma once

#include <cstddef>
#include <cstdint>

namespace poolgrad::winograd {

/// Images are channels-last. Both numbers of channels are multiples of kChannels.
struct Problem {
  std::int64_t images = 0, height = 0, width = 0, in = 0, out = 0;  // of x
  std::int64_t padding_h = 0, padding_w = 0;                        // 0 to 2
  bool flipped =
      false;  // weight is [in, out, 3, 3] and turned around: the gradient of a convolution
  bool relu = false;

  [[nodiscard]] std::int64_t out_height() const { return height + 2 * padding_h - 2; }
  [[nodiscard]] std::int64_t out_width() const { return width + 2 * padding_w - 2; }
  [[nodiscard]] std::int64_t tiles_down() const { return (out_height() + 3) / 4; }
  [[nodiscard]] std::int64_t tiles_across() const { return (out_width() + 3) / 4; }
  [[nodiscard]] std::int64_t tiles() const { return images * tiles_down() * tiles_across(); }
};

inline constexpr std::int64_t kChannels = 16, kMaxChannels = 256;

/// Whether this beats sums in plain order: by counts of operations, the same on every machine.
[[nodiscard]] bool pays(const Problem& problem);

/// How much results round: the root mean square of their errors, as a share of that of the results,
/// is at most this for independent operands with mean zero. One is for a sum over `in` channels,
/// the other for a sum over `tiles` tiles. Sums in plain order round a third to a half as much.
[[nodiscard]] double forward_error(std::int64_t in);
[[nodiscard]] double weights_error(std::int64_t tiles);

/// What a call needs; `workspace` begins on 64 bytes.
[[nodiscard]] std::size_t workspace_bytes(const Problem& problem);

struct Calls {
  /// y = x * weight [out, in, 3, 3] + bias [out], which may be null; then max(y, 0) with `relu`.
  void (*forward)(const Problem&, const float* x, const float* weight, const float* bias, float* y,
                  std::byte* workspace);
  /// dweight [out, in, 3, 3] = or, with `add`, += the gradient. `problem` is that of the forward
  /// pass, never `flipped`.
  void (*weights)(const Problem&, const float* x, const float* dy, bool add, float* dweight,
                  std::byte* workspace);
};

/// The copies for an x86_level() that the processor has.
[[nodiscard]] const Calls& calls(int level);

namespace detail {

inline constexpr std::int64_t kApart =
    16;  // values between planes, lest all begin in one cache set

/// How many tiles are transformed at a time.
[[nodiscard]] std::int64_t block(const Problem& problem);

extern const Calls kBaseline, kV3, kV4;  // any processor; AVX2 and FMA; AVX-512

}  // namespace detail
}  // namespace poolgrad::winograd
