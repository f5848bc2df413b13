// CCCL's cuda::mr (RMM's resources are such, too) and ours, either as the other. Whoever includes
// this has CCCL's headers on the path, those of CUDA 13.0 or later; nothing else here includes it.
#pragma once

#ifndef LIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE  // until CCCL 3.1
#define LIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE
#endif

#include <stdexcept>
#include <utility>

#include <cuda/memory_resource>
#include <cuda/stream_ref>

#include "memory/cuda.h"

namespace poolgrad::memory {

/// One of our resources of a GPU's memory as a cuda::mr resource, with the functions' names of CCCL
/// 3.0 and those since. Copies are the same resource. What is taken or given back without a stream
/// is so in the order of the legacy default stream.
class MrResource {
 public:
  static constexpr std::size_t kUsualAlignment = 256;

  /// `resource` outlives this and its copies. Throws std::invalid_argument unless it is of a GPU's
  /// memory.
  explicit MrResource(Resource& resource) : resource_(&resource) {
    if (resource.place().space != Space::cuda)
      throw std::invalid_argument("MrResource: the resource is not of a GPU's memory");
  }

  [[nodiscard]] void* allocate(cuda::stream_ref stream, std::size_t bytes,
                               std::size_t alignment = kUsualAlignment) {
    return resource_->allocate_on(ours(stream), bytes, alignment);
  }
  void deallocate(cuda::stream_ref stream, void* data, std::size_t bytes,
                  std::size_t alignment = kUsualAlignment) noexcept {
    resource_->deallocate_on(ours(stream), data, bytes, alignment);
  }
  [[nodiscard]] void* allocate_sync(std::size_t bytes, std::size_t alignment = kUsualAlignment) {
    return allocate(legacy(), bytes, alignment);
  }
  void deallocate_sync(void* data, std::size_t bytes,
                       std::size_t alignment = kUsualAlignment) noexcept {
    deallocate(legacy(), data, bytes, alignment);
  }

  [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = kUsualAlignment) {
    return allocate_sync(bytes, alignment);
  }
  void deallocate(void* data, std::size_t bytes, std::size_t alignment = kUsualAlignment) noexcept {
    deallocate_sync(data, bytes, alignment);
  }
  [[nodiscard]] void* allocate_async(std::size_t bytes, std::size_t alignment,
                                     cuda::stream_ref stream) {
    return allocate(stream, bytes, alignment);
  }
  [[nodiscard]] void* allocate_async(std::size_t bytes, cuda::stream_ref stream) {
    return allocate(stream, bytes);
  }
  void deallocate_async(void* data, std::size_t bytes, std::size_t alignment,
                        cuda::stream_ref stream) noexcept {
    deallocate(stream, data, bytes, alignment);
  }
  void deallocate_async(void* data, std::size_t bytes, cuda::stream_ref stream) noexcept {
    deallocate(stream, data, bytes);
  }

  bool operator==(const MrResource&) const = default;
  friend void get_property(const MrResource&, cuda::mr::device_accessible) noexcept {}

 private:
  static cuda::stream_ref legacy() { return cuda::stream_ref(cudaStreamLegacy); }
  [[nodiscard]] Stream ours(cuda::stream_ref stream) const {
    return cuda_stream(stream.get(), resource_->place().index);
  }

  Resource* resource_;
};

/// A cuda::mr resource of the memory of one GPU as one of ours: RMM can own an arena so. Streams
/// that are not CUDA's stand for the legacy default stream.
template <typename Mr>
class FromMr final : public Resource {
 public:
  explicit FromMr(Mr resource, int device = 0) : resource_(std::move(resource)), device_(device) {}

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes,
                                  std::size_t alignment) override {
    if constexpr (requires { resource_.allocate_async(bytes, alignment, theirs(stream)); }) {
      return resource_.allocate_async(bytes, alignment, theirs(stream));
    } else if constexpr (requires { resource_.allocate(theirs(stream), bytes, alignment); }) {
      return resource_.allocate(theirs(stream), bytes, alignment);
    } else {
      return resource_.allocate(bytes, alignment);
    }
  }
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override {
    if constexpr (requires { resource_.allocate_async(bytes, alignment, theirs(stream)); }) {
      resource_.deallocate_async(data, bytes, alignment, theirs(stream));
    } else if constexpr (requires { resource_.allocate(theirs(stream), bytes, alignment); }) {
      resource_.deallocate(theirs(stream), data, bytes, alignment);
    } else {
      stream.synchronize();  // whoever is given the bytes next does not wait
      resource_.deallocate(data, bytes, alignment);
    }
  }
  [[nodiscard]] Place place() const override { return {Space::cuda, device_}; }

 private:
  [[nodiscard]] cuda::stream_ref theirs(Stream stream) const {
    const bool cudas = stream.ops != nullptr && stream.ops == cuda_stream(nullptr, device_).ops;
    return cuda::stream_ref(cudas && stream.handle != nullptr
                                ? static_cast<cudaStream_t>(stream.handle)
                                : cudaStreamLegacy);
  }

  Mr resource_;
  int device_;
};

}  // namespace poolgrad::memory
