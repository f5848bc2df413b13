// The convolutions for x86-64-v4. CMake gives this file its instruction set.
#define POOLGRAD_LANES 16
#include "engine/backend/winograd_tiles.h"

namespace poolgrad::winograd::detail {

const Calls kV4{forward, weights};

}  // namespace poolgrad::winograd::detail
