// The runtime's calls behind our interfaces, each status checked.
#include "memory/cuda.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>

namespace poolgrad::memory {
namespace {

std::atomic<std::size_t> calls = 0;

cudaStream_t raw(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t raw_event(void* event) { return static_cast<cudaEvent_t>(event); }

// ---- streams

void* make_event(int device) {
  use_cuda(device);
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return event;
}

void free_event(void* event) noexcept { (void)cudaEventDestroy(raw_event(event)); }

void record(void* event, void* stream) {
  check_cuda(cudaEventRecord(raw_event(event), raw(stream)), "cudaEventRecord");
}

bool done(void* event) {
  const cudaError_t status = cudaEventQuery(raw_event(event));
  if (status == cudaErrorNotReady) return false;
  check_cuda(status, "cudaEventQuery");
  return true;
}

void await(void* event) {
  check_cuda(cudaEventSynchronize(raw_event(event)), "cudaEventSynchronize");
}

void make_wait(void* stream, void* event) {
  check_cuda(cudaStreamWaitEvent(raw(stream), raw_event(event), 0), "cudaStreamWaitEvent");
}

void enqueue(void* stream, void (*work)(void*), void* data) {
  check_cuda(cudaLaunchHostFunc(raw(stream), work, data), "cudaLaunchHostFunc");
}

void synchronize(void* stream) {
  check_cuda(cudaStreamSynchronize(raw(stream)), "cudaStreamSynchronize");
}

void copy(void* stream, void* to, const void* from, std::size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, raw(stream)), "cudaMemcpyAsync");
}

constexpr std::size_t kDevices = 64;

Resource* memory_of(int device) {
  static std::array<CudaResource, kDevices> all = []<std::size_t... i>(std::index_sequence<i...>) {
    return std::array<CudaResource, kDevices>{CudaResource(static_cast<int>(i))...};
  }
  (std::make_index_sequence<kDevices>());
  return &all[static_cast<std::size_t>(device)];
}

const StreamOps& ops_of(int device) {
  static const std::array<StreamOps, kDevices> all = [] {
    std::array<StreamOps, kDevices> made;
    for (std::size_t i = 0; i < made.size(); ++i)
      made[i] = {.name = "cuda",
                 .device = static_cast<int>(i),
                 .make_event = make_event,
                 .free_event = free_event,
                 .record = record,
                 .done = done,
                 .await = await,
                 .make_wait = make_wait,
                 .enqueue = enqueue,
                 .synchronize = synchronize,
                 .enter = use_cuda,
                 .copy = copy,
                 .memory = memory_of};
    return made;
  }();
  if (device < 0 || static_cast<std::size_t>(device) >= kDevices)
    throw CudaError("cuda: device " + std::to_string(device) + " is not in [0, 64)");
  return all[static_cast<std::size_t>(device)];
}

// ---- resources

/// The bytes, or OutOfMemory with what the device says it has.
void* taken(cudaError_t status, void* data, const char* call, int device, std::size_t bytes) {
  ++calls;
  if (status != cudaErrorMemoryAllocation) {
    check_cuda(status, call);
    return data;
  }
  (void)cudaGetLastError();  // as in check_cuda()
  std::size_t free = 0, all = 0;
  (void)cudaMemGetInfo(&free, &all);
  throw OutOfMemory("cuda:" + std::to_string(device) + ": " + call + " refused " +
                        std::to_string(bytes) + " bytes; " + std::to_string(free) + " of " +
                        std::to_string(all) + " are free; free memory or ask for less",
                    bytes, all - free, all);
}

/// Frees come from destructors, also once a kernel has broken the device or the runtime has been
/// shut down: that is no failure of theirs. An address that was never given out is.
void given(cudaError_t status, const char* call) {
  ++calls;
  if (status == cudaErrorInvalidValue) check_cuda(status, call);
  if (status != cudaSuccess) (void)cudaGetLastError();
}

cudaStream_t order_of(Stream stream, int device) {
  const bool ours = stream.ops != nullptr && stream.ops == &ops_of(device);
  return ours ? raw(stream.handle) : nullptr;
}

}  // namespace

