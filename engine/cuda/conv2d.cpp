// conv2d and both its gradients by cuDNN, channels-last throughout: weights, which are stored
// [o, i, kh, kw], are turned to [o, kh, kw, i] in the workspace and their gradient back. The
// algorithm is chosen once per site, among those that are deterministic and do not round to TF32
// unless asked to. Bias and ReLU are kernels of our own.
#include "engine/cuda/kernels.h"
#include "engine/cuda/libraries.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{256} << 20;

int small(std::int64_t extent) { return static_cast<int>(extent); }

/// What all three passes are made of. x, weight and y or their gradients.
class Convolution {
 public:
  Convolution(const Site& site, const Conv2d& s, const Shape& x, const Shape& weight,
              const Shape& y)
      : networks_(static_cast<cudnnHandle_t>(site.context->networks)),
        out_(weight[0]),
        in_(weight[1]),
        window_(weight[2] * weight[3]) {
    check_networks(cudnnCreateTensorDescriptor(&x_), "cudnnCreateTensorDescriptor");
    check_networks(cudnnCreateTensorDescriptor(&y_), "cudnnCreateTensorDescriptor");
    check_networks(cudnnCreateFilterDescriptor(&w_), "cudnnCreateFilterDescriptor");
    check_networks(cudnnCreateConvolutionDescriptor(&c_), "cudnnCreateConvolutionDescriptor");
    image(x_, x);
    image(y_, y);
    check_networks(
        cudnnSetFilter4dDescriptor(w_, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, small(weight[0]),
                                   small(weight[1]), small(weight[2]), small(weight[3])),
        "cudnnSetFilter4dDescriptor");
    check_networks(cudnnSetConvolution2dDescriptor(c_, s.padding[0], s.padding[1], s.stride[0],
                                                   s.stride[1], s.dilation[0], s.dilation[1],
                                                   CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                   "cudnnSetConvolution2dDescriptor");
    check_networks(cudnnSetConvolutionGroupCount(c_, s.groups), "cudnnSetConvolutionGroupCount");
    math_ = site.context->tensor_float ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
    check_networks(cudnnSetConvolutionMathType(c_, math_), "cudnnSetConvolutionMathType");
  }
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;
  ~Convolution() {
    (void)cudnnDestroyConvolutionDescriptor(c_);
    (void)cudnnDestroyFilterDescriptor(w_);
    (void)cudnnDestroyTensorDescriptor(y_);
    (void)cudnnDestroyTensorDescriptor(x_);
  }

  /// The first of the answers that may be taken; the fastest, as cuDNN expects.
  template <typename Perf, typename Ask>
  [[nodiscard]] Perf choose(const char* call, const Ask& ask) const {
    constexpr int kAnswers = 16;
    std::array<Perf, kAnswers> answers{};
    int count = 0;
    check_networks(ask(kAnswers, &count, answers.data()), call);
    for (int i = 0; i < count; ++i) {
      const Perf& perf = answers[static_cast<std::size_t>(i)];
      const bool exact = math_ != CUDNN_FMA_MATH || perf.mathType == CUDNN_FMA_MATH ||
                         perf.mathType == CUDNN_DEFAULT_MATH;
      if (perf.status == CUDNN_STATUS_SUCCESS && perf.determinism == CUDNN_DETERMINISTIC && exact &&
          perf.memory <= kMostWorkspace)
        return perf;
    }
    throw DeviceError(text(call, " has no deterministic algorithm within ", kMostWorkspace,
                           " bytes of workspace"));
  }

  /// Bytes of the turned weights, which stand first in the workspace.
  [[nodiscard]] std::size_t turned_bytes() const {
    return memory::aligned(static_cast<std::size_t>(out_ * in_ * window_) * sizeof(float), 256);
  }
  float* turned(const Queue& queue, const float* weight, const Args& a) const {
    auto* const to = reinterpret_cast<float*>(a.workspace());
    turn(queue, DType::f32, weight, to, out_, in_, window_);
    return to;
  }
  void turn_back(const Queue& queue, const Args& a, float* weight) const {
    turn(queue, DType::f32, a.workspace(), weight, out_, window_, in_);
  }

  [[nodiscard]] cudnnHandle_t networks() const { return networks_; }
  [[nodiscard]] cudnnTensorDescriptor_t x() const { return x_; }
  [[nodiscard]] cudnnTensorDescriptor_t y() const { return y_; }
  [[nodiscard]] cudnnFilterDescriptor_t w() const { return w_; }
  [[nodiscard]] cudnnConvolutionDescriptor_t c() const { return c_; }

 private:
  static void image(cudnnTensorDescriptor_t descriptor, const Shape& s) {
    check_networks(cudnnSetTensor4dDescriptor(descriptor, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT,
                                              small(s[0]), small(s[1]), small(s[2]), small(s[3])),
                   "cudnnSetTensor4dDescriptor");
  }

  cudnnHandle_t networks_;
  std::int64_t out_, in_, window_;
  cudnnMathType_t math_ = CUDNN_FMA_MATH;
  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;
  cudnnFilterDescriptor_t w_ = nullptr;
  cudnnConvolutionDescriptor_t c_ = nullptr;
};

constexpr float kOne = 1.0F, kZero = 0.0F;

std::int64_t pixels(const Shape& image) { return image.count() / image[1]; }

}  // namespace

