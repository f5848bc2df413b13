// Which copy of the product runs, and how it is blocked; and the copy for any processor.
#include "engine/backend/product.h"

#include <algorithm>

#include "engine/backend/product_eigen.h"
#include "engine/backend/x86_level.h"

namespace poolgrad {
namespace detail {

ProductBlocks::ProductBlocks(const Product& product)
    : m(std::min<std::int64_t>(product.m, 256)),
      n(std::min<std::int64_t>(product.n, 192)),
      k(std::min<std::int64_t>(product.k, 256)) {}

void product_baseline(const Product& p, const float* a, const float* b, float* c,
                      std::byte* workspace) {
  product_eigen(p, a, b, c, workspace);
}

}  // namespace detail

std::size_t workspace_bytes(const Product& product) {
  const detail::ProductBlocks blocks(product);
  const std::int64_t left = (blocks.n * blocks.k + 15) / 16 * 16, right = blocks.m * blocks.k;
  return static_cast<std::size_t>(left + right) * sizeof(float);
}

ProductCall product_call() {
#ifdef POOLGRAD_X86_LEVELS
  if (x86_level() == 4) return detail::product_v4;
  if (x86_level() == 3) return detail::product_v3;
#endif
  return detail::product_baseline;
}

}  // namespace poolgrad
