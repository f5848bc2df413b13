// The body of product_baseline(), product_v3() and product_v4(): each file that includes it is
// compiled for one instruction set, and names its copy of Eigen differently. The linker keeps one
// copy of every inline function: without the names a processor could meet instructions it does not
// have. So nothing else may be included here whose functions might not be inlined.
#pragma once

#define EIGEN_DONT_PARALLELIZE
#define EIGEN_NO_DEBUG
#include <Eigen/Core>

#include "engine/backend/product.h"

namespace poolgrad::detail {
namespace {

/// The block sizes, and buffers that Eigen would else take from the heap.
struct Blocking : Eigen::internal::level3_blocking<float, float> {
  Blocking(const ProductBlocks& blocks, std::byte* workspace) {
    m_mc = blocks.n, m_nc = blocks.m, m_kc = blocks.k;  // Eigen computes the transposed product
    m_blockA = reinterpret_cast<float*>(workspace);
    m_blockB = m_blockA + (blocks.n * blocks.k + 15) / 16 * 16;
  }
};

template <int kLeft, int kRight>
void run(const Product& p, const float* a, const float* b, float* c, Blocking& blocking) {
  Eigen::internal::general_matrix_matrix_product<std::int64_t, float, kLeft, false, float, kRight,
                                                 false, Eigen::ColMajor, 1>::run(p.n, p.m, p.k, b,
                                                                                 p.b_stride, a,
                                                                                 p.a_stride, c, 1,
                                                                                 p.c_stride,
                                                                                 p.factor, blocking,
                                                                                 nullptr);
}

// Row-major c = a · b is column-major cᵀ = bᵀ · aᵀ on the same bytes.
inline void product_eigen(const Product& p, const float* a, const float* b, float* c,
                          std::byte* workspace) {
  using Eigen::ColMajor, Eigen::RowMajor;
  Blocking blocking(ProductBlocks(p), workspace);
  for (std::int64_t row = 0; row < p.m && p.keep != 1.0F; ++row) {
    float* to = c + row * p.c_stride;
    for (std::int64_t i = 0; i < p.n; ++i) to[i] = p.keep == 0.0F ? 0.0F : p.keep * to[i];
  }
  if (p.transpose_b) {
    if (p.transpose_a) run<RowMajor, RowMajor>(p, a, b, c, blocking);
    if (!p.transpose_a) run<RowMajor, ColMajor>(p, a, b, c, blocking);
  } else {
    if (p.transpose_a) run<ColMajor, RowMajor>(p, a, b, c, blocking);
    if (!p.transpose_a) run<ColMajor, ColMajor>(p, a, b, c, blocking);
  }
}

}  // namespace
}  // namespace poolgrad::detail
