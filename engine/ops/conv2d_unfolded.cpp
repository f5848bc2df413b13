// conv2d by products: the windows of some output rows are unfolded into a matrix of workspace, one
// row per output place, and multiplied with the weights. Channels-last, any stride, padding,
// dilation, groups.
#include <algorithm>
#include <cstring>

#include "engine/backend/loops.h"
#include "engine/backend/product.h"
#include "engine/ops/conv2d.h"
#include "memory/alignment.h"

namespace poolgrad::convolution {
namespace {

constexpr std::int64_t kBlockBytes = 256 << 10;  // of unfolded windows at a time: half a small L2

/// Plain numbers, as loops want them. `k` are the values of a window of one group.
struct Extents {
  std::int64_t n, c, h, w, o, oh, ow, groups, ig, og, kh, kw, k;
  std::int64_t stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  std::int64_t block;  // output rows that are unfolded at a time; an image may begin within
  bool direct;         // a window is one place of x: nothing to unfold

  explicit Extents(const Problem& p)
      : n(p.x.shape[0]),
        c(p.x.shape[1]),
        h(p.x.shape[2]),
        w(p.x.shape[3]),
        o(p.y.shape[1]),
        oh(p.y.shape[2]),
        ow(p.y.shape[3]),
        groups(p.groups()),
        ig(p.in_channels()),
        og(p.out_channels()),
        kh(p.weight.shape[2]),
        kw(p.weight.shape[3]),
        k(kh * kw * ig),
        stride_h(p.settings.stride[0]),
        stride_w(p.settings.stride[1]),
        padding_h(p.settings.padding[0]),
        padding_w(p.settings.padding[1]),
        dilation_h(p.settings.dilation[0]),
        dilation_w(p.settings.dilation[1]) {
    const std::int64_t row_bytes = ow * k * static_cast<std::int64_t>(sizeof(float));
    block = std::clamp<std::int64_t>(kBlockBytes / row_bytes, 1, n * oh);
    direct = k == ig && oh == h && ow == w && stride_h == 1 && stride_w == 1;
  }
  [[nodiscard]] std::size_t columns_bytes() const {
    if (direct) return 0;
    return memory::aligned(static_cast<std::size_t>(block * ow * k) * sizeof(float));
  }
  [[nodiscard]] std::size_t weight_bytes() const {
    return memory::aligned(static_cast<std::size_t>(o * k) * sizeof(float));
  }
};

/// Calls f(place in x or -1 where it is padding, place in a row of the matrix) for each kernel
/// place of the window at output place (y, x), in channels of an image.
template <typename F>
[[gnu::always_inline]] inline void each_place(const Extents& e, std::int64_t y, std::int64_t x,
                                              F f) {
  for (std::int64_t i = 0; i < e.kh; ++i) {
    const std::int64_t row = y * e.stride_h - e.padding_h + i * e.dilation_h;
    for (std::int64_t j = 0; j < e.kw; ++j) {
      const std::int64_t column = x * e.stride_w - e.padding_w + j * e.dilation_w;
      const bool inside = row >= 0 && row < e.h && column >= 0 && column < e.w;
      f(inside ? (row * e.w + column) * e.c : -1, (i * e.kw + j) * e.ig);
    }
  }
}

/// columns [rows · ow, k] = the windows of group `group` at output rows [begin, end) of the whole
/// batch.
void unfold(const Extents& e, std::int64_t begin, std::int64_t end, std::int64_t group,
            const float* x, float* columns) {
  const auto bytes = static_cast<std::size_t>(e.ig) * sizeof(float);
  for (std::int64_t row = begin; row < end; ++row) {
    const float* image = x + row / e.oh * e.h * e.w * e.c + group * e.ig;
    for (std::int64_t column = 0; column < e.ow; ++column, columns += e.k) {
      each_place(e, row % e.oh, column, [&](std::int64_t from, std::int64_t to) {
        if (from < 0) {
          std::memset(columns + to, 0, bytes);
        } else {
          std::memcpy(columns + to, image + from, bytes);
        }
      });
    }
  }
}

/// dx += columns, each value where it came from. dx is not read before it is written elsewhere.
POOLGRAD_CLONES
void fold(const Extents& e, std::int64_t begin, std::int64_t end, std::int64_t group,
          const float* columns, float* dx) {
  for (std::int64_t row = begin; row < end; ++row) {
    float* image = dx + row / e.oh * e.h * e.w * e.c + group * e.ig;
    for (std::int64_t column = 0; column < e.ow; ++column, columns += e.k) {
      each_place(e, row % e.oh, column, [&](std::int64_t to, std::int64_t from) {
        for (std::int64_t i = 0; to >= 0 && i < e.ig; ++i) image[to + i] += columns[from + i];
      });
    }
  }
}

/// to [o, kh, kw, ig] = from [o, ig, kh, kw]: the order of a window.
void pack(const Extents& e, const float* from, float* to) {
  const std::int64_t places = e.kh * e.kw;
  for (std::int64_t o = 0; o < e.o; ++o, from += e.k) {
    for (std::int64_t place = 0; place < places; ++place) {
      for (std::int64_t i = 0; i < e.ig; ++i) *to++ = from[i * places + place];
    }
  }
}

/// The way back; with `add`, to what is there.
void unpack(const Extents& e, const float* from, bool add, float* to) {
  const std::int64_t places = e.kh * e.kw;
  for (std::int64_t o = 0; o < e.o; ++o, to += e.k) {
    for (std::int64_t place = 0; place < places; ++place) {
      for (std::int64_t i = 0; i < e.ig; ++i, ++from) {
        float& at = to[i * places + place];
        at = add ? at + *from : *from;
      }
    }
  }
}

/// Calls f(begin, end, group, places) for blocks of output rows.
template <typename F>
void each_block(const Extents& e, F f) {
  for (std::int64_t begin = 0; begin < e.n * e.oh; begin += e.block) {
    const std::int64_t end = std::min(begin + e.block, e.n * e.oh);
    for (std::int64_t group = 0; group < e.groups; ++group)
      f(begin, end, group, (end - begin) * e.ow);
  }
}

/// The unfolded windows of a block, or x itself where these are the same.
struct Columns {
  const float* data;
  std::int64_t stride;
};
Columns columns_of(const Extents& e, std::int64_t begin, std::int64_t end, std::int64_t group,
                   const float* x, float* workspace) {
  if (e.direct) return {x + begin * e.ow * e.c + group * e.ig, e.c};
  unfold(e, begin, end, group, x, workspace);
  return {workspace, e.k};
}

/// The largest workspace of the products of a block.
std::size_t product_bytes(const Extents& e, Product product) {
  const std::int64_t places = e.block * e.ow;
  if (product.m == 0) product.m = places;
  if (product.k == 0) product.k = places;
  return workspace_bytes(product);
}

}  // namespace

Kernel forward_unfolded(const Problem& problem) {
  const Extents e(problem);
  Product product{.n = e.og, .k = e.k, .b_stride = e.k, .c_stride = e.o, .transpose_b = true};
  const std::size_t columns_at = e.weight_bytes(), scratch_at = columns_at + e.columns_bytes();
  return {
      [=, call = product_call(), bias = problem.bias, relu = problem.settings.relu](const Args& a) {
        auto* weight = reinterpret_cast<float*>(a.workspace());
        pack(e, a.in<float>(1), weight);
        each_block(e, [&](auto begin, auto end, auto group, auto places) {
          const Columns columns = columns_of(e, begin, end, group, a.in<float>(0),
                                             reinterpret_cast<float*>(a.workspace(columns_at)));
          Product part = product;
          part.m = places, part.a_stride = columns.stride;
          call(part, columns.data, weight + group * e.og * e.k,
               a.out<float>() + begin * e.ow * e.o + group * e.og, a.workspace(scratch_at));
        });
        loops::bias_relu(bias ? a.in<float>(2) : nullptr, relu, a.out<float>(), e.n * e.oh * e.ow,
                         e.o);
      },
      scratch_at + product_bytes(e, product)};
}

Kernel data_unfolded(const Problem& problem) {
  const Extents e(problem);
  Product product{.n = e.k, .k = e.og, .a_stride = e.o, .b_stride = e.k, .c_stride = e.k};
  if (e.direct) product.c_stride = e.c;
  const std::size_t columns_at = e.weight_bytes(), scratch_at = columns_at + e.columns_bytes();
  return {[=, call = product_call()](const Args& a) {
            auto* weight = reinterpret_cast<float*>(a.workspace());
            pack(e, a.in<float>(1), weight);
            float* dx = a.out<float>();
            if (!e.direct) std::fill_n(dx, e.n * e.h * e.w * e.c, 0.0F);
            each_block(e, [&](auto begin, auto end, auto group, auto places) {
              float* columns = e.direct ? dx + begin * e.ow * e.c + group * e.ig
                                        : reinterpret_cast<float*>(a.workspace(columns_at));
              Product part = product;
              part.m = places;
              call(part, a.in<float>(0) + begin * e.ow * e.o + group * e.og,
                   weight + group * e.og * e.k, columns, a.workspace(scratch_at));
              if (!e.direct) fold(e, begin, end, group, columns, dx);
            });
          },
          scratch_at + product_bytes(e, product)};
}

Kernel weights_unfolded(const Problem& problem, bool add) {
  const Extents e(problem);
  Product product{
      .m = e.og, .n = e.k, .a_stride = e.o, .c_stride = e.k, .transpose_a = true, .keep = 1.0F};
  const std::size_t columns_at = e.weight_bytes(), scratch_at = columns_at + e.columns_bytes();
  const int x = !add ? 0 : problem.bias ? 2 : 1;
  return {[=, call = product_call(), bias = problem.bias](const Args& a) {
            auto* weight = reinterpret_cast<float*>(a.workspace());
            const float* dy = a.in<float>(x + 1);
            std::fill_n(weight, e.o * e.k, 0.0F);
            each_block(e, [&](auto begin, auto end, auto group, auto places) {
              const Columns columns = columns_of(e, begin, end, group, a.in<float>(x),
                                                 reinterpret_cast<float*>(a.workspace(columns_at)));
              Product part = product;
              part.k = places, part.b_stride = columns.stride;
              call(part, dy + begin * e.ow * e.o + group * e.og, columns.data,
                   weight + group * e.og * e.k, a.workspace(scratch_at));
            });
            unpack(e, weight, add, a.out<float>());
            if (bias) loops::sum_rows(dy, e.n * e.oh * e.ow, e.o, e.o, add, a.out<float>(1));
          },
          scratch_at + product_bytes(e, product)};
}

}  // namespace poolgrad::convolution
