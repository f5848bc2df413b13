// CUDA's memory and streams as ours: resources over cudaMalloc, cudaMallocAsync and pinned host
// memory, and streams with events. All but CudaError is in builds with CUDA only; nothing of its
// headers stands here.
#pragma once

#include <memory>

#include "memory/resource.h"

namespace poolgrad::memory {

/// A failed call: what() names it, its status and what CUDA says of that.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws CudaError where `status`, a cudaError_t, is not success. `call` is named in the message.
void check_cuda(int status, const char* call);

/// Makes `device` the one that this thread's calls are about. Throws CudaError.
void use_cuda(int device);

/// The GPU that an address belongs to, -1 for memory of the host.
[[nodiscard]] int cuda_device_of(const void* data);

/// Somebody's cudaStream_t of that device; nullptr and 0x1 are its legacy default stream, 0x2 is
/// the calling thread's.
[[nodiscard]] Stream cuda_stream(void* stream, int device);

/// A stream of its own, which waits for no other by itself.
class CudaStream {
 public:
  explicit CudaStream(int device);
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream();

  [[nodiscard]] Stream stream() const { return stream_; }

 private:
  Stream stream_;
};

/// cudaMalloc and cudaFree, which wait for the whole device: meant for arenas and slabs.
class CudaResource final : public Resource {
 public:
  explicit CudaResource(int device = 0) : device_(device) {}
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
  [[nodiscard]] Place place() const override { return {Space::cuda, device_}; }

 private:
  int device_;
};

/// cudaMallocAsync and cudaFreeAsync in the order of a stream, from a pool that the caller names (a
/// cudaMemPool_t, which must outlive this), or the device's own. Streams that are not CUDA's stand
/// for the legacy default stream.
class CudaAsyncResource final : public Resource {
 public:
  explicit CudaAsyncResource(int device = 0, void* pool = nullptr) : device_(device), pool_(pool) {}
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
  [[nodiscard]] Place place() const override { return {Space::cuda, device_}; }

 private:
  int device_;
  void* pool_;
};

/// A pool of the driver's, for CudaAsyncResource, which keeps what is freed. The device's own pool
/// gives it back to the system whenever somebody waits for the device.
class CudaKeepingPool {
 public:
  explicit CudaKeepingPool(int device = 0);
  CudaKeepingPool(const CudaKeepingPool&) = delete;
  CudaKeepingPool& operator=(const CudaKeepingPool&) = delete;
  ~CudaKeepingPool();

  [[nodiscard]] void* handle() const { return pool_; }  // a cudaMemPool_t

 private:
  void* pool_ = nullptr;
};

/// Host memory that stays where it is, so that copies from and to a device need not wait.
class PinnedResource final : public Resource {
 public:
  explicit PinnedResource(int device = 0) : device_(device) {}
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
  [[nodiscard]] Place place() const override { return {Space::pinned, device_}; }

 private:
  int device_;
};

/// How often these resources have asked the driver for memory or given some back, by the whole
/// process: in a planned step, never.
[[nodiscard]] std::size_t cuda_memory_calls();

/// Bytes of the device's memory that are in use, by all processes and by CUDA itself.
[[nodiscard]] std::size_t cuda_used_bytes(int device = 0);

}  // namespace poolgrad::memory

/// For torch.cuda.memory.CUDAPluggableAllocator and the like: bytes of `device` in the order of
/// `stream` (a cudaStream_t). nullptr when there are none.
extern "C" void* poolgrad_cuda_alloc(std::ptrdiff_t size, int device, void* stream) noexcept;
extern "C" void poolgrad_cuda_free(void* data, std::ptrdiff_t size, int device,
                                   void* stream) noexcept;
