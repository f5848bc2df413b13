// Adaptors: resources that stand before another one and count, bound, log, poison or fail. They
// compose in any order; where bytes come from in the end is not here.
#pragma once

#include <atomic>
#include <cstddef>
#include <iosfwd>
#include <mutex>

#include "memory/resource.h"

namespace poolgrad::memory {

/// What all adaptors share. `upstream` must outlive the adaptor.
class Adaptor : public Resource {
 public:
  explicit Adaptor(Resource& upstream) : upstream_(upstream) {}
  Adaptor(const Adaptor&) = delete;
  Adaptor& operator=(const Adaptor&) = delete;

  [[nodiscard]] Place place() const override { return upstream_.place(); }
  [[nodiscard]] Resource& upstream() const { return upstream_; }

 private:
  Resource& upstream_;
};

/// Counts what passes through, in requested bytes. Failed allocations do not count.
class Statistics final : public Adaptor {
 public:
  using Adaptor::Adaptor;

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

  [[nodiscard]] std::size_t live_bytes() const { return live_; }
  [[nodiscard]] std::size_t peak_bytes() const { return peak_; }    // most ever alive at once
  [[nodiscard]] std::size_t total_bytes() const { return total_; }  // all ever given
  [[nodiscard]] std::size_t allocations() const { return allocations_; }
  [[nodiscard]] std::size_t deallocations() const { return deallocations_; }

  /// From now on the peak is what is alive now and later.
  void reset_peak() { peak_ = live_.load(); }

 private:
  std::atomic<std::size_t> live_ = 0;
  std::atomic<std::size_t> peak_ = 0;
  std::atomic<std::size_t> total_ = 0;
  std::atomic<std::size_t> allocations_ = 0;
  std::atomic<std::size_t> deallocations_ = 0;
};

/// Gives no more than `limit_bytes` requested bytes at a time; throws OutOfMemory beyond.
class Limit final : public Adaptor {
 public:
  Limit(Resource& upstream, std::size_t limit_bytes) : Adaptor(upstream), limit_(limit_bytes) {}

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

  [[nodiscard]] std::size_t limit_bytes() const { return limit_; }
  [[nodiscard]] std::size_t in_use_bytes() const { return in_use_; }

 private:
  std::size_t limit_;
  std::atomic<std::size_t> in_use_ = 0;
};

/// Writes one CSV line per event, in RMM's columns Thread,Time,Action,Pointer,Size,Stream (the
/// header comes first): the thread's id, the local time of day to the microsecond, and `allocate`,
/// `free` or `allocate failure`. `out` must outlive the adaptor and be written by nobody else.
class Log final : public Adaptor {
 public:
  Log(Resource& upstream, std::ostream& out);

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

 private:
  void write(const char* action, const void* data, std::size_t bytes, Stream stream);

  std::ostream& out_;
  std::mutex mutex_;
};

/// Fills bytes with 0xff when they are given and when they come back: a NaN in f16, bf16, f32 and
/// f64, and -1 in every integer, so that whoever reads what nobody wrote is seen. Host memory only:
/// the constructor throws std::invalid_argument for another place.
class Poison final : public Adaptor {
 public:
  static constexpr std::byte kPattern{0xff};

  explicit Poison(Resource& upstream);

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;
};

/// Puts what is asked for on the default stream on `stream` instead, so that the standard's
/// containers can live with work on it: their elements must be touched by such work only.
class OnStream final : public Adaptor {
 public:
  OnStream(Resource& upstream, Stream stream) : Adaptor(upstream), stream_(stream) {}

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

 private:
  Stream stream_;
};

/// Fault injection: the `nth` allocation (the first is 1) throws OutOfMemory, all others pass.
/// 0 fails none, and only counts.
class FailAt final : public Adaptor {
 public:
  FailAt(Resource& upstream, std::size_t nth) : Adaptor(upstream), nth_(nth) {}

  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

  /// Allocations asked for so far, the failed one included.
  [[nodiscard]] std::size_t allocations() const { return count_; }

 private:
  std::size_t nth_;
  std::atomic<std::size_t> count_ = 0;
};

}  // namespace poolgrad::memory
