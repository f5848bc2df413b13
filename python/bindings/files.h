// Checkpoints as files, for Step. What they are is train/checkpoint.h, their format interop's.
#pragma once

#include <filesystem>

#include "python/bindings/loader.h"

namespace poolgrad::python {

/// A str or an os.PathLike.
std::filesystem::path path_of(nb::handle value);

/// Writes what training goes on from, and with a loader where its data is. Throws FileError.
void save_checkpoint(const std::filesystem::path& path, const train::Task& task,
                     const Program& program, const DataLoader* loader);

/// Goes on from there, and with a loader at that place in its data. Throws, before anything is
/// changed, FileError and ArgumentError.
void load_checkpoint(const std::filesystem::path& path, const train::Task& task, Program& program,
                     DataLoader* loader);

void bind_files(nb::module_& module);

}  // namespace poolgrad::python
