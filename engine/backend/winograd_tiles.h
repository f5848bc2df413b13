// The body of the three copies in winograd.cpp, winograd_v3.cpp and winograd_v4.cpp: each is
// compiled for one instruction set and says how many values a vector has. Everything is in an
// unnamed namespace, so that no copy can stand in for another; nothing else may be included here
// whose functions might not be inlined.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/winograd.h"

namespace poolgrad::winograd {
namespace {

constexpr int kLanes = POOLGRAD_LANES;
constexpr int kPlanes = 36;  // values of a transformed tile
using Index = std::ptrdiff_t;

using Vector [[gnu::vector_size(kLanes * sizeof(float))]] = float;
using Anywhere [[gnu::vector_size(kLanes * sizeof(float)), gnu::aligned(4), gnu::may_alias]] =
    float;

[[gnu::always_inline]] inline Vector load(const float* from) {
  return *reinterpret_cast<const Anywhere*>(from);
}
[[gnu::always_inline]] inline void store(float* to, Vector v) {
  *reinterpret_cast<Anywhere*>(to) = v;
}
/// x - 0 is x for every x; x + 0 is not, for -0.
[[gnu::always_inline]] inline Vector splat(float x) { return x - Vector{}; }

// ---- transforms along one axis: n values in, m values out

constexpr float kA = 0.75F, kB = 1.5F;  // the points are 0, ±a, ±b, infinity
constexpr float kA2 = kA * kA, kB2 = kB * kB;
constexpr float kG0 = 1 / (kA2 * kB2), kGa = 1 / (2 * kA2 * (kA2 - kB2)),
                kGb = 1 / (2 * kB2 * (kB2 - kA2));

/// Bᵀ d, of an image.
struct Image {
  static constexpr int kIn = 6, kOut = 6;
  [[gnu::always_inline]] static void apply(const Vector (&d)[6], Vector (&v)[6]) {
    const Vector even_a = d[4] - kB2 * d[2], odd_a = d[3] - kB2 * d[1];
    const Vector even_b = d[4] - kA2 * d[2], odd_b = d[3] - kA2 * d[1];
    v[0] = d[4] - (kA2 + kB2) * d[2] + (kA2 * kB2) * d[0];
    v[1] = even_a + kA * odd_a;
    v[2] = even_a - kA * odd_a;
    v[3] = even_b + kB * odd_b;
    v[4] = even_b - kB * odd_b;
    v[5] = d[5] - (kA2 + kB2) * d[3] + (kA2 * kB2) * d[1];
  }
};

/// Aᵀ m: a tile of the result.
struct Result {
  static constexpr int kIn = 6, kOut = 4;
  [[gnu::always_inline]] static void apply(const Vector (&m)[6], Vector (&y)[4]) {
    const Vector even_a = m[1] + m[2], odd_a = m[1] - m[2];
    const Vector even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = kA * odd_a + kB * odd_b;
    y[2] = kA2 * even_a + kB2 * even_b;
    y[3] = (kA * kA2) * odd_a + (kB * kB2) * odd_b + m[5];
  }
};

/// A y, of the result's gradient.
struct ResultGrad {
  static constexpr int kIn = 4, kOut = 6;
  [[gnu::always_inline]] static void apply(const Vector (&y)[4], Vector (&z)[6]) {
    const Vector even_a = y[0] + kA2 * y[2], odd_a = y[1] + kA2 * y[3];
    const Vector even_b = y[0] + kB2 * y[2], odd_b = y[1] + kB2 * y[3];
    z[0] = y[0];
    z[1] = even_a + kA * odd_a;
    z[2] = even_a - kA * odd_a;
    z[3] = even_b + kB * odd_b;
    z[4] = even_b - kB * odd_b;
    z[5] = y[3];
  }
};

/// G g, of a window of weights.
struct Window {
  static constexpr int kIn = 3, kOut = 6;
  [[gnu::always_inline]] static void apply(const Vector (&g)[3], Vector (&u)[6]) {
    const Vector even_a = kGa * g[0] + (kGa * kA2) * g[2], odd_a = (kGa * kA) * g[1];
    const Vector even_b = kGb * g[0] + (kGb * kB2) * g[2], odd_b = (kGb * kB) * g[1];
    u[0] = kG0 * g[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
  }
};

/// Gᵀ u: the gradient of a window.
struct WindowGrad {
  static constexpr int kIn = 6, kOut = 3;
  [[gnu::always_inline]] static void apply(const Vector (&u)[6], Vector (&g)[3]) {
    const Vector even_a = kGa * (u[1] + u[2]), odd_a = (kGa * kA) * (u[1] - u[2]);
    const Vector even_b = kGb * (u[3] + u[4]), odd_b = (kGb * kB) * (u[3] - u[4]);
    g[0] = kG0 * u[0] + even_a + even_b;
    g[1] = odd_a + odd_b;
    g[2] = kA2 * even_a + kB2 * even_b + u[5];
  }
};

/// Along both axes: to(i, j, v) gets what comes out of at(i, j).
template <typename T, typename At, typename To>
[[gnu::always_inline]] inline void transform(At at, To to) {
  Vector half[T::kOut][T::kIn];
#pragma GCC unroll 8
  for (int j = 0; j < T::kIn; ++j) {
    Vector column[T::kIn], made[T::kOut];
#pragma GCC unroll 8
    for (int i = 0; i < T::kIn; ++i) column[i] = at(i, j);
    T::apply(column, made);
#pragma GCC unroll 8
    for (int i = 0; i < T::kOut; ++i) half[i][j] = made[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < T::kOut; ++i) {
    Vector made[T::kOut];
    T::apply(half[i], made);
#pragma GCC unroll 8
    for (int j = 0; j < T::kOut; ++j) to(i, j, made[j]);
  }
}

// ---- tiles of images

/// Calls f(place in the block, image, row, column) for tiles [begin, begin + count).
template <typename F>
[[gnu::always_inline]] inline void each_tile(const Problem& p, Index begin, Index count, F f) {
  const Index across = p.tiles_across(), down = p.tiles_down();
  Index column = begin % across, row = begin / across % down, image = begin / across / down;
  for (Index t = 0; t < count; ++t) {
    f(t, image, 4 * row, 4 * column);
    if (++column < across) continue;
    column = 0;
    if (++row < down) continue;
    row = 0;
    ++image;
  }
}

/// A place outside of an image.
alignas(64) constexpr float kZeros[kMaxChannels] = {};

/// Images [height, width, channels], one after the other.
struct Images {
  const float* data;
  Index height, width, channels;
};

/// planes [36, block, channels] of tiles: T of the kN by kN places from (row - padding_h, column -
/// padding_w) on, zeros outside of the image.
template <typename T>
void into_planes(const Problem& p, const Images& x, Index padding_h, Index padding_w, Index begin,
                 Index count, float* planes, Index plane) {
  constexpr Index kN = T::kIn;
  const Index line = x.width * x.channels;
  each_tile(p, begin, count, [&](Index t, Index image, Index row, Index column) {
    row -= padding_h, column -= padding_w;
    const float* const corner = x.data + (image * x.height + row) * line + column * x.channels;
    float* const to = planes + t * x.channels;
    const Index top = row < 0 ? -row : 0, left = column < 0 ? -column : 0;
    const Index bottom = x.height - row < kN ? x.height - row : kN;
    const Index right = x.width - column < kN ? x.width - column : kN;
    const auto put = [&](Index c) {
      return [=](Index i, Index j, Vector v) { store(to + (i * 6 + j) * plane + c, v); };
    };
    if (top == 0 && left == 0 && bottom == kN && right == kN) {
      for (Index c = 0; c < x.channels; c += kLanes) {
        transform<T>([&](Index i, Index j) { return load(corner + i * line + j * x.channels + c); },
                     put(c));
      }
    } else {
      const float* lines[kN];
      Index step[kN];
      for (Index i = 0; i < kN; ++i) {
        const bool inside = i >= top && i < bottom;
        lines[i] = inside ? corner + i * line + left * x.channels : kZeros;
        step[i] = inside ? x.channels : 0;
      }
      for (Index c = 0; c < x.channels; c += kLanes) {
        transform<T>(
            [&](Index i, Index j) {
              return j >= left && j < right ? load(lines[i] + (j - left) * step[i] + c) : Vector{};
            },
            put(c));
      }
    }
  });
}

/// y from planes [36, block, out].
void out_of_planes(const Problem& p, const float* planes, Index plane, Index begin, Index count,
                   const float* bias, float* y) {
  const Index height = p.out_height(), width = p.out_width(), out = p.out;
  each_tile(p, begin, count, [&](Index t, Index image, Index row, Index column) {
    const float* const from = planes + t * out;
    float* const to = y + ((image * height + row) * width + column) * out;
    const Index rows = height - row < 4 ? height - row : 4;
    const Index columns = width - column < 4 ? width - column : 4;
    for (Index c = 0; c < out; c += kLanes) {
      const Vector plus = bias == nullptr ? Vector{} : load(bias + c);
      transform<Result>([&](int i, int j) { return load(from + (i * 6 + j) * plane + c); },
                        [&](int i, int j, Vector v) {
                          v += plus;
                          if (p.relu) v = v < 0.0F ? Vector{} : v;  // NaN stays NaN
                          if (i < rows && j < columns) store(to + (i * width + j) * out + c, v);
                        });
    }
  });
}

// ---- products: c [rows, n] = or += a · b [depth, n], with any strides of a

struct Strides {
  Index a_row, a_depth, b, c;
};

/// kRows rows and kVectors vectors at a time: as many sums as registers hold. Rows go in fours,
/// which share an address.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void product_block(const float* a, const float* b, float* c,
                                                 const Strides& s, Index depth, bool add) {
  constexpr int kFours = (kRows + 3) / 4;
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = add ? load(c + r * s.c + v * kLanes) : Vector{};
  const float* rows[kFours];
  for (int i = 0; i < kFours; ++i) rows[i] = a + 4 * i * s.a_row;
  const Index third = 3 * s.a_row;
  const auto step = [&]() {
    Vector right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes);
    for (int i = 0; i < kFours; ++i) {
      const auto row = [&](int r, float left) {
        for (int v = 0; v < kVectors; ++v) sums[r][v] += splat(left) * right[v];
      };
      row(4 * i, rows[i][0]);
      if (4 * i + 1 < kRows) row(4 * i + 1, rows[i][s.a_row]);
      if (4 * i + 2 < kRows) row(4 * i + 2, rows[i][2 * s.a_row]);
      if (4 * i + 3 < kRows) row(4 * i + 3, rows[i][third]);
      rows[i] += s.a_depth;
    }
    b += s.b;
  };
  Index k = 0;
  for (; k + 4 <= depth; k += 4) {
    step();
    step();
    step();
    step();
  }
  for (; k < depth; ++k) step();
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) store(c + r * s.c + v * kLanes, sums[r][v]);
}

/// `rows` is a multiple of four.
template <int kRows, int kVectors>
void product_rows(Index rows, const float* a, const float* b, float* c, const Strides& s,
                  Index depth, bool add) {
  Index r = 0;
  for (; r + kRows <= rows; r += kRows)
    product_block<kRows, kVectors>(a + r * s.a_row, b, c + r * s.c, s, depth, add);
  for (; r + 4 <= rows; r += 4)
    product_block<4, kVectors>(a + r * s.a_row, b, c + r * s.c, s, depth, add);
  if (r < rows) product_block<2, kVectors>(a + r * s.a_row, b, c + r * s.c, s, depth, add);
}

template <int kRows>
void product(Index rows, Index n, const float* a, const float* b, float* c, const Strides& s,
             Index depth, bool add) {
  Index j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes)
    product_rows<kRows, 2>(rows, a, b + j, c + j, s, depth, add);
  for (; j < n; j += kLanes) product_rows<kRows, 1>(rows, a, b + j, c + j, s, depth, add);
}

