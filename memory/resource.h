// Resource: where bytes come from. Every resource is a std::pmr::memory_resource, so the standard
// containers take ours; Borrowed makes one of ours out of any of theirs. Adaptors are not here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>

#include "memory/alignment.h"
#include "memory/stream.h"

namespace poolgrad::memory {

enum class Space : std::uint8_t { host, pinned, cuda };

/// Which memory an address belongs to.
struct Place {
  Space space = Space::host;
  int index = 0;
  bool operator==(const Place&) const = default;
};

/// A resource could not give the bytes. what() names the resource, the bytes asked for, and what
/// stood in the way.
class OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(const std::string& what, std::size_t requested_bytes, std::size_t in_use_bytes = 0,
              std::size_t limit_bytes = 0)
      : what_(what),  // NOLINT(bugprone-throw-keyword-missing): it is a member
        requested_bytes_(requested_bytes),
        in_use_bytes_(in_use_bytes),
        limit_bytes_(limit_bytes) {}

  [[nodiscard]] const char* what() const noexcept override { return what_.what(); }
  [[nodiscard]] std::size_t requested_bytes() const noexcept { return requested_bytes_; }
  /// Bytes alive at the resource just then; 0 when it keeps no count.
  [[nodiscard]] std::size_t in_use_bytes() const noexcept { return in_use_bytes_; }
  /// What the resource may give in all; 0 when it has no limit of its own.
  [[nodiscard]] std::size_t limit_bytes() const noexcept { return limit_bytes_; }

 private:
  std::runtime_error what_;  // its text is shared, so copying an error cannot throw
  std::size_t requested_bytes_;
  std::size_t in_use_bytes_;
  std::size_t limit_bytes_;
};

/// Where bytes come from, in the order of a stream. Implementations override the pair
/// allocate_on() / deallocate_on(); allocate() and deallocate() are that pair on the default
/// stream.
///
/// All resources here may be called from several threads at once. Zero bytes are given an address
/// too, which must be freed like any other. Alignments are powers of two.
class Resource : public std::pmr::memory_resource {
 public:
  /// `bytes` bytes on `alignment`, to be used by work on `stream`. Throws std::bad_alloc, as a rule
  /// OutOfMemory, and then has changed nothing.
  [[nodiscard]] virtual void* allocate_on(Stream stream, std::size_t bytes,
                                          std::size_t alignment) = 0;

  /// Takes back what allocate_on() gave, once the work now on `stream` is done. `bytes` and
  /// `alignment` are those of the allocation.
  virtual void deallocate_on(Stream stream, void* data, std::size_t bytes,
                             std::size_t alignment) = 0;

  [[nodiscard]] virtual Place place() const { return {}; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) final {
    return allocate_on({}, bytes, alignment);
  }
  void do_deallocate(void* data, std::size_t bytes, std::size_t alignment) final {
    deallocate_on({}, data, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }
};

/// malloc and free, whoever provides them: the naive side of every comparison. Calls go straight to
/// posix_memalign, so that a preloaded jemalloc or mimalloc is what is measured.
class HostResource final : public Resource {
 public:
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
};

/// Pages straight from the system, huge ones (2 MiB) where it has them: fewer faults and less TLB
/// pressure for one large block. Where huge pages are refused, the same bytes come on small pages.
/// Every call is a system call: meant for arenas and slabs, not for single tensors.
class HugePageResource final : public Resource {
 public:
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
};

/// Any std::pmr resource as one of ours: std::pmr::new_delete_resource(), somebody's pool, a
/// test's. It must outlive this one and be as thread-safe as the use made of it. Streams are
/// ignored.
class Borrowed final : public Resource {
 public:
  explicit Borrowed(std::pmr::memory_resource* upstream = std::pmr::new_delete_resource())
      : upstream_(upstream) {}

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

 private:
  std::pmr::memory_resource* upstream_;
};

}  // namespace poolgrad::memory
