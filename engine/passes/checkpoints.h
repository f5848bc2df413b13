// Which values of a chain to keep between its forward and its backward pass, exactly: dynamic
// programming over bytes (Beaumont, Herrmann, Pallez and Shilova, 2019: chains of unequal links;
// Griewank and Walther, 2000: equal ones). Links know bytes and time, neither tensors nor ops.
#pragma once

#include <cstdint>
#include <vector>

namespace poolgrad::passes {

/// Makes its value of the value before it. Its backward step reads the value before it, and runs
/// after those of all later links.
struct Link {
  double us = 0.0;            // to make its value
  std::int64_t bytes = 0;     // of its value. The last link has none that is needed
  std::int64_t making = 0;    // beside both values, while it makes its own
  std::int64_t waiting = 0;   // alive while values are made again for its backward step
  std::int64_t backward = 0;  // beside the value before it, while its backward step runs
};

struct Checkpoints {
  /// value -> the links, last first, for whose backward step it is made again of the nearest value
  /// that is kept. It is then kept until its last reader before the next one; where there is none,
  /// from the forward pass on.
  std::vector<std::vector<int>> again;
  double us = 0.0;         // of what is made again
  std::int64_t bytes = 0;  // that suffice
};

/// The choices of least time, from all that is kept to the fewest bytes there are. What comes
/// before the first link is always there and takes no bytes. Bytes are counted in units and rounded
/// up: with a unit of 1 the result is exact. O(links³ · units).
[[nodiscard]] std::vector<Checkpoints> checkpoints(const std::vector<Link>& links,
                                                   std::int64_t unit);

}  // namespace poolgrad::passes
