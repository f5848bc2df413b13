// Takes the block, guards its end, and finds the last byte that changed.
#include "memory/arena.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kPage = 4096;

void check_guard(Place place, std::size_t guard_bytes) {
  if (guard_bytes == 0 || place.space != Space::cuda) return;
  throw std::invalid_argument("arena: " + std::to_string(guard_bytes) +
                              " guard bytes asked for in cuda memory; only host memory has them");
}

std::size_t with_guard(std::size_t bytes, std::size_t guard_bytes) {
  if (bytes + guard_bytes >= bytes) return bytes + guard_bytes;
  throw OutOfMemory("arena: " + std::to_string(bytes) + " bytes and a guard of " +
                        std::to_string(guard_bytes) + " are more than can be addressed",
                    bytes);
}

/// One past the last byte of [begin, end) that is not `pattern`; `begin` when all are. Blocks are
/// compared with a block of the pattern, so this runs at the speed of memcmp.
const std::byte* end_of_changes(const std::byte* begin, const std::byte* end, std::byte pattern) {
  std::array<std::byte, 4096> same{};
  same.fill(pattern);
  while (begin < end) {
    const auto size = std::min(same.size(), static_cast<std::size_t>(end - begin));
    if (std::memcmp(end - size, same.data(), size) != 0) break;
    end -= size;
  }
  while (begin < end && end[-1] == pattern) --end;
  return end;
}

}  // namespace

Arena::Arena(Resource& resource, std::size_t bytes, std::size_t guard_bytes)
    : Arena(std::shared_ptr<Resource>(std::shared_ptr<void>{}, &resource), bytes, guard_bytes) {}

Arena::Arena(std::shared_ptr<Resource> resource, std::size_t bytes, std::size_t guard_bytes)
    : resource_(resource.get()),
      bytes_(bytes),
      guard_bytes_(guard_bytes),
      place_(resource_->place()) {
  check_guard(place_, guard_bytes_);
  data_ = static_cast<std::byte*>(resource_->allocate(with_guard(bytes, guard_bytes), kPage));
  owner_ = std::move(resource);
  guard();
}

Arena::Arena(std::span<std::byte> block, std::shared_ptr<void> owner, Place place,
             std::size_t guard_bytes)
    : owner_(std::move(owner)), data_(block.data()), guard_bytes_(guard_bytes), place_(place) {
  check_guard(place_, guard_bytes_);
  if (reinterpret_cast<std::uintptr_t>(data_) % kAlignment != 0) {
    throw std::invalid_argument(
        "arena: the block begins " +
        std::to_string(reinterpret_cast<std::uintptr_t>(data_) % kAlignment) +
        " bytes behind a multiple of " + std::to_string(kAlignment) + "; allocate it on " +
        std::to_string(kAlignment) + " bytes");
  }
  if (block.size() < guard_bytes) {
    throw std::invalid_argument("arena: the block of " + std::to_string(block.size()) +
                                " bytes is smaller than its guard of " +
                                std::to_string(guard_bytes) + "; lend a larger block");
  }
  bytes_ = block.size() - guard_bytes;
  guard();
}

Arena::~Arena() {
  if (resource_ != nullptr) resource_->deallocate(data_, bytes_ + guard_bytes_, kPage);
}

void Arena::guard() {
  if (guard_bytes_ > 0) std::fill_n(data_ + bytes_, guard_bytes_, kGuardPattern);
}

bool Arena::guards_intact() const {
  const std::byte* const begin = data_ + bytes_;
  return end_of_changes(begin, begin + guard_bytes_, kGuardPattern) == begin;
}

void Arena::fill(std::size_t from, std::byte pattern) {
  assert(from <= bytes_ && place_.space != Space::cuda);
  std::fill(data_ + from, data_ + bytes_, pattern);
}

std::optional<std::size_t> Arena::highest_changed(std::size_t from, std::byte pattern) const {
  assert(from <= bytes_ && place_.space != Space::cuda);
  const std::byte* const end = end_of_changes(data_ + from, data_ + bytes_, pattern);
  if (end == data_ + from) return std::nullopt;
  return static_cast<std::size_t>(end - data_) - 1;
}

}  // namespace poolgrad::memory
