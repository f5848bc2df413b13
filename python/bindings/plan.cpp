// Options by name, and the plan as Python sees it.
#include "engine/error.h"
#include "engine/launcher.h"
#include "engine/peak.h"
#include "interop/handshake.h"
#include "interop/tuning_file.h"
#include "python/bindings/cuda_array.h"
#include "python/bindings/files.h"
#include "python/bindings/options.h"

namespace poolgrad::python {
namespace {

Memory memory_of(const std::string& name) {
  for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
    if (to_string(memory) == name) return memory;
  }
  throw ArgumentError(
      text("compile: memory '", name, "' is unknown; 'planned', 'pooled' or 'direct'"));
}

DType precision_of(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    if (to_string(dtype) == name) return dtype;
  }
  throw ArgumentError(
      text("compile: precision '", name, "' is unknown; 'float32', 'bfloat16' or 'float16'"));
}

std::size_t limit_of(const std::string& name, nb::handle value) {
  const auto bytes = nb::cast<std::int64_t>(value);
  if (bytes < 1) throw ArgumentError(text("compile: ", name, " ", bytes, " is below one byte"));
  return static_cast<std::size_t>(bytes);
}

/// A name, or torch.device of that name.
Device device_of(nb::handle value, bool tensor_float) {
  const std::string name = nb::str(value).c_str();
  if (auto device = Device::named(name)) {
    device->tensor_float = tensor_float;
    return *device;
  }
  throw ArgumentError(text("device: '", name, "' is unknown; 'cpu', 'cuda' or 'cuda:N'"));
}

std::string describe_row(const ReportRow& row) {
  return text("PlanRow(name='", row.name, "', layer='", row.layer, "', role='", row.role,
              "', bytes=", row.bytes, ", offset=", row.offset, ")");
}

}  // namespace

Options options_of(const nb::dict& arguments) {
  Options options;
  for (const auto& [key, value] : arguments) {
    const auto name = nb::cast<std::string>(key);
    if (value.is_none()) continue;
    if (name == "threads")
      options.threads = nb::cast<int>(value);
    else if (name == "chunks")
      options.chunks = nb::cast<int>(value);
    else if (name == "memory")
      options.memory = memory_of(nb::cast<std::string>(value));
    else if (name == "memory_limit")
      options.memory_limit_bytes = limit_of(name, value);
    else if (name == "budget")
      options.budget_bytes = limit_of(name, value);
    else if (name == "use_team")
      options.use_team = nb::cast<bool>(value);
    else if (name == "fuse")
      options.fuse = nb::cast<bool>(value);
    else if (name == "device")
      options.device = device_of(value, options.device.tensor_float);
    else if (name == "allow_tf32")
      options.device.tensor_float = nb::cast<bool>(value);
    else if (name == "precision")
      options.precision = precision_of(nb::cast<std::string>(value));
    else if (name == "winograd")
      options.winograd = nb::cast<bool>(value);
    else if (name == "tune")
      options.tuning = interop::read_tuning(path_of(value));
    else if (name == "layout")
      options.layout = nb::cast<bool>(value);
    else if (name == "recompute")
      options.recompute = nb::cast<bool>(value);
    else if (name == "schedule")
      options.schedule = nb::cast<bool>(value);
    else if (name == "order")
      options.order = nb::cast<bool>(value);
    else if (name == "in_place")
      options.in_place = nb::cast<bool>(value);
    else
      throw nb::type_error(text("compile: there is no option '", name, "'").c_str());
  }
  return options;
}

namespace {

Reader reader_on(const Options& options, memory::Stream stream) {
  if (options.launcher == nullptr) return {};
  return {{memory::Space::cuda, stream.ops->device}, stream};
}

}  // namespace

Reader feeds_of(const Program& program) {
  const Options& options = program.blueprint().options;
  return reader_on(options, options.launcher ? options.launcher->copies() : memory::Stream{});
}

Reader tables_of(const Program& program) {
  const Options& options = program.blueprint().options;
  return reader_on(options, options.device.stream);
}

memory::Stream stream_of(nb::handle stream, const Program& program) {
  const Options& options = program.blueprint().options;
  if (options.launcher != nullptr)
    return interop::numbered_stream(stream_number(stream), options.device.stream);
  if (stream.is_none()) return {};
  throw ArgumentError(text("stream: ", nb::repr(stream).c_str(),
                           ", but the program runs on the CPU, which has none; pass nothing"));
}

void save_tuning(const nb::dict& arguments, const Options& options) {
  if (options.tuning) interop::write_tuning(path_of(arguments["tune"]), *options.tuning);
}

PlanReport plan_of(const Blueprint& blueprint) {
  const Entry& largest = largest_entry(blueprint);
  std::string lines = describe(blueprint, largest.name);
  while (lines.ends_with('\n')) lines.pop_back();
  return {.arena_bytes = blueprint.arena_bytes(),
          .persistent_bytes = blueprint.persistent_bytes,
          .scratch_bytes = blueprint.scratch_bytes,
          .lower_bound_bytes = blueprint.lower_bound_bytes(),
          .sum_bytes = blueprint.sum_bytes(),
          .predicted_peak_bytes = blueprint.predicted_peak_bytes(),
          .made_again = largest.made_again,
          .extra_time = largest.extra_time,
          .memory = to_string(blueprint.options.memory),
          .entry = largest.name,
          .text = lines,
          .rows = report(blueprint, largest.name)};
}

void bind_plan(nb::module_& module) {
  nb::class_<ReportRow>(module, "PlanRow", "One slot of the arena.")
      .def_ro("name", &ReportRow::name)
      .def_ro("layer", &ReportRow::layer)
      .def_prop_ro("role", [](const ReportRow& row) { return to_string(row.role); })
      .def_ro("persistent", &ReportRow::persistent)
      .def_ro("bytes", &ReportRow::bytes)
      .def_ro("offset", &ReportRow::offset)
      .def_ro("first", &ReportRow::first, "The first step of its life.")
      .def_ro("end", &ReportRow::end, "The step after its last.")
      .def("__repr__", describe_row);

  nb::class_<PlanReport>(module, "Plan",
                         "What lies in the arena. print() it, or read its numbers and rows.")
      .def_ro("arena_bytes", &PlanReport::arena_bytes, "persistent_bytes + scratch_bytes")
      .def_ro("persistent_bytes", &PlanReport::persistent_bytes)
      .def_ro("scratch_bytes", &PlanReport::scratch_bytes)
      .def_ro("lower_bound_bytes", &PlanReport::lower_bound_bytes,
              "No plan for this program is smaller.")
      .def_ro("sum_bytes", &PlanReport::sum_bytes, "What it would take without any reuse.")
      .def_ro("predicted_peak_bytes", &PlanReport::predicted_peak_bytes)
      .def_ro("made_again", &PlanReport::made_again,
              "Nodes of the forward pass that are computed again to stay within the budget.")
      .def_ro("extra_time", &PlanReport::extra_time,
              "What that costs, as a share of a step's time by the cost model.")
      .def_ro("memory", &PlanReport::memory)
      .def_ro("entry", &PlanReport::entry, "The entry that needs most, whose rows these are.")
      .def_ro("rows", &PlanReport::rows)
      .def("__str__", [](const PlanReport& plan) { return plan.text; })
      .def("__repr__", [](const PlanReport& plan) {
        return text("Plan(arena_bytes=", plan.arena_bytes,
                    ", lower_bound_bytes=", plan.lower_bound_bytes, ", sum_bytes=", plan.sum_bytes,
                    ")");
      });
}

}  // namespace poolgrad::python
