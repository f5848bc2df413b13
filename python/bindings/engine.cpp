// Graph, Handle, gradients(), compile_graph() and Program: the engine as it is. What most users
// want is compile() of a model (step.cpp).
#include <nanobind/stl/shared_ptr.h>

#include "engine/autograd.h"
#include "engine/program.h"
#include "python/bindings/handle.h"
#include "python/bindings/options.h"

namespace poolgrad::python {
namespace {

// ---- graphs

Tensor parameter(Graph& graph, nb::handle shape, std::string_view name, float value,
                 std::optional<std::int64_t> fan_in, std::uint64_t seed) {
  const Init init = fan_in ? Init::kaiming_uniform(*fan_in, seed) : Init::constant(value);
  return graph.parameter(shape_of(shape), init, name);
}

std::vector<Tensor> gradients(const Tensor& loss, const std::vector<Tensor>& wanted) {
  const Tensor one = loss.graph->state({}, Init::constant(1.0F), "scale", "settings");
  return differentiate(loss, wanted, one);
}

const std::string& name_of(const Tensor& tensor) { return tensor.graph->name(tensor.id); }

std::string describe(const Handle& handle) {
  const Tensor& tensor = handle.tensor;
  return text("Handle(", tensor.graph->describe(tensor.id), " ", tensor.spec().dtype, ")");
}

void bind_graph(nb::module_& module) {
  nb::class_<Handle>(module, "Handle", "A tensor of a graph: a place in it, without bytes.")
      .def_prop_ro(
          "shape", [](const Handle& handle) { return tuple_of(handle.tensor.shape()); },
          nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro("dtype",
                   [](const Handle& handle) { return to_string(handle.tensor.spec().dtype); })
      .def_prop_ro("name", [](const Handle& handle) { return name_of(handle.tensor); })
      .def(
          "__eq__",
          [](const Handle& self, const Handle& other) { return self.tensor == other.tensor; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object) -> bool"))
      .def("__hash__", [](const Handle& self) { return self.tensor.id; })
      .def("__repr__", describe);

  nb::class_<Graph>(module, "Graph", "Nodes in the order they run. Builders are in poolgrad.ops.")
      .def(nb::new_(&std::make_shared<Graph>))
      .def(
          "input",
          [](Graph& graph, nb::handle shape, std::string_view name, nb::handle dtype,
             bool batched) {
            return graph.input({shape_of(shape), dtype_of(dtype)}, name, batched);
          },
          "shape"_a, "name"_a = "input", "dtype"_a = "float32", "batched"_a = true,

          nb::sig(
              "def input(self, shape: int | collections.abc.Sequence[int], name: str = 'input', "
              "dtype: object = 'float32', batched: bool = True) -> Handle"),
          "A slot that a run is fed. Its first axis is the largest batch, unless batched is False.")
      .def("parameter", parameter, "shape"_a, "name"_a, nb::kw_only(), "value"_a = 0.0F,
           "fan_in"_a = nb::none(), "seed"_a = 0,
           nb::sig("def parameter(self, shape: int | collections.abc.Sequence[int], name: str, *, "
                   "value: float = 0.0, fan_in: int | None = None, seed: int = 0) -> Handle"),
           "Trained; begins as value, or uniform in 1/sqrt(fan_in) to both sides.")
      .def(
          "state",
          [](Graph& graph, nb::handle shape, std::string_view name, std::string_view column,
             nb::handle dtype, float value) {
            return graph.state({shape_of(shape), dtype_of(dtype)}, Init::constant(value), name,
                               column);
          },
          "shape"_a, "name"_a, "column"_a, "dtype"_a = "float32", "value"_a = 0.0F,

          nb::sig(
              "def state(self, shape: int | collections.abc.Sequence[int], name: str, column: str, "
              "dtype: object = 'float32', value: float = 0.0) -> Handle"),
          "Persistent, and constant or changed by ops.")
      .def(
          "lent",
          [](Graph& graph, nb::handle shape, std::string_view name, nb::handle dtype) {
            return graph.lent({shape_of(shape), dtype_of(dtype)}, name);
          },
          "shape"_a, "name"_a, "dtype"_a = "float32",
          nb::sig("def lent(self, shape: int | collections.abc.Sequence[int], name: str, "
                  "dtype: object = 'float32') -> Handle"),
          "A table that lies with the caller: Program.lend() says where.")
      .def("keep", &Graph::keep, "tensor"_a,
           "From now on the tensor has bytes of its own, which a Program can lend out.")
      .def(
          "column", [](Graph& graph, std::string_view name) { return graph.column(name); },
          "name"_a)
      .def("__len__", [](const Graph& graph) { return graph.nodes.size(); });

  module.def("gradients", gradients, "loss"_a, "wanted"_a,
             nb::sig("def gradients(loss: Handle, wanted: collections.abc.Sequence[Handle]) -> "
                     "list[Handle | None]"),
             "Appends the backward nodes of a scalar loss: one gradient for each of wanted, None "
             "where it does not depend on it.");
}

// ---- programs

std::vector<EntryPoint> entries_of(const nb::dict& entries) {
  std::vector<EntryPoint> result;
  for (const auto& [name, roots] : entries) {
    result.push_back({nb::cast<std::string>(name), nb::cast<std::vector<Tensor>>(roots), {}});
  }
  return result;
}

void run(Program& program, std::string_view entry, const nb::dict& feeds) {
  std::vector<Feed> arrays;
  const Reader reader = feeds_of(program);
  for (const auto& [slot, values] : feeds) {
    const auto tensor = nb::cast<Tensor>(slot);
    arrays.push_back({tensor, array_of(values, name_of(tensor), reader)});
  }
  const nb::gil_scoped_release others_may_run;
  program.run(entry, arrays);
}

/// Itself where it lies in the program's memory.
void lend(Program& program, const Tensor& table, nb::handle values) {
  if (values.is_none()) return program.lend(table, ArrayView{});
  const ArrayView array = array_of(values, name_of(table), tables_of(program));
  program.lend(table, program.to_device(array));
}

void bind_program(nb::module_& module) {
  nb::class_<Program>(module, "Program", "Runs the entries of a graph inside one arena.")
      .def("run", run, "entry"_a, "feeds"_a = nb::dict(),
           nb::sig("def run(self, entry: str, feeds: collections.abc.Mapping[Handle, object] = {}) "
                   "-> None"),
           "Runs an entry; feeds are arrays by their slot. Fewer rows than the slot has are fine. "
           "On a GPU it does not\nwait for the work, and arrays of that GPU are read in its turn: "
           "make_wait() before they are changed.")
      .def("view", &Program::view, "tensor"_a,
           "A persistent or kept tensor on its own bytes. BufferError for any other.")
      .def(
          "write",
          [](Program& program, const Tensor& tensor, nb::handle values) {
            program.write(tensor, array_of(values, name_of(tensor), tables_of(program)));
          },
          "tensor"_a, "values"_a,
          nb::sig("def write(self, tensor: Handle, values: object) -> None"),
          "Copies values into a persistent tensor.")
      .def(
          "read",
          [](const Program& program, const Tensor& tensor) { return clone(program.read(tensor)); },
          "tensor"_a,
          "A copy of a persistent or kept tensor on the CPU, as the runs so far have left it.")
      .def("lend", lend, "tensor"_a, "values"_a,
           nb::sig("def lend(self, tensor: Handle, values: object | None) -> None"),
           "Runs read a Graph.lent() table at values from now on: where they lie if that is the "
           "program's device,\nelse in a copy there. None takes it back.")
      .def(
          "wait_for",
          [](Program& program, nb::handle stream) { program.wait_for(stream_of(stream, program)); },
          "stream"_a = nb::none(), nb::sig("def wait_for(self, stream: object = None) -> None"),
          kWaitFor)
      .def(
          "make_wait",
          [](const Program& program, nb::handle stream) {
            program.make_wait(stream_of(stream, program));
          },
          "stream"_a = nb::none(), nb::sig("def make_wait(self, stream: object = None) -> None"),
          kMakeWait)
      .def("synchronize", &Program::synchronize, nb::call_guard<nb::gil_scoped_release>(),
           "Waits for a GPU's work; on the CPU there is none after run().")
      .def(
          "column",
          [](const Program& program, std::string_view name, nb::handle dtype) {
            return program.column(name, dtype_of(dtype));
          },
          "name"_a, "dtype"_a = "float32",
          nb::sig("def column(self, name: str, dtype: object = 'float32') -> Tensor"),
          "'parameters', 'gradients', 'adam.first', ... as one flat tensor, gaps zero.")
      .def("use_team", &Program::use_team, "on"_a,
           "Whether a team of threads runs the entries: at any time, with the same bits.")
      .def("watch_peak", &Program::watch_peak)
      .def("measured_peak_bytes", &Program::measured_peak_bytes)
      .def_prop_ro(
          "plan", [](const Program& program) { return plan_of(program.blueprint()); },
          "What lies in the arena, and how good the plan is.");

  module.def(
      "compile_graph",
      [](const Graph& graph, const nb::dict& entries, const nb::kwargs& options) {
        const Options read = options_of(options);
        Program program = compile(graph, entries_of(entries), read);
        save_tuning(options, read);
        return program;
      },
      "graph"_a, "entries"_a, "options"_a,
      nb::sig(
          "def compile_graph(graph: Graph, entries: collections.abc.Mapping[str, "
          "collections.abc.Sequence[Handle]], *, "
          "threads: int = 1, memory: str = 'planned', memory_limit: int | None = None, "
          "budget: int | None = None, "
          "chunks: int = 0, use_team: bool = True, fuse: bool = True, layout: bool = True, "
          "recompute: bool = True, schedule: bool = True, order: bool = True, "
          "in_place: bool = True, "
          "winograd: bool = True, tune: str | os.PathLike | None = None, device: object = 'cpu', "
          "allow_tf32: bool = False) -> Program"),
      "Plans the entries and takes the arena. Roots are kept, so they can be viewed.");
}

}  // namespace

void bind_engine(nb::module_& module) {
  bind_graph(module);
  bind_plan(module);
  bind_program(module);
}

}  // namespace poolgrad::python
