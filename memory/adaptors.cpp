// What the adaptors do on the way through.
#include "memory/adaptors.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <ostream>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace poolgrad::memory {
namespace {

void raise_to(std::atomic<std::size_t>& most, std::size_t value) {
  std::size_t seen = most;
  while (seen < value && !most.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

// Bytes count from before the caller gets them until the caller gives them back, so whatever the
// threads do, no more can be alive than is counted, and one thread alone is counted exactly.
void* Statistics::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  void* data = upstream().allocate_on(stream, bytes, alignment);
  raise_to(peak_, live_ += bytes);
  total_ += bytes;
  ++allocations_;
  return data;
}

void Statistics::deallocate_on(Stream stream, void* data, std::size_t bytes,
                               std::size_t alignment) {
  live_ -= bytes;
  ++deallocations_;
  upstream().deallocate_on(stream, data, bytes, alignment);
}

void* Limit::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  std::size_t in_use = in_use_;
  do {
    if (in_use > limit_ || bytes > limit_ - in_use) {
      throw OutOfMemory("limit: " + std::to_string(bytes) + " bytes requested with " +
                            std::to_string(in_use) + " of " + std::to_string(limit_) +
                            " in use; free some or raise the limit",
                        bytes, in_use, limit_);
    }
  } while (!in_use_.compare_exchange_weak(in_use, in_use + bytes));
  try {
    return upstream().allocate_on(stream, bytes, alignment);
  } catch (...) {
    in_use_ -= bytes;
    throw;
  }
}

void Limit::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) {
  upstream().deallocate_on(stream, data, bytes, alignment);
  in_use_ -= bytes;
}

Log::Log(Resource& upstream, std::ostream& out) : Adaptor(upstream), out_(out) {
  out_ << "Thread,Time,Action,Pointer,Size,Stream\n";
}

void* Log::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  void* data = nullptr;
  try {
    data = upstream().allocate_on(stream, bytes, alignment);
  } catch (...) {
    write("allocate failure", nullptr, bytes, stream);
    throw;
  }
  write("allocate", data, bytes, stream);
  return data;
}

// Written before the bytes go back: a thread that gets them next must come later in the log.
void Log::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) {
  write("free", data, bytes, stream);
  upstream().deallocate_on(stream, data, bytes, alignment);
}

void Log::write(const char* action, const void* data, std::size_t bytes, Stream stream) {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::array<char, 160> line{};
  const int length = std::snprintf(
      line.data(), line.size(), "%d,%02d:%02d:%02d.%06d,%s,0x%zx,%zu,0x%zx\n",
      static_cast<int>(::gettid()), local.tm_hour, local.tm_min, local.tm_sec,
      static_cast<int>(micros % 1'000'000), action, reinterpret_cast<std::uintptr_t>(data), bytes,
      reinterpret_cast<std::uintptr_t>(stream.handle));
  out_.write(line.data(), length);
}

Poison::Poison(Resource& upstream) : Adaptor(upstream) {
  if (upstream.place().space != Space::cuda) return;
  throw std::invalid_argument(
      "poison: the resource gives cuda memory; only host memory can be filled");
}

void* Poison::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  void* data = upstream().allocate_on(stream, bytes, alignment);
  std::memset(data, std::to_integer<int>(kPattern), bytes);
  return data;
}

void Poison::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) {
  std::memset(data, std::to_integer<int>(kPattern), bytes);
  upstream().deallocate_on(stream, data, bytes, alignment);
}

void* OnStream::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  return upstream().allocate_on(stream.is_caller() ? stream_ : stream, bytes, alignment);
}

void OnStream::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) {
  upstream().deallocate_on(stream.is_caller() ? stream_ : stream, data, bytes, alignment);
}

void* FailAt::allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) {
  const std::size_t number = ++count_;
  if (number == nth_) {
    throw OutOfMemory("fail-at: allocation " + std::to_string(number) + " of " +
                          std::to_string(bytes) + " bytes fails as it was told to",
                      bytes);
  }
  return upstream().allocate_on(stream, bytes, alignment);
}

void FailAt::deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) {
  upstream().deallocate_on(stream, data, bytes, alignment);
}

}  // namespace poolgrad::memory
