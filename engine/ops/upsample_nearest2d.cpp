// upsample_nearest2d: every value becomes a window of equal ones. Images are channels-last.
#include <algorithm>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"

namespace poolgrad {
namespace {

using Factor = std::array<std::int32_t, 2>;  // height, width

/// x [rows, w, c], the rows of all images one after the other, and y [rows · fh, w · fw, c].
struct Enlarged {
  std::int64_t rows, w, c, fh, fw;

  Enlarged(const Shape& x, const Factor& f)
      : rows(x[0] * x[2]), w(x[3]), c(x[1]), fh(f[0]), fw(f[1]) {}
};

// ---- kernels

POOLGRAD_CLONES
void enlarge(const Enlarged& s, const float* x, float* y) {
  const std::int64_t line = s.w * s.fw * s.c;  // of y
  for (std::int64_t row = 0; row < s.rows; ++row, y += s.fh * line) {
    float* to = y;
    for (std::int64_t i = 0; i < s.w; ++i, x += s.c) {
      for (std::int64_t k = 0; k < s.fw; ++k, to += s.c) std::copy_n(x, s.c, to);
    }
    for (std::int64_t k = 1; k < s.fh; ++k) std::copy_n(y, line, y + k * line);
  }
}

/// The sum of kLanes neighbouring channels over one window, in registers.
template <int kLanes>
[[gnu::always_inline]] inline void sum_lanes(const Enlarged& s, const float* dy, float* dx) {
  float sum[kLanes] = {};
  for (std::int64_t row = 0; row < s.fh; ++row, dy += s.w * s.fw * s.c) {
    for (std::int64_t column = 0; column < s.fw; ++column) {
      for (int i = 0; i < kLanes; ++i) sum[i] += dy[column * s.c + i];
    }
  }
  for (int i = 0; i < kLanes; ++i) dx[i] = sum[i];
}

POOLGRAD_CLONES
void sum_windows(const Enlarged& s, const float* dy, float* dx) {
  for (std::int64_t row = 0; row < s.rows; ++row, dy += (s.fh - 1) * s.w * s.fw * s.c) {
    for (std::int64_t i = 0; i < s.w; ++i, dy += s.fw * s.c, dx += s.c) {
      std::int64_t at = 0;
      for (; at + 16 <= s.c; at += 16) sum_lanes<16>(s, dy + at, dx + at);
      for (; at + 4 <= s.c; at += 4) sum_lanes<4>(s, dy + at, dx + at);
      for (; at < s.c; ++at) sum_lanes<1>(s, dy + at, dx + at);
    }
  }
}

// ---- definitions

std::vector<Spec> enlarged(const Site& site) {
  check_image("upsample_nearest2d", "x", site.inputs[0]);
  const auto factor = site.attributes.as<Factor>();
  check_setting("upsample_nearest2d", "factor", factor, 1);
  Spec y = site.inputs[0];
  y.shape[2] *= factor[0], y.shape[3] *= factor[1];
  check_extents(y, "upsample_nearest2d: y");
  return {y};
}

std::vector<Spec> reduced(const Site& site) {
  Spec dx = site.inputs[0];
  const auto factor = site.attributes.as<Factor>();
  dx.shape[2] /= factor[0], dx.shape[3] /= factor[1];
  return {dx};
}

constexpr OpDef kGrad{
    .name = "upsample_nearest2d_grad",  // dy -> dx
    .infer = reduced,
    .wants = {Layout::channels_last},
    .cuts = row_by_row<1>,
    .cpu = [](const Site& site) -> Kernel {
      return {[s = Enlarged(site.outputs[0].shape, site.attributes.as<Factor>())](const Args& a) {
        sum_windows(s, a.in<float>(0), a.out<float>());
      }};
    },
    .cuda = kCuda ? cuda::upsample_nearest2d_grad : nullptr,
};

constexpr OpDef kUpsample{
    .name = "upsample_nearest2d",
    .infer = enlarged,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return b.dy[0].graph->add(kGrad, {b.dy[0]}, b.attributes);
    },
    .wants = {Layout::channels_last},
    .cuts = row_by_row<1>,
    .cpu = [](const Site& site) -> Kernel {
      return {[s = Enlarged(site.inputs[0].shape, site.attributes.as<Factor>())](const Args& a) {
        enlarge(s, a.in<float>(0), a.out<float>());
      }};
    },
    .cuda = kCuda ? cuda::upsample_nearest2d : nullptr,
};

}  // namespace

Tensor upsample_nearest2d(Tensor x, const std::array<std::int32_t, 2>& factor) {
  return x.graph->add(kUpsample, {x}, factor)[0];
}

}  // namespace poolgrad
