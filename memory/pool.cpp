// Pool as a Resource. What it does is in pool_core.
#include "memory/pool.h"

#include "memory/pool_core.h"

namespace poolgrad::memory {

Pool::Pool(Resource& upstream, const PoolOptions& options)
    : core_(std::make_unique<PoolCore>(upstream, options)) {}

Pool::~Pool() = default;

void* Pool::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  return core_->allocate(stream, bytes, alignment);
}

void Pool::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t) {
  core_->deallocate(stream, data, bytes);
}

Place Pool::place() const { return core_->place(); }

PoolStatistics Pool::statistics() const { return core_->statistics(); }

std::size_t Pool::trim() { return core_->trim(); }

void Pool::forget(Stream stream) { core_->forget(stream); }

}  // namespace poolgrad::memory
