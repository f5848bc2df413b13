// The picture of a plan of requests. That of a training step is the engine's.
#pragma once

#include <string>

#include "memory/plan_file.h"

namespace poolgrad::cli {

/// Steps across (those of all members on one axis), bytes upwards; a rectangle per request, whose
/// title names it, and a dashed line at the lower bound.
[[nodiscard]] std::string requests_svg(const memory::PlanFile& file, const memory::Plan& plan);

}  // namespace poolgrad::cli
