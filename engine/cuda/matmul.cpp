// matmul by cuBLASLt, with bias and ReLU in its epilogue. The algorithm is chosen once per site,
// among those that add up in a fixed order, and so is its workspace.
#include "engine/cuda/kernels.h"
#include "engine/cuda/libraries.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;

/// Row-major matrices are, to cuBLASLt, column-major ones transposed. So right · left is asked for.
class Product {
 public:
  explicit Product(const Site& site) : blas_(static_cast<cublasLtHandle_t>(site.context->blas)) {
    const auto s = site.attributes.as<settings::Matmul>();
    biased_ = site.inputs.size() == 3 && s.biased;
    const std::int64_t m = site.outputs[0].shape[0], n = site.outputs[0].shape[1];
    const std::int64_t k = site.inputs[0].shape[s.transpose_left ? 0 : 1];
    const auto compute =
        site.context->tensor_float ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check_blas(cublasLtMatmulDescCreate(&product_, compute, CUDA_R_32F),
               "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_right ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_left ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(biased_, s.relu));
    right_ = s.transpose_right ? matrix(k, n) : matrix(n, k);
    left_ = s.transpose_left ? matrix(m, k) : matrix(k, m);
    result_ = matrix(n, m);
    choose();
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() {
    for (const cublasLtMatrixLayout_t layout : {left_, right_, result_})
      if (layout != nullptr) (void)cublasLtMatrixLayoutDestroy(layout);
    if (product_ != nullptr) (void)cublasLtMatmulDescDestroy(product_);
  }

  [[nodiscard]] std::size_t workspace_bytes() const { return chosen_.workspaceSize; }

  void run(const Args& a, cudaStream_t stream) {
    if (biased_) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.inputs[2]);
    const float one = 1.0F, zero = 0.0F;
    void* const workspace = workspace_bytes() > 0 ? a.workspace() : nullptr;
    check_blas(cublasLtMatmul(blas_, product_, &one, a.inputs[1], right_, a.inputs[0], left_, &zero,
                              a.outputs[0], result_, a.outputs[0], result_, &chosen_.algo,
                              workspace, workspace_bytes(), stream),
               "cublasLtMatmul");
  }

 private:
  static cublasLtEpilogue_t epilogue(bool bias, bool relu) {
    if (bias) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
  }

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_blas(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
  }

  /// Column-major and dense.
  static cublasLtMatrixLayout_t matrix(std::int64_t rows, std::int64_t columns) {
    cublasLtMatrixLayout_t layout = nullptr;
    check_blas(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(columns), rows),
               "cublasLtMatrixLayoutCreate");
    return layout;
  }

  void choose() {
    cublasLtMatmulPreference_t wishes = nullptr;
    check_blas(cublasLtMatmulPreferenceCreate(&wishes), "cublasLtMatmulPreferenceCreate");
    const auto wish = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      (void)cublasLtMatmulPreferenceSetAttribute(wishes, attribute, &value, sizeof value);
    };
    const auto aligned = static_cast<std::uint32_t>(memory::kAlignment);
    wish(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, aligned);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, aligned);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, aligned);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, aligned);
    // Not in place: there, whoever comes first adds first.
    wish(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        blas_, product_, right_, left_, result_, result_, wishes, 1, &chosen_, &found);
    (void)cublasLtMatmulPreferenceDestroy(wishes);
    check_blas(status, "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) throw DeviceError("cublasLtMatmulAlgoGetHeuristic found no algorithm");
  }

  cublasLtHandle_t blas_;
  bool biased_ = false;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t left_ = nullptr, right_ = nullptr, result_ = nullptr;
  cublasLtMatmulHeuristicResult_t chosen_{};
};

}  // namespace

Kernel matmul(const Site& site) {
  const auto product = std::make_shared<Product>(site);
  const auto stream = static_cast<cudaStream_t>(site.device.stream.handle);
  return {[product, stream](const Args& a) { product->run(a, stream); },
          product->workspace_bytes()};
}

}  // namespace poolgrad::cuda