#if POOLGRAD_LANES == 16
/// c [rows, 16] = a [rows, 16] · b [16, 16], `rows` a multiple of four: b stays in registers.
template <int kRows>
[[gnu::always_inline]] inline void product_16_rows(const float* a, const Vector (&b)[16],
                                                   float* c) {
  Vector sums[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sums[r] = splat(a[r * 16]) * b[0];
#pragma GCC unroll 16
  for (int k = 1; k < 16; ++k)
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[r] += splat(a[r * 16 + k]) * b[k];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) store(c + r * 16, sums[r]);
}

void product_16(Index rows, const float* a, const float* b, float* c) {
  Vector held[16];
  for (int k = 0; k < 16; ++k) held[k] = load(b + k * 16);
  Index r = 0;
  for (; r + 8 <= rows; r += 8) product_16_rows<8>(a + r * 16, held, c + r * 16);
  for (; r < rows; r += 4) product_16_rows<4>(a + r * 16, held, c + r * 16);
}
constexpr int kRows = 12, kGradRows = 8;
#else
constexpr int kRows = kLanes == 8 ? 6 : 4, kGradRows = 4;
#endif

// ---- weights

/// planes [36, in, out] of the windows of `weight`.
void transform_weights(const Problem& p, const float* weight, float* planes, Index plane) {
  const Index in = p.in, out = p.out;
  for (Index o = 0; o < out; o += kLanes) {
    for (Index i = 0; i < in; ++i) {
      alignas(Vector) float window[9][kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        const float* const from =
            weight + (p.flipped ? i * out + o + lane : (o + lane) * in + i) * 9;
        for (int place = 0; place < 9; ++place)
          window[p.flipped ? 8 - place : place][lane] = from[place];
      }
      float* const to = planes + i * out + o;
      transform<Window>([&](int y, int x) { return load(window[y * 3 + x]); },
                        [&](int y, int x, Vector v) { store(to + (y * 6 + x) * plane, v); });
    }
  }
}

