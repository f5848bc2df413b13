// matmul by cuBLASLt, with bias and ReLU in its epilogue. The algorithm is chosen once per site,
// among those that add up in a fixed order, and so is its workspace.
#include <array>
#include <optional>

#include "engine/cuda/context.h"
#include "engine/cuda/helpers.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/libraries.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;

using MatrixLayout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      throw DeviceError(text("cuBLASLt's products take no ", dtype, "; cast it to float32 first"));
  }
}

/// As it is stored: column-major, to cuBLASLt, and so transposed.
MatrixLayout layout_of(const Spec& matrix) {
  const std::int64_t rows = matrix.shape[0], columns = matrix.shape[1];
  cublasLtMatrixLayout_t layout = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(
                 &layout, type_of(matrix.dtype), static_cast<std::uint64_t>(columns),
                 static_cast<std::uint64_t>(rows), matrix.pitch > 0 ? matrix.pitch : columns),
             "cublasLtMatrixLayoutCreate");
  return MatrixLayout(layout);
}

cublasLtEpilogue_t epilogue_of(bool bias, bool relu) {
  if (bias) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

/// One partial sum, or several that are added up apart and in f32. In place, whoever comes first
/// adds first.
bool keeps_order(const cublasLtMatmulAlgo_t& algo) {
  std::uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  std::size_t written = 0;
  check_blas(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                  &scheme, sizeof scheme, &written),
             "cublasLtMatmulAlgoConfigGetAttribute");
  return scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
         scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

/// Right · left is asked for, as all matrices are transposed.
class Product {
 public:
  Product(const Site& site, bool bias, bool relu)
      : blas_(static_cast<cublasLtHandle_t>(site.context->blas)),
        left_(layout_of(site.inputs[0])),
        right_(layout_of(site.inputs[1])),
        result_(layout_of(site.outputs[0])) {
    const auto s = site.attributes.as<settings::Matmul>();
    const bool rounded = site.inputs[0].dtype == DType::f32 && site.context->tensor_float;
    cublasLtMatmulDesc_t product = nullptr;
    check_blas(
        cublasLtMatmulDescCreate(
            &product, rounded ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
    product_.reset(product);
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_right ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_left ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(bias, relu));
    if (bias) {  // not read now, but as well aligned as those to come
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void*>(site.alignment));
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(site.outputs[0].dtype));
    }
    choose(static_cast<std::uint32_t>(site.alignment));
  }

  /// Whether there is an algorithm for all of it.
  explicit operator bool() const { return chosen_.has_value(); }
  [[nodiscard]] std::size_t workspace_bytes() const { return chosen_->workspaceSize; }

  /// Bias: of the result's dtype, where there is one.
  void run(const Args& a, const void* bias, cudaStream_t stream) const {
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const float one = 1.0F, zero = 0.0F;
    void* const workspace = workspace_bytes() > 0 ? a.workspace() : nullptr;
    check_blas(cublasLtMatmul(blas_, product_.get(), &one, a.inputs[1], right_.get(), a.inputs[0],
                              left_.get(), &zero, a.outputs[0], result_.get(), a.outputs[0],
                              result_.get(), &chosen_->algo, workspace, workspace_bytes(), stream),
               "cublasLtMatmul");
  }

 private:
  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    check_blas(cublasLtMatmulDescSetAttribute(product_.get(), attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
  }

  /// The first answer that may be taken; the fastest, as cuBLASLt expects.
  void choose(std::uint32_t alignment) {
    cublasLtMatmulPreference_t made = nullptr;
    check_blas(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
    const Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> wishes(made);
    const auto wish = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check_blas(
          cublasLtMatmulPreferenceSetAttribute(wishes.get(), attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
    };
    wish(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kMostWorkspace});
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
    wish(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
    wish(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    constexpr int kAnswers = 8;
    std::array<cublasLtMatmulHeuristicResult_t, kAnswers> answers{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        blas_, product_.get(), right_.get(), left_.get(), result_.get(), result_.get(),
        wishes.get(), kAnswers, answers.data(), &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
    check_blas(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < found && !chosen_; ++i) {
      const auto& answer = answers[static_cast<std::size_t>(i)];
      if (answer.state == CUBLAS_STATUS_SUCCESS && answer.workspaceSize <= kMostWorkspace &&
          keeps_order(answer.algo))
        chosen_ = answer;
    }
  }

  cublasLtHandle_t blas_;
  MatrixLayout left_, right_, result_;
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> product_;
  std::optional<cublasLtMatmulHeuristicResult_t> chosen_;
};

}  // namespace

Kernel matmul(const Site& site) {
  const auto s = site.attributes.as<settings::Matmul>();
  const Spec &left = site.inputs[0], &right = site.inputs[1], &result = site.outputs[0];
  if (left.dtype != right.dtype)
    throw DeviceError(
        text("cuBLASLt multiplies no ", left.dtype, " with ", right.dtype, "; cast one of them"));
  const bool biased = site.inputs.size() == 3 && s.biased;
  const DType bias_type = biased ? site.inputs[2].dtype : result.dtype;
  bool fused = true;
  auto product = std::make_shared<const Product>(site, biased, s.relu);
  if (!*product && (biased || s.relu)) {
    fused = false;
    product = std::make_shared<const Product>(site, false, false);
  }
  if (!*product)
    throw DeviceError(text("cuBLASLt has no algorithm for it that adds up in a fixed order within ",
                           kMostWorkspace, " bytes of workspace"));
  // The epilogue takes a bias of the result's dtype only: another one is converted.
  const bool converts = fused && bias_type != result.dtype;
  const std::size_t offset = memory::aligned(product->workspace_bytes(), kWorkspaceAlignment);
  const std::int64_t rows = result.shape[0], columns = result.shape[1];
  const std::size_t bytes = converts
                                ? offset + static_cast<std::size_t>(columns) * size_of(result.dtype)
                                : product->workspace_bytes();
  return {[=, queue = Queue("matmul", site), relu = s.relu, type = result.dtype,
           stream = static_cast<cudaStream_t>(site.device.stream.handle)](const Args& a) {
            const void* bias = biased ? a.inputs[2] : nullptr;
            if (converts) {
              turn(queue, {bias, bias_type}, {a.workspace(offset), type}, 1, 1, columns);
              bias = a.workspace(offset);
            }
            product->run(a, fused ? bias : nullptr, stream);
            if (!fused)
              bias_relu(queue, {bias, bias_type}, relu, {a.outputs[0], type}, rows, columns);
          },
          bytes};
}

}  // namespace poolgrad::cuda
