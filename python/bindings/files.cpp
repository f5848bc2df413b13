// load_file() and save_file(), under the names of the package safetensors, and a Step's
// checkpoints.
#include "python/bindings/files.h"

#include <nanobind/stl/map.h>

#include "engine/error.h"
#include "interop/safetensors.h"

namespace poolgrad::python {

std::filesystem::path path_of(nb::handle value) {
  return nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(value));
}

void save_checkpoint(const std::filesystem::path& path, const train::Task& task,
                     const Program& program, const DataLoader* loader) {
  const train::Checkpoint saved =
      train::checkpoint(task, program, loader != nullptr ? &loader->at() : nullptr);
  interop::write_safetensors(path, saved.arrays, saved.about);
}

void load_checkpoint(const std::filesystem::path& path, const train::Task& task, Program& program,
                     DataLoader* loader) {
  const std::string name = text("load: '", path.string(), "'");
  interop::Safetensors seen = interop::inspect_safetensors(path);
  const train::Checkpoint header{std::move(seen.arrays), std::move(seen.metadata)};
  const std::optional<train::Position> at = train::position_in(header, name);
  train::check(task, header, name);
  if (loader != nullptr) {
    if (!at)
      throw ArgumentError(
          text(name, ": it does not say which samples come next; load it without the loader"));
    loader->check(*at, name);
  }
  interop::Safetensors read = interop::read_safetensors(path);
  train::restore(task, program, {std::move(read.arrays), std::move(read.metadata)}, name);
  if (loader != nullptr) loader->go_on_from(*at);
}

namespace {

nb::dict load_file(nb::handle path) {
  nb::dict result;
  for (NamedArray& named : interop::read_safetensors(path_of(path)).arrays)
    result[named.name.c_str()] = std::move(named.array);
  return result;
}

void save_file(const nb::dict& tensors, nb::handle path, const interop::Metadata& metadata) {
  std::vector<NamedArray> arrays;
  for (const auto& [key, value] : tensors) {
    const auto name = nb::cast<std::string>(key);
    arrays.push_back({name, array_of(value, name)});
  }
  interop::write_safetensors(path_of(path), arrays, metadata);
}

}  // namespace

void bind_files(nb::module_& module) {
  module.def("load_file", load_file, "filename"_a,
             nb::sig("def load_file(filename: str | os.PathLike) -> dict[str, Tensor]"),
             "The arrays of a safetensors file by name: of step.save(), `poolgrad train --save` or "
             "any library.\nmodel.load_state_dict() takes the weights out of them.");
  module.def("save_file", save_file, "tensors"_a, "filename"_a,
             "metadata"_a = interop::Metadata{{"format", "pt"}},
             nb::sig("def save_file(tensors: collections.abc.Mapping[str, object], filename: str | "
                     "os.PathLike, metadata: dict[str, str] = {'format': 'pt'}) -> None"),
             "Writes arrays of any library to a safetensors file, complete or not at all.");
}

}  // namespace poolgrad::python
