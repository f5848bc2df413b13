// The convolutions for x86-64-v3. CMake gives this file its instruction set.
#define POOLGRAD_LANES 8
#include "engine/backend/winograd_tiles.h"

namespace poolgrad::winograd::detail {

const Calls kV3{forward, weights};

}  // namespace poolgrad::winograd::detail
