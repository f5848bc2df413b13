// Lender: an array of the caller's as the block of an arena.
#pragma once

#include "engine/error.h"
#include "memory/resource.h"
#include "python/bindings/bindings.h"

namespace poolgrad::python {

/// A resource with one block to give. Exports may outlive the program, and an arena does not own
/// its resource: so this one lives until it is given its block back, then lets go of the array and
/// dies.
class Lender final : public memory::Resource {
 public:
  /// `taken` is told when somebody has the block; until then the maker must delete it.
  /// `stream`: of the device that is to use the block.
  Lender(ArrayView block, memory::Stream stream, bool* taken)
      : block_(std::move(block)), taken_(taken) {
    if (block_.read_only || !block_.row_major()) {
      throw ArgumentError("arena: the array is read-only or not dense; lend a plain, writable one");
    }
    if (reinterpret_cast<std::uintptr_t>(block_.data) % memory::kAlignment != 0) {
      throw ArgumentError(text("arena: the array does not begin on ", memory::kAlignment,
                               " bytes; lend one that does, like poolgrad.empty(n, 'uint8')"));
    }
    if (block_.stream != stream) stream.wait(memory::Event(block_.stream));
  }

  [[nodiscard]] void* allocate_on(memory::Stream, std::size_t bytes, std::size_t) override {
    if (bytes > block_.bytes()) {
      throw memory::OutOfMemory(text("the array lent has ", block_.bytes(), "; lend a larger one"),
                                bytes, 0, block_.bytes());
    }
    *std::exchange(taken_, &ignored_) = true;
    return block_.data;
  }
  void deallocate_on(memory::Stream, void*, std::size_t, std::size_t) override { delete this; }
  [[nodiscard]] memory::Place place() const override { return block_.place; }

 private:
  ArrayView block_;
  bool* taken_;
  bool ignored_ = false;
};

}  // namespace poolgrad::python