/// dweight [out, in, 3, 3] from planes [36, in, out].
void weights_of_planes(const Problem& p, const float* planes, Index plane, bool add,
                       float* dweight) {
  const Index in = p.in, out = p.out;
  for (Index o = 0; o < out; o += kLanes) {
    for (Index i = 0; i < in; ++i) {
      const float* const from = planes + i * out + o;
      transform<WindowGrad>([&](int y, int x) { return load(from + (y * 6 + x) * plane); },
                            [&](int y, int x, Vector v) {
                              for (int lane = 0; lane < kLanes; ++lane) {
                                float& to = dweight[((o + lane) * in + i) * 9 + y * 3 + x];
                                to = add ? to + v[lane] : v[lane];
                              }
                            });
    }
  }
}

// ---- the two calls

/// Where the three sets of planes begin in the workspace.
struct Workspace {
  Index block, image_plane, result_plane, weight_plane;
  float *weights, *image, *result;

  Workspace(const Problem& p, std::byte* workspace)
      : block(detail::block(p)),
        image_plane(block * p.in + detail::kApart),
        result_plane(block * p.out + detail::kApart),
        weight_plane(p.in * p.out + detail::kApart),
        weights(reinterpret_cast<float*>(workspace)),
        image(weights + kPlanes * weight_plane),
        result(image + kPlanes * image_plane) {}
};

