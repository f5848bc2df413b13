// Arena: one block taken once, or lent by the caller. Users hold it by std::shared_ptr, and whoever
// exports a slice shares in it; what lies where in the block is the plan's business, not the
// arena's.
#pragma once

#include <cassert>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "memory/alignment.h"
#include "memory/resource.h"

namespace poolgrad::memory {

class Arena {
 public:
  static constexpr std::byte kGuardPattern{0xfd};
  static constexpr std::byte kFillPattern{0xa5};

  /// Takes `bytes` and, behind them, `guard_bytes` from `resource`, which must outlive the arena.
  /// Begins on a page. Throws what the resource throws, and std::invalid_argument for guard bytes
  /// outside host memory.
  Arena(Resource& resource, std::size_t bytes, std::size_t guard_bytes = 0);

  /// As above, and keeps `resource` alive: for arenas that outlive their maker through exports.
  Arena(std::shared_ptr<Resource> resource, std::size_t bytes, std::size_t guard_bytes = 0);

  /// Adopts the caller's `block`; its last `guard_bytes` become the guard. `owner`, if any, is held
  /// as long as the arena lives; the block is never freed. Throws std::invalid_argument when the
  /// block does not begin on kAlignment bytes or is smaller than its guard.
  explicit Arena(std::span<std::byte> block, std::shared_ptr<void> owner = nullptr,
                 Place place = {}, std::size_t guard_bytes = 0);

  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  [[nodiscard]] std::byte* at(std::size_t offset) const {
    assert(offset <= bytes_);
    return data_ + offset;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }  // without the guard
  [[nodiscard]] std::size_t guard_bytes() const { return guard_bytes_; }
  [[nodiscard]] Place place() const { return place_; }

  /// Whether no byte behind the end was changed. True without guard bytes.
  [[nodiscard]] bool guards_intact() const;

  /// Sets every byte of [from, bytes()) to `pattern`. Host memory only, as is the next.
  void fill(std::size_t from = 0, std::byte pattern = kFillPattern);

  /// The offset of the last byte in [from, bytes()) that is not `pattern`; nothing when all are.
  /// After fill() and a run, this byte's slot is the highest that was written: the measured peak.
  [[nodiscard]] std::optional<std::size_t> highest_changed(std::size_t from = 0,
                                                           std::byte pattern = kFillPattern) const;

 private:
  void guard();

  std::shared_ptr<void> owner_;   // of an adopted block, or of the resource
  Resource* resource_ = nullptr;  // null: adopted, nothing to give back
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t guard_bytes_ = 0;
  Place place_;
};

}  // namespace poolgrad::memory
