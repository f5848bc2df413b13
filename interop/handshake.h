// What Python's exchange protocols ask of an exporter beside the struct: whose stream waits for
// whose, where the bytes are wanted, and whether as a copy. Knows streams by number, no Python and
// no CUDA.
#pragma once

#include <optional>

#include "interop/dlpack.h"

namespace poolgrad::interop {

/// Somebody's stream by its number in these protocols, of the device and kind of `like`: nothing
/// and 1 are the legacy default stream, 2 the calling thread's, others addresses. Throws
/// ExportError for 0, which might mean either, and for numbers below.
[[nodiscard]] memory::Stream numbered_stream(std::optional<std::int64_t> number,
                                             memory::Stream like);

/// The arguments of __dlpack__().
struct Wishes {
  std::optional<std::int64_t> stream{};  // the consumer's; -1: it sees to the order itself
  std::optional<DevicePair> device{};    // nothing: where the array lies
  std::optional<bool> copy{};            // nothing: only if needed
};

struct Fulfilled {
  ArrayView array;
  bool is_copy = false;
};

/// The array to lend out. Of one on a device: what is put on the consumer's stream from now on
/// waits for what is on the array's own; nobody else waits. Wanted on the CPU it is copied there,
/// and a copy is done when this returns, whatever stream was named.
///
/// Throws ExportError for another device than those two, for copy = false where one is needed, and
/// for streams that numbered_stream() refuses or, with an array in host memory, any but -1.
[[nodiscard]] Fulfilled fulfil(const ArrayView& array, const Wishes& wishes);

}  // namespace poolgrad::interop