void check_cuda(int status, const char* call) {
  const auto error = static_cast<cudaError_t>(status);
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // it would be found again by the next launch
  throw CudaError(std::string("cuda: ") + call + " failed: " + cudaGetErrorName(error) + ", " +
                  cudaGetErrorString(error));
}

void use_cuda(int device) { check_cuda(cudaSetDevice(device), "cudaSetDevice"); }

std::size_t cuda_memory_calls() { return calls; }

std::size_t cuda_used_bytes(int device) {
  use_cuda(device);
  std::size_t free = 0, all = 0;
  check_cuda(cudaMemGetInfo(&free, &all), "cudaMemGetInfo");
  return all - free;
}

int cuda_device_of(const void* data) {
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  const bool there =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return there ? attributes.device : -1;
}

Stream cuda_stream(void* stream, int device) { return {stream, &ops_of(device)}; }

CudaStream::CudaStream(int device) {
  use_cuda(device);
  cudaStream_t made = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  stream_ = cuda_stream(made, device);
}

CudaStream::~CudaStream() { (void)cudaStreamDestroy(raw(stream_.handle)); }

void* CudaResource::allocate_on(Stream, std::size_t bytes, std::size_t) {
  use_cuda(device_);  // addresses begin on 256 bytes at least, pages where they are large
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
  return taken(status, data, "cudaMalloc", device_, bytes);
}

void CudaResource::deallocate_on(Stream, void* data, std::size_t, std::size_t) {
  given(cudaFree(data), "cudaFree");
}

void* CudaAsyncResource::allocate_on(Stream stream, std::size_t bytes, std::size_t) {
  use_cuda(device_);
  void* data = nullptr;
  const std::size_t wanted = std::max<std::size_t>(bytes, 1);
  const cudaStream_t order = order_of(stream, device_);
  const cudaError_t status =
      pool_ == nullptr
          ? cudaMallocAsync(&data, wanted, order)
          : cudaMallocFromPoolAsync(&data, wanted, static_cast<cudaMemPool_t>(pool_), order);
  return taken(status, data, "cudaMallocAsync", device_, bytes);
}

void CudaAsyncResource::deallocate_on(Stream stream, void* data, std::size_t, std::size_t) {
  (void)cudaSetDevice(device_);  // whose default stream may be meant
  given(cudaFreeAsync(data, order_of(stream, device_)), "cudaFreeAsync");
}

CudaKeepingPool::CudaKeepingPool(int device) {
  use_cuda(device);
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;  // the only type: of device memory, too
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  check_cuda(cudaMemPoolCreate(&pool, &properties), "cudaMemPoolCreate");
  pool_ = pool;
  std::uint64_t all = UINT64_MAX;
  check_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all),
             "cudaMemPoolSetAttribute");
}

CudaKeepingPool::~CudaKeepingPool() { (void)cudaMemPoolDestroy(static_cast<cudaMemPool_t>(pool_)); }

void* PinnedResource::allocate_on(Stream, std::size_t bytes, std::size_t) {
  use_cuda(device_);
  void* data = nullptr;
  const cudaError_t status =
      cudaHostAlloc(&data, std::max<std::size_t>(bytes, 1), cudaHostAllocDefault);
  return taken(status, data, "cudaHostAlloc", device_, bytes);
}

void PinnedResource::deallocate_on(Stream, void* data, std::size_t, std::size_t) {
  given(cudaFreeHost(data), "cudaFreeHost");
}

}  // namespace poolgrad::memory

namespace mem = poolgrad::memory;

void* poolgrad_cuda_alloc(std::ptrdiff_t size, int device, void* stream) noexcept {
  try {
    mem::CudaAsyncResource resource(device);
    return resource.allocate_on(mem::cuda_stream(stream, device), static_cast<std::size_t>(size),
                                mem::kAlignment);
  } catch (...) {  // C has no other way to be told
    return nullptr;
  }
}

void poolgrad_cuda_free(void* data, std::ptrdiff_t size, int device, void* stream) noexcept {
  try {
    mem::CudaAsyncResource resource(device);
    resource.deallocate_on(mem::cuda_stream(stream, device), data, static_cast<std::size_t>(size),
                           mem::kAlignment);
  } catch (...) {
  }
}
