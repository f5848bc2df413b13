// Both ways between CCCL's resources and ours, on host memory that claims to be a GPU's: no driver
// is asked.
#include "memory/cuda_mr.h"

#include <map>
#include <utility>

#include <doctest/doctest.h>

namespace poolgrad::memory {
namespace {

static_assert(cuda::mr::resource_with<MrResource, cuda::mr::device_accessible>);
#if CCCL_VERSION < 3001000
static_assert(cuda::mr::async_resource_with<MrResource, cuda::mr::device_accessible>);
#endif

/// Notes who was asked for what, by stream.
class Noting final : public Resource {
 public:
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes,
                                  std::size_t alignment) override {
    ++taken[stream.handle];
    return host_.allocate_on({}, bytes, alignment);
  }
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override {
    ++given[stream.handle];
    host_.deallocate_on({}, data, bytes, alignment);
  }
  [[nodiscard]] Place place() const override { return {Space::cuda, 0}; }

  std::map<void*, int> taken, given;

 private:
  HostResource host_;
};

const auto kStream = reinterpret_cast<cudaStream_t>(std::uintptr_t{0x4000});

TEST_CASE("cuda::mr: our resource is theirs, in the order of the stream that they name") {
  Noting noting;
  MrResource mr(noting);
  CHECK(mr == MrResource(noting));
  mr.deallocate_async(mr.allocate_async(1000, kStream), 1000, kStream);
  mr.deallocate(mr.allocate(1000, 64), 1000, 64);
  CHECK(noting.taken == std::map<void*, int>{{kStream, 1}, {cudaStreamLegacy, 1}});
  CHECK(noting.given == noting.taken);
  HostResource host;
  CHECK_THROWS_AS(MrResource{host}, std::invalid_argument);
}

TEST_CASE("cuda::mr: their resource is ours, and there and back again keeps streams") {
  Noting noting;
  FromMr back{MrResource(noting), 0};
  CHECK(back.place() == Place{Space::cuda, 0});
  const Stream stream = cuda_stream(kStream, 0);
  void* data = back.allocate_on(stream, 1 << 20, 256);
  CHECK(reinterpret_cast<std::uintptr_t>(data) % 256 == 0);
  back.deallocate_on(stream, data, 1 << 20, 256);
  data = back.allocate(64, 64);  // by std::pmr: no stream
  back.deallocate(data, 64, 64);
  CHECK(noting.taken == std::map<void*, int>{{kStream, 1}, {cudaStreamLegacy, 1}});
  CHECK(noting.given == noting.taken);
}

/// One that knows no streams.
struct Plain {
  Noting* noting;
  void* allocate(std::size_t bytes, std::size_t alignment) const {
    return noting->allocate(bytes, alignment);
  }
  void deallocate(void* data, std::size_t bytes, std::size_t alignment) const {
    noting->deallocate(data, bytes, alignment);
  }
  bool operator==(const Plain&) const = default;
};

TEST_CASE("cuda::mr: a resource without streams serves the default one") {
  Noting noting;
  FromMr plain{Plain{&noting}, 0};
  plain.deallocate(plain.allocate(64, 64), 64, 64);
  CHECK(noting.taken == std::map<void*, int>{{nullptr, 1}});
  CHECK(noting.given == noting.taken);
}

}  // namespace
}  // namespace poolgrad::memory
