// The table of tuned times behind --tune: where it comes from and goes to.
#pragma once

#include <string>

#include "engine/compile.h"
#include "engine/tuning.h"

namespace poolgrad::cli {

/// The table in `path`, or an empty one where there is no file yet; timing tells standard error how
/// far it is once it has taken two seconds. Throws FileError.
[[nodiscard]] std::shared_ptr<Tuning> open_tuning(const std::string& path);

/// Writes to `path` what drafting with `options` has timed, and tells standard error so. Does
/// nothing without a table.
void save_tuning(const std::string& path, const Options& options);

}  // namespace poolgrad::cli
