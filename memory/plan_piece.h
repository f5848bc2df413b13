// Plan piece: what the searches for intervals place. Internal to memory/.
#pragma once

#include <cstdint>

namespace poolgrad::memory {

/// Something of `size` that is alive in [first, end).
struct Piece {
  int first = 0;
  int end = 0;
  std::int64_t size = 0;
};

}  // namespace poolgrad::memory
