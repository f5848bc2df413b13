// The product for x86-64-v3. CMake gives this file its instruction set.
#define Eigen Eigen_v3
#include "engine/backend/product_eigen.h"

namespace poolgrad::detail {

void product_v3(const Product& p, const float* a, const float* b, float* c, std::byte* workspace) {
  product_eigen(p, a, b, c, workspace);
}

}  // namespace poolgrad::detail
