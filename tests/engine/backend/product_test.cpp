// Eigen's product in the copy that this processor runs.
#include "engine/backend/product.h"

#include <cmath>

#include <doctest/doctest.h>

#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

struct Size {
  std::int64_t m, n, k;
};
// Around the blocks of 256 rows, 192 columns and 256 terms, and vectors.
const std::vector<Size> kSizes{{1, 1, 1},     {2, 3, 4},      {1, 50, 7},    {50, 1, 7},
                               {257, 193, 3}, {40, 400, 257}, {300, 30, 600}};

/// The largest gap to sums in f64, relative to the sum of absolute terms; NaN where `c` was written
/// between its rows.
double gap_of(const Product& p) {
  const auto a = testing::spread((p.transpose_a ? p.k : p.m) * p.a_stride, 1, 1e-3F);
  const auto b = testing::spread((p.transpose_b ? p.n : p.k) * p.b_stride, 2, 1e-3F);
  const auto before = testing::spread(p.m * p.c_stride, 3, 1e-3F);
  auto c = before;
  testing::Buffer workspace(workspace_bytes(p));
  product_call()(p, a.data(), b.data(), c.data(), workspace.data());
  const auto at = [](const std::vector<float>& matrix, bool transposed, std::int64_t stride,
                     std::int64_t row, std::int64_t column) -> double {
    return matrix[static_cast<std::size_t>(transposed ? column * stride + row
                                                      : row * stride + column)];
  };
  double gap = 0.0;
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.c_stride; ++j) {
      const auto place = static_cast<std::size_t>(i * p.c_stride + j);
      if (j >= p.n) {
        if (c[place] != before[place]) return NAN;
        continue;
      }
      double sum = p.keep * static_cast<double>(before[place]), size = 1.0 + std::abs(sum);
      for (std::int64_t l = 0; l < p.k; ++l) {
        const double term = p.factor * at(a, p.transpose_a, p.a_stride, i, l) *
                            at(b, p.transpose_b, p.b_stride, l, j);
        sum += term;
        size += std::abs(term);
      }
      gap = std::max(gap, std::abs(sum - c[place]) / size);
    }
  }
  return gap;
}

TEST_CASE("product: agrees with sums in f64 for all orders, strides and sizes around its blocks") {
  for (const Size& size : kSizes) {
    for (const int orders : {0, 1, 2, 3}) {
      for (const auto& [keep, factor] :
           std::vector<std::pair<float, float>>{{0.0F, 1.0F}, {1.0F, 1.0F}, {0.9F, -0.5F}}) {
        const bool left = (orders & 1) != 0, right = (orders & 2) != 0;
        const Product p{.m = size.m,
                        .n = size.n,
                        .k = size.k,
                        .a_stride = (left ? size.m : size.k) + 3,
                        .b_stride = (right ? size.k : size.n) + 2,
                        .c_stride = size.n + 1,
                        .transpose_a = left,
                        .transpose_b = right,
                        .keep = keep,
                        .factor = factor};
        CAPTURE(text(size.m, " x ", size.n, " x ", size.k, " ", left, right));
        CHECK(gap_of(p) < 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace poolgrad
