// Tables of tuned times as files. What they say, and who times, is the engine's.
#pragma once

#include <filesystem>
#include <memory>

#include "engine/tuning.h"

namespace poolgrad::interop {

/// The table in the file, or an empty one where there is no file yet. Throws FileError for one that
/// is damaged, was made with another instruction set or libraries, or cannot be read, and where
/// there is none for a place that cannot be written.
[[nodiscard]] std::shared_ptr<Tuning> read_tuning(const std::filesystem::path& path);

/// Writes the table where problems were added since it was read; whoever reads meanwhile sees the
/// old one or the new one, whole. Throws FileError.
void write_tuning(const std::filesystem::path& path, const Tuning& tuning);

}  // namespace poolgrad::interop
