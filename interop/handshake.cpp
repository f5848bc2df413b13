// Decides by device first: the host has no streams, a device has no copies that nobody asked for.
#include "interop/handshake.h"

#include "engine/error.h"
#include "engine/transfer.h"

namespace poolgrad::interop {
namespace {

constexpr std::int64_t kNoWaiting = -1;

[[noreturn]] void refuse(const std::string& reason) { throw ExportError("__dlpack__: " + reason); }

Fulfilled from_host(const ArrayView& array, const Wishes& wishes) {
  if (wishes.stream && *wishes.stream != kNoWaiting)
    refuse(text("stream must be None for a tensor on the CPU, not ", *wishes.stream));
  if (wishes.copy.value_or(false)) return {duplicate(array), true};
  return {array};
}

Fulfilled from_device(const ArrayView& array, const Wishes& wishes, bool to_host) {
  const std::int64_t number = wishes.stream.value_or(1);
  const bool waits = number != kNoWaiting;
  const memory::Stream theirs = waits ? numbered_stream(number, array.stream) : memory::Stream{};
  if (to_host) {
    if (!wishes.copy.value_or(true))
      refuse(text("the tensor lies on ", to_string(array.place),
                  " and copy=False forbids to bring it to the CPU; pass copy=None"));
    return {on_host(array), true};
  }
  if (wishes.copy.value_or(false)) return {duplicate(array), true};
  if (waits && theirs != array.stream) theirs.wait(memory::Event(array.stream));
  return {array};
}

}  // namespace

memory::Stream numbered_stream(std::optional<std::int64_t> number, memory::Stream like) {
  const std::int64_t n = number.value_or(1);
  if (n > 0) return {reinterpret_cast<void*>(static_cast<std::intptr_t>(n)), like.ops};
  throw ExportError(text("stream ", n, " is none; 1 is the legacy default stream, 2 the calling ",
                         "thread's, others are addresses"));
}

Fulfilled fulfil(const ArrayView& array, const Wishes& wishes) {
  const DevicePair own = dlpack_device(array.place), cpu = dlpack_device({});
  const DevicePair wanted = wishes.device.value_or(own);
  if (wanted != own && wanted != cpu)
    refuse(text("the tensor lies on device (", own.type, ", ", own.index, ") and is not moved to (",
                wanted.type, ", ", wanted.index, "); ask without dl_device"));
  if (own == cpu) return from_host(array, wishes);
  return from_device(array, wishes, wanted == cpu);
}

}  // namespace poolgrad::interop
