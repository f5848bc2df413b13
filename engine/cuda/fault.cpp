// What kernels found wrong, as the error that the CPU's kernels throw for it.
#include "engine/cuda/fault.h"

#include <atomic>

#include "engine/error.h"

namespace poolgrad::cuda {

bool reported(Fault& fault) {
  return std::atomic_ref(fault.taken).load(std::memory_order_acquire) != 0;
}

void throw_fault(Fault& fault) {
  const Fault f = fault;
  fault = {};
  switch (f.kind) {
    case Fault::Kind::label:
      throw ArgumentError(text(f.op, ": label ", f.value, " in row ", f.row, " is not in [0, ",
                               f.limit, "); use labels from 0 to ", f.limit - 1));
    case Fault::Kind::index:
      throw ArgumentError(text(f.op, ": index ", f.value, " in row ", f.row, " is not in [0, ",
                               f.limit, "); the table has ", f.limit, " rows"));
    default:
      throw ArgumentError(text(f.op, ": ", f.value, " row has one value per channel, which has no ",
                               "variance; feed 2 rows or more"));
  }
}

}  // namespace poolgrad::cuda
