// Products of plain matrices by Eigen, on the thread that calls and in workspace that the caller
// gives. Knows no tensors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace poolgrad {

/// c [m, n] = keep · c + factor · a [m, k] · b [k, n], all row-major. A transposed operand is
/// stored the other way round. Strides are values from one stored row to the next.
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  bool transpose_a = false, transpose_b = false;
  float keep = 0.0F, factor = 1.0F;
};

/// What a call needs to pack its operands; `workspace` begins on 64 bytes.
[[nodiscard]] std::size_t workspace_bytes(const Product& product);

using ProductCall = void (*)(const Product& product, const float* a, const float* b, float* c,
                             std::byte* workspace);

/// The copy for the widest instruction set of this build that the processor has.
[[nodiscard]] ProductCall product_call();

namespace detail {

/// How far operands are packed at a time: constants, so that sums are taken in the same order
/// whatever the caches of a machine are.
struct ProductBlocks {
  std::int64_t m, n, k;
  explicit ProductBlocks(const Product& product);
};

void product_baseline(const Product&, const float*, const float*, float*, std::byte*);
void product_v3(const Product&, const float*, const float*, float*, std::byte*);  // AVX2, FMA
void product_v4(const Product&, const float*, const float*, float*, std::byte*);  // AVX-512

}  // namespace detail
}  // namespace poolgrad