Kernel conv2d(const Site& site) {
  const auto s = site.attributes.as<Conv2d>();
  const Shape &x = site.inputs[0].shape, &weight = site.inputs[1].shape, &y = site.outputs[0].shape;
  const auto conv = std::make_shared<const Convolution>(site, s, x, weight, y);
  const auto perf = conv->choose<cudnnConvolutionFwdAlgoPerf_t>(
      "cudnnGetConvolutionForwardAlgorithm_v7", [&](int most, int* count, auto* answers) {
        return cudnnGetConvolutionForwardAlgorithm_v7(conv->networks(), conv->x(), conv->w(),
                                                      conv->c(), conv->y(), most, count, answers);
      });
  return {[conv, perf, queue = Queue("conv2d", site), relu = s.relu,
           biased = site.inputs.size() == 3, count = pixels(y), channels = y[1]](const Args& a) {
            const float* w = conv->turned(queue, a.in<float>(1), a);
            check_networks(
                cudnnConvolutionForward(conv->networks(), &kOne, conv->x(), a.inputs[0], conv->w(),
                                        w, conv->c(), perf.algo, a.workspace(conv->turned_bytes()),
                                        perf.memory, &kZero, conv->y(), a.outputs[0]),
                "cudnnConvolutionForward");
            bias_relu(queue, DType::f32, biased ? a.in<float>(2) : nullptr, relu, a.outputs[0],
                      count, channels);
          },
          conv->turned_bytes() + perf.memory};
}

Kernel conv2d_data(const Site& site) {
  const auto s = site.attributes.as<settings::Conv2dGradient>().conv;
  const Shape &dy = site.inputs[0].shape, &weight = site.inputs[1].shape,
              &dx = site.outputs[0].shape;
  const auto conv = std::make_shared<const Convolution>(site, s, dx, weight, dy);
  const auto perf = conv->choose<cudnnConvolutionBwdDataAlgoPerf_t>(
      "cudnnGetConvolutionBackwardDataAlgorithm_v7", [&](int most, int* count, auto* answers) {
        return cudnnGetConvolutionBackwardDataAlgorithm_v7(
            conv->networks(), conv->w(), conv->y(), conv->c(), conv->x(), most, count, answers);
      });
  return {[conv, perf, queue = Queue("conv2d_data", site)](const Args& a) {
            const float* w = conv->turned(queue, a.in<float>(1), a);
            check_networks(cudnnConvolutionBackwardData(
                               conv->networks(), &kOne, conv->w(), w, conv->y(), a.inputs[0],
                               conv->c(), perf.algo, a.workspace(conv->turned_bytes()), perf.memory,
                               &kZero, conv->x(), a.outputs[0]),
                           "cudnnConvolutionBackwardData");
          },
          conv->turned_bytes() + perf.memory};
}

Kernel conv2d_weights(const Site& site) {
  const auto s = site.attributes.as<settings::Conv2dGradient>().conv;
  const Shape &x = site.inputs[0].shape, &dy = site.inputs[1].shape,
              &weight = site.outputs[0].shape;
  const auto conv = std::make_shared<const Convolution>(site, s, x, weight, dy);
  const auto perf = conv->choose<cudnnConvolutionBwdFilterAlgoPerf_t>(
      "cudnnGetConvolutionBackwardFilterAlgorithm_v7", [&](int most, int* count, auto* answers) {
        return cudnnGetConvolutionBackwardFilterAlgorithm_v7(
            conv->networks(), conv->x(), conv->y(), conv->c(), conv->w(), most, count, answers);
      });
  const bool biased = site.outputs.size() == 2;
  const std::size_t rest = std::max(perf.memory, biased ? bias_grad_bytes(pixels(dy), dy[1]) : 0);
  return {[conv, perf, queue = Queue("conv2d_weights", site), biased, count = pixels(dy),
           channels = dy[1]](const Args& a) {
            std::byte* const after = a.workspace(conv->turned_bytes());
            check_networks(
                cudnnConvolutionBackwardFilter(conv->networks(), &kOne, conv->x(), a.inputs[0],
                                               conv->y(), a.inputs[1], conv->c(), perf.algo, after,
                                               perf.memory, &kZero, conv->w(), a.workspace()),
                "cudnnConvolutionBackwardFilter");
            conv->turn_back(queue, a, a.out<float>(0));
            if (biased)
              bias_grad(queue, DType::f32, a.inputs[1], a.out<float>(1), count, channels, after);
          },
          conv->turned_bytes() + rest};
}

}  // namespace poolgrad::cuda
