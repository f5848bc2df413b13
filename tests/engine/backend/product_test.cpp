// Eigen's product in every copy that this processor runs.
#include "engine/backend/product.h"

#include <cmath>

#include <doctest/doctest.h>

#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

struct Size {
  std::int64_t m, n, k;
};

TEST_CASE("product: agrees with sums in f64 for all orders, strides and sizes around its blocks") {
  for (const auto& [m, n, k] : std::vector<Size>{{1, 1, 1},
                                                 {2, 3, 4},
                                                 {1, 50, 7},
                                                 {50, 1, 7},
                                                 {257, 193, 3},
                                                 {40, 400, 257},
                                                 {300, 30, 600}}) {
    for (const int orders : {0, 1, 2, 3}) {
      for (const bool add : {false, true}) {
        const bool ta = (orders & 1) != 0, tb = (orders & 2) != 0;
        CAPTURE(text(m, " x ", n, " x ", k, " ", ta, tb, add));
        const Product p{.m = m,
                        .n = n,
                        .k = k,
                        .a_stride = (ta ? m : k) + 3,
                        .b_stride = (tb ? k : n) + 2,
                        .c_stride = n + 1,
                        .transpose_a = ta,
                        .transpose_b = tb,
                        .add = add};
        const auto a = testing::spread((ta ? k : m) * p.a_stride, 1, 1e-3F);
        const auto b = testing::spread((tb ? n : k) * p.b_stride, 2, 1e-3F);
        const auto before = testing::spread(m * p.c_stride, 3, 1e-3F);
        auto c = before;
        testing::Buffer workspace(workspace_bytes(p));
        product_call()(p, a.data(), b.data(), c.data(), workspace.data());
        double gap = 0.0;
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            const auto at = static_cast<std::size_t>(i * p.c_stride + j);
            double sum = add ? before[at] : 0.0, size = 1.0;
            for (std::int64_t l = 0; l < k; ++l) {
              const double term =
                  static_cast<double>(
                      a[static_cast<std::size_t>(ta ? l * p.a_stride + i : i * p.a_stride + l)]) *
                  b[static_cast<std::size_t>(tb ? j * p.b_stride + l : l * p.b_stride + j)];
              sum += term;
              size += std::abs(term);
            }
            gap = std::max(gap, std::abs(sum - c[at]) / size);
          }
          CHECK(c[static_cast<std::size_t>(i * p.c_stride + n)] ==
                before[static_cast<std::size_t>(i * p.c_stride + n)]);
        }
        CHECK(gap < 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace poolgrad
