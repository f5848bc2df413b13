// The CUDA device: two streams, handles of cuBLASLt and cuDNN, steps as CUDA graphs.
#include "engine/cuda/launcher.h"

#include <new>

#include <nvtx3/nvToolsExt.h>

#include "engine/cuda/context.h"
#include "engine/cuda/cudnn_graph.h"
#include "engine/cuda/fault.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/libraries.h"
#include "engine/cuda/workspace.h"
#include "engine/launcher.h"

namespace poolgrad::cuda {
namespace {

using memory::check_cuda;

class CudaLauncher final : public Launcher {
 public:
  explicit CudaLauncher(const Device& device)
      : device_(device.index), work_(device_), copies_(device_), fault_(fault_memory_) {
    context_.fault = fault_.get();
    context_.tensor_float = device.tensor_float;
    check_cuda(
        cudaDeviceGetAttribute(&context_.multiprocessors, cudaDevAttrMultiProcessorCount, device_),
        "cudaDeviceGetAttribute");
    cublasLtHandle_t blas = nullptr;
    check_blas(cublasLtCreate(&blas), "cublasLtCreate");
    blas_.reset(blas);
    cudnnHandle_t networks = nullptr;
    check_networks(cudnnCreate(&networks), "cudnnCreate");
    networks_.reset(networks);
    check_networks(cudnnSetStream(networks, stream()), "cudnnSetStream");
    context_.blas = blas;
    context_.networks = networks;
  }
  ~CudaLauncher() override {
    (void)cudaStreamSynchronize(stream());  // what it uses goes now
    (void)cudaStreamSynchronize(static_cast<cudaStream_t>(copies().handle));
  }

  Kernel prepare(const OpDef& op, const Site& site) override {
    if (op.cuda == nullptr) throw DeviceError("no CUDA kernel in this build; use the CPU for it");
    memory::use_cuda(device_);
    Site here = site;
    here.context = &context_;
    Kernel kernel = with_aligned_workspace(op.cuda(here));
    kernel.run = [run = std::move(kernel.run), device = device_](const Args& a) {
      memory::use_cuda(device);
      run(a);
    };
    return kernel;
  }

  std::shared_ptr<memory::Resource> memory() override {
    return std::make_shared<memory::CudaResource>(device_);
  }
  std::shared_ptr<memory::Resource> pinned() override {
    return std::make_shared<memory::PinnedResource>(device_);
  }
  [[nodiscard]] std::size_t free_bytes() override {
    memory::use_cuda(device_);
    std::size_t free = 0, all = 0;
    check_cuda(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
    return free;
  }
  [[nodiscard]] memory::Stream work() const override { return work_.stream(); }
  [[nodiscard]] memory::Stream copies() const override { return copies_.stream(); }

  void copy(void* to, const void* from, std::size_t bytes, memory::Stream on) override {
    memory::use_cuda(device_);
    check_cuda(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(on.handle)),
        "cudaMemcpyAsync");
  }
  void fill(void* to, std::byte value, std::size_t bytes, memory::Stream on) override {
    memory::use_cuda(device_);
    check_cuda(cudaMemsetAsync(to, std::to_integer<int>(value), bytes,
                               static_cast<cudaStream_t>(on.handle)),
               "cudaMemsetAsync");
  }

  void begin_recording() override {
    memory::use_cuda(device_);
    check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
  }
  Recording end_recording() override {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(stream(), &graph), "cudaStreamEndCapture");
    cudaGraphExec_t made = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&made, graph, 0);
    (void)cudaGraphDestroy(graph);
    check_cuda(status, "cudaGraphInstantiate");
    return Recording(made,
                     [](void* e) { (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(e)); });
  }
  void replay(const Recording& recording) override {
    memory::use_cuda(device_);
    check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording.get()), stream()),
               "cudaGraphLaunch");
  }

  RangeName name_range(const std::string& name) override {
    return nvtxDomainRegisterStringA(domain_, name.c_str());
  }
  void begin_range(RangeName name) override {
    nvtxEventAttributes_t range{};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
    range.message.registered = static_cast<nvtxStringHandle_t>(const_cast<void*>(name));
    (void)nvtxDomainRangePushEx(domain_, &range);
  }
  void end_range() override { (void)nvtxDomainRangePop(domain_); }

  void check() override {
    if (!reported(*context_.fault)) return;
    work_.stream().synchronize();  // until all of it is written
    throw_fault(*context_.fault);
  }

 private:
  [[nodiscard]] cudaStream_t stream() const {
    return static_cast<cudaStream_t>(work_.stream().handle);
  }

  /// In pinned memory, where kernels reach it.
  class PinnedFault {
   public:
    explicit PinnedFault(memory::PinnedResource& memory)
        : memory_(memory), fault_(new (memory.allocate(sizeof(Fault), alignof(Fault))) Fault) {}
    PinnedFault(const PinnedFault&) = delete;
    PinnedFault& operator=(const PinnedFault&) = delete;
    ~PinnedFault() { memory_.deallocate(fault_, sizeof(Fault), alignof(Fault)); }
    [[nodiscard]] Fault* get() const { return fault_; }

   private:
    memory::PinnedResource& memory_;
    Fault* fault_;
  };

  int device_;
  nvtxDomainHandle_t domain_ = nvtxDomainCreateA("poolgrad");
  memory::CudaStream work_, copies_;
  memory::PinnedResource fault_memory_{device_};
  PinnedFault fault_;
  Owned<cublasLtHandle_t, cublasLtDestroy> blas_;
  Owned<cudnnHandle_t, cudnnDestroy> networks_;
  Context context_;
};

}  // namespace

void check_blas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(text(call, " failed: ", cublasLtGetStatusName(status)));
}

void check_launch(const char* op) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) check_cuda(status, text("the launch of ", op).c_str());
}

int device_count(std::string* why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  if (why != nullptr) {
    *why = status == cudaSuccess || status == cudaErrorNoDevice
               ? "the driver finds no GPU"
               : text("no usable NVIDIA driver (", cudaGetErrorName(status), ": ",
                      cudaGetErrorString(status), ")");
  }
  return 0;
}

namespace {

void check_index(int index) {
  std::string why;
  const int count = device_count(&why);
  if (count == 0)
    throw DeviceError(text("device: cuda:", index, " cannot be used: ", why, "; use the CPU"));
  if (index < 0 || index >= count)
    throw DeviceError(
        text("device: there is no cuda:", index, "; the last one is cuda:", count - 1));
}

}  // namespace

memory::Stream stream(std::uintptr_t number, int device) {
  check_index(device);
  return memory::cuda_stream(reinterpret_cast<void*>(number), device);
}

int device_of(const void* data) { return device_count() > 0 ? memory::cuda_device_of(data) : -1; }

std::shared_ptr<Launcher> launcher(const Device& device) {
  check_index(device.index);
  try {
    return std::make_shared<CudaLauncher>(device);
  } catch (const std::exception& error) {
    throw DeviceError(
        text("device: cuda:", device.index, " cannot be used: ", error.what(), "; use the CPU"));
  }
}

}  // namespace poolgrad::cuda