void forward(const Problem& p, const float* x, const float* weight, const float* bias, float* y,
             std::byte* workspace) {
  const Workspace w(p, workspace);
  transform_weights(p, weight, w.weights, w.weight_plane);
  const Strides strides{p.in, 1, p.out, p.out};
  for (Index begin = 0; begin < p.tiles(); begin += w.block) {
    const Index left = p.tiles() - begin, count = left < w.block ? left : w.block;
    into_planes<Image>(p, {x, p.height, p.width, p.in}, p.padding_h, p.padding_w, begin, count,
                       w.image, w.image_plane);
    const Index rows = (count + 3) / 4 * 4;  // what is made of the rows past the end is not read
    for (int i = 0; i < kPlanes; ++i) {
      const float* const a = w.image + i * w.image_plane;
      const float* const b = w.weights + i * w.weight_plane;
      float* const c = w.result + i * w.result_plane;
#if POOLGRAD_LANES == 16
      if (p.in == 16 && p.out == 16) {
        product_16(rows, a, b, c);
        continue;
      }
#endif
      product<kRows>(rows, p.out, a, b, c, strides, p.in, false);
    }
    out_of_planes(p, w.result, w.result_plane, begin, count, bias, y);
  }
}

void weights(const Problem& p, const float* x, const float* dy, bool add, float* dweight,
             std::byte* workspace) {
  const Workspace w(p, workspace);
  const Strides strides{1, p.in, p.out, p.out};
  for (Index begin = 0; begin < p.tiles(); begin += w.block) {
    const Index left = p.tiles() - begin, count = left < w.block ? left : w.block;
    into_planes<Image>(p, {x, p.height, p.width, p.in}, p.padding_h, p.padding_w, begin, count,
                       w.image, w.image_plane);
    into_planes<ResultGrad>(p, {dy, p.out_height(), p.out_width(), p.out}, 0, 0, begin, count,
                            w.result, w.result_plane);
    for (int i = 0; i < kPlanes; ++i) {
      product<kGradRows>(p.in, p.out, w.image + i * w.image_plane, w.result + i * w.result_plane,
                         w.weights + i * w.weight_plane, strides, count, begin > 0);
    }
  }
  weights_of_planes(p, w.weights, w.weight_plane, add, dweight);
}

}  // namespace
}  // namespace poolgrad::winograd
