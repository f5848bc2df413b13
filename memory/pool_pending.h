// Pending blocks: those freed on one stream whose work has perhaps not reached the free yet. Which
// stream may take them, and when, is decided in pool_core. Internal to memory/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "memory/pool_blocks.h"
#include "memory/stream.h"

namespace poolgrad::memory {

/// One stream's free blocks, in the order in which they were freed, and the events they wait for.
class Pending {
 public:
  explicit Pending(Stream stream) : stream_(stream) {}

  [[nodiscard]] Stream stream() const { return stream_; }
  [[nodiscard]] bool is_of(Stream stream) const { return open_ && stream_ == stream; }
  /// From now on no stream is this one: its handle may come to mean another.
  void close() { open_ = false; }
  void open(Stream stream) {
    stream_ = stream;
    open_ = true;
  }
  [[nodiscard]] bool empty() const { return oldest_ == nullptr; }
  /// No blocks, and as far as is known all work done that blocks waited for: those taken over by
  /// other streams are not here any more, but still wait.
  [[nodiscard]] bool idle() {
    poll();
    return empty() && count_ == 0;
  }
  [[nodiscard]] Block* oldest() const { return oldest_; }

  /// Records an event for all work now on the stream, and answers its number, higher than all
  /// before. What is older waits for this one too where events are short.
  std::uint64_t mark();
  /// The event for `number`: perhaps a later one.
  [[nodiscard]] const Event& event_of(std::uint64_t number) const;
  /// Asks which events have passed.
  void poll();
  /// Whether the block that was freed first waits for nothing any more, as far as poll() knows.
  [[nodiscard]] bool oldest_passed() const {
    return oldest_ != nullptr && oldest_->number <= passed_;
  }
  /// The calling thread waits for all of them.
  void wait() const;

  /// Adds a block, the last one freed: it must wait for `number`.
  void insert(Block* block, std::uint64_t number);
  /// `upper` was split off `block`, and waits for the same.
  void insert_behind(Block* block, Block* upper);
  /// Out of the order, not out of free().
  void unlink(Block* block);

  [[nodiscard]] FreeBlocks& free() { return free_; }
  [[nodiscard]] const FreeBlocks& free() const { return free_; }

 private:
  struct Mark {
    Event event;
    std::uint64_t number = 0;
  };
  static constexpr std::size_t kMarks = 32;

  [[nodiscard]] Mark& nth(std::size_t n) { return marks_[(first_ + n) % kMarks]; }
  [[nodiscard]] const Mark& nth(std::size_t n) const { return marks_[(first_ + n) % kMarks]; }

  Stream stream_;
  bool open_ = true;
  FreeBlocks free_;
  Block* oldest_ = nullptr;
  Block* newest_ = nullptr;
  std::array<Mark, kMarks> marks_;  // a ring, numbers go up
  std::size_t first_ = 0, count_ = 0;
  std::uint64_t last_ = 0, passed_ = 0;
};

}  // namespace poolgrad::memory
