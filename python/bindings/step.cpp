// Step: a model compiled into one arena. It trains, measures and predicts.
#include <algorithm>
#include <cmath>
#include <thread>

#include "engine/cuda/launcher.h"
#include "engine/launcher.h"
#include "engine/profile.h"
#include "memory/system.h"
#include "python/bindings/files.h"
#include "python/bindings/handle.h"
#include "python/bindings/lender.h"
#include "python/bindings/options.h"
#include "train/task.h"

namespace poolgrad::python {
namespace {

/// Arrays are as large as their slot but for the first axis: at most `most` rows, 0: any number.
std::int64_t checked_rows(const ArrayView& array, const Shape& slot, std::string_view name,
                          std::int64_t most) {
  Shape fits = slot;
  if (array.shape.rank() > 0 && array.shape[0] > 0) fits[0] = array.shape[0];
  if (array.shape == fits && (most == 0 || fits[0] <= most)) return fits[0];
  throw ShapeError(text(name, ": ", array.shape, " does not fit ", slot,
                        most == 0 ? "; only the first axis may differ, and not be 0"
                                  : "; only the first axis may be shorter, and not be 0"));
}

ArrayView samples_of(nb::handle x, const Reader& reader) {
  ArrayView array = array_of(x, "x", reader);
  if (array.dtype == DType::f32 || array.dtype == DType::f64) return array;
  throw ArgumentError(text("x: samples of ", array.dtype, "; convert them to float32"));
}

ArrayView labels_of(nb::handle y, const Reader& reader) {
  ArrayView array = array_of(y, "y", reader);
  if (array.dtype == DType::i64 || array.dtype == DType::i32) return array;
  throw ArgumentError(text("y: labels of ", array.dtype, "; convert them to int64 or int32"));
}

/// Rows [begin, begin + count) of the first axis.
ArrayView rows_of(ArrayView array, std::int64_t begin, std::int64_t count) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(array.dtype));
  array.data = static_cast<std::byte*>(array.data) + begin * array.strides[0] * element_bytes;
  array.shape[0] = count;
  return array;
}

/// As many threads as the process may use, and on the CPU no more memory than there is. What a GPU
/// has is asked when a program is made.
Options complete(Options options, const nb::dict& arguments) {
  const auto given = [&](const char* name) {
    return arguments.contains(name) && !nb::object(arguments[name]).is_none();
  };
  if (!given("threads")) {
    options.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 256U));
  }
  if (!given("memory_limit") && options.device.kind == Device::Kind::cpu)
    options.memory_limit_bytes = memory::available_bytes();
  return options;
}

/// What is said of gradients: keep_gradients, grad_scaler, clip_grad_norm.
train::MinimizeOptions minimize_of(const nb::dict& gradients, const Options& options) {
  const bool on_device = options.device.kind == Device::Kind::cuda;
  train::MinimizeOptions minimize{
      .updates = on_device ? train::Updates::whole_column  // one launch for all
                           : train::Updates::at_gradient,
      .keep_gradients = nb::cast<bool>(gradients["keep_gradients"])};
  if (options.precision == DType::f16) minimize.grad_scaler = train::GradScaler{};
  if (const nb::object scaler = gradients["grad_scaler"]; !scaler.is_none())
    minimize.grad_scaler = nb::cast<train::GradScaler>(scaler);
  if (const nb::object norm = gradients["clip_grad_norm"]; !norm.is_none())
    minimize.clip_grad_norm = nb::cast<float>(norm);
  return minimize;
}

train::TaskSpec spec_of(nb::callable model, nb::handle batch, const train::Optimizer& optimizer,
                        const nb::dict& gradients, const Options& options) {
  const Shape shape = shape_of(batch);
  if (shape.rank() < 2) {
    throw ShapeError(text("compile: batch ", shape,
                          " has no axis beside the first; give the whole shape, like (128, 784)"));
  }
  return {.model = [model](Graph&, Tensor x,
                           bool training) { return nb::cast<Tensor>(model(x, training)); },
          .sample = Shape(shape.extents().subspan(1)),
          .batch = shape[0],
          .optimizer = optimizer,
          .minimize = minimize_of(gradients, options)};
}

/// Between two batches of many: Ctrl-C ends the call.
void heed_signals() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

class Step {
 public:
  Step(train::TaskSpec spec, const Step* previous, nb::handle arena, Options options,
       const nb::dict& arguments)
      : spec_(std::move(spec)), task_(train::make_task(spec_)) {
    const bool together = previous != nullptr && previous->lies_on(options.device);
    if (together) options.share = &*previous->program_;
    take(options, arena);
    save_tuning(arguments, options);
    if (previous != nullptr && !together) bring_from(*previous->program_);
    if (previous != nullptr && !(previous->spec_.optimizer == spec_.optimizer)) forget_moments();
    if (previous != nullptr && previous->spec_.minimize.grad_scaler != spec_.minimize.grad_scaler)
      forget_scale();
    spec_.model = nullptr;  // a Python function: not needed again, and it may hold us
  }

  /// One step of training; the loss before it.
  double train(nb::handle x, nb::handle y) {
    const auto [samples, labels] = batch_of(x, y);
    const std::int64_t rows = same_rows(samples, labels, spec_.batch);
    run("train", samples, &labels);
    rows_ = rows;
    return value<float>(task_.training.loss);
  }

  /// Mean loss and the share of right answers, over any number of samples.
  std::pair<double, double> evaluate(nb::handle x, nb::handle y) {
    const auto [samples, labels] = batch_of(x, y);
    const std::int64_t rows = same_rows(samples, labels, 0);
    double loss = 0.0, correct = 0.0;
    for (std::int64_t begin = 0; begin < rows; begin += spec_.batch) {
      const std::int64_t count = std::min(spec_.batch, rows - begin);
      heed_signals();
      const ArrayView some_labels = rows_of(labels, begin, count);
      run("evaluate", rows_of(samples, begin, count), &some_labels);
      loss += double{value<float>(task_.test_loss)} * static_cast<double>(count);
      correct += static_cast<double>(value<std::int64_t>(task_.test_correct));
    }
    return {loss / static_cast<double>(rows), correct / static_cast<double>(rows)};
  }

  /// Logits [n, classes] of any number of samples, in an arena of their own on the CPU.
  ArrayView predict(nb::handle x) {
    const ArrayView samples = samples_of(x, feeds_of(*program_));
    const std::int64_t rows = checked_rows(samples, task_.samples.shape(), "x", 0);
    const Spec& logits = task_.logits.spec();
    const ArrayView result = new_array({rows, logits.shape[1]}, logits.dtype);
    for (std::int64_t begin = 0; begin < rows; begin += spec_.batch) {
      const std::int64_t count = std::min(spec_.batch, rows - begin);
      heed_signals();
      run("predict", rows_of(samples, begin, count), nullptr);
      copy(rows_of(program_->read(task_.logits), 0, count), rows_of(result, begin, count));
    }
    return result;
  }

  /// Of a training step on this batch, which changes nothing.
  Profile profile(nb::handle x, nb::handle y, int steps) {
    const auto [samples, labels] = batch_of(x, y);
    (void)same_rows(samples, labels, spec_.batch);
    const Feed feeds[] = {{task_.samples, samples}, {task_.labels, labels}};
    const nb::gil_scoped_release others_may_run;
    return poolgrad::profile(*program_, "train", feeds, steps);
  }

  /// Of the last training batch, before its update; NaN before the first.
  [[nodiscard]] double accuracy() const {
    if (rows_ == 0) return std::nan("");
    return static_cast<double>(value<std::int64_t>(task_.correct)) / static_cast<double>(rows_);
  }

  [[nodiscard]] double loss_scale() const { return value<float>(task_.training.scale); }
  [[nodiscard]] std::int64_t skipped_steps() const {
    return task_.training.skipped ? value<std::int64_t>(task_.training.skipped) : 0;
  }

  [[nodiscard]] double rate() const { return shortest(value<float>(task_.training.rate)); }
  void set_rate(float rate) {
    train::Optimizer changed = spec_.optimizer;
    std::visit([rate](auto& settings) { settings.rate = rate; }, changed);
    train::check(changed);
    program_->write(task_.training.rate, ArrayView::of(std::span(&rate, 1), {}, DType::f32));
  }

  /// Name -> tensor, of a column like "parameters", in its order.
  [[nodiscard]] nb::dict named(std::string_view column) const {
    nb::dict result;
    const bool own_names = column == "parameters" || column == "statistics";
    const std::string prefix = own_names ? "" : std::string(column) + ".";
    for (const Tensor& tensor : task_.graph->column(column)) {
      const std::string& name = task_.graph->name(tensor.id);
      result[name.substr(prefix.size()).c_str()] = program_->view(tensor);
    }
    return result;
  }

  /// All that training goes on from, on its own bytes (on a device copies).
  [[nodiscard]] nb::dict state_dict() const {
    nb::dict result;
    for (NamedArray& named : train::checkpoint(task_, *program_).arrays)
      result[named.name.c_str()] = std::move(named.array);
    return result;
  }
  void load_state_dict(const nb::dict& state) {
    train::Checkpoint from;
    for (const auto& [key, value] : state) {
      const auto name = nb::cast<std::string>(key);
      from.arrays.push_back({name, array_of(value, name)});
    }
    train::restore(task_, *program_, from, "load_state_dict");
    rows_ = 0;
  }
  void save(nb::handle path, const DataLoader* loader) const {
    save_checkpoint(path_of(path), task_, *program_, loader);
  }
  void load(nb::handle path, DataLoader* loader) {
    load_checkpoint(path_of(path), task_, *program_, loader);
    rows_ = 0;
  }

  [[nodiscard]] Program& program() { return *program_; }

 private:
  void take(Options options, nb::handle arena) {
    if (arena.is_none()) {
      if (options.memory_limit_bytes == 0)
        options.memory_limit_bytes = train::available_bytes(options);
      program_.emplace(train::draft_task(spec_, task_, options));
      return;
    }
    if (options.memory != Memory::planned) {
      throw ArgumentError("compile: an arena can be lent to planned memory only");
    }
    bool taken = false;
    Reader reader;
    if (options.device.kind == Device::Kind::cuda) {
      options.launcher = cuda::launcher(options.device);
      reader = {{memory::Space::cuda, options.device.index}, options.launcher->work()};
    }
    auto lender = std::make_unique<Lender>(array_of(arena, "arena", reader), reader.stream, &taken);
    options.resource = lender.get();
    try {
      program_.emplace(train::draft_task(spec_, task_, options));
    } catch (...) {
      if (taken) (void)lender.release();  // gone with the arena
      throw;
    }
    (void)lender.release();
  }

  [[nodiscard]] bool lies_on(const Device& device) const {
    const Options& mine = program_->blueprint().options;
    if (mine.launcher == nullptr) return device.kind == Device::Kind::cpu;
    return device.kind == Device::Kind::cuda && device.index == mine.device.stream.ops->device;
  }

  /// What a program elsewhere has learned, copied.
  void bring_from(const Program& other) {
    const TensorTable& from = other.blueprint().tensors;
    const TensorTable& to = program_->blueprint().tensors;
    for (int there = 0; there < from.size(); ++there) {
      const auto i = static_cast<std::size_t>(there);
      const std::string& column = from.column[i];
      if (!from.persistent(there) || from.lent(there) || column == "inputs" || column == "kept" ||
          column == "settings")
        continue;
      for (int here = 0; here < to.size(); ++here) {
        const auto j = static_cast<std::size_t>(here);
        if (to.column[j] == column && to.name[j] == from.name[i])
          program_->write({nullptr, here}, other.read({nullptr, there}));
      }
    }
  }

  std::pair<ArrayView, ArrayView> batch_of(nb::handle x, nb::handle y) const {
    const Reader reader = feeds_of(*program_);
    return {samples_of(x, reader), labels_of(y, reader)};
  }

  template <typename T>
  [[nodiscard]] T value(const Tensor& tensor) const {
    return *program_->read(tensor).template as<T>().data();
  }

  std::int64_t same_rows(const ArrayView& samples, const ArrayView& labels,
                         std::int64_t most) const {
    const std::int64_t rows = checked_rows(samples, task_.samples.shape(), "x", most);
    if (checked_rows(labels, task_.labels.shape(), "y", most) == rows) return rows;
    throw ShapeError(text("x, y: ", rows, " samples but ", labels.shape[0], " labels"));
  }

  void run(std::string_view entry, const ArrayView& samples, const ArrayView* labels) {
    const Feed feeds[] = {{task_.samples, samples}, {task_.labels, labels ? *labels : ArrayView{}}};
    const nb::gil_scoped_release others_may_run;
    program_->run(entry, std::span(feeds, labels != nullptr ? 2 : 1));
  }

  /// Another optimizer begins as if there had been no step before.
  void forget_moments() {
    zero(task_.graph->step());
    for (const char* column : {"momentum", "adam.first", "adam.second"}) {
      for (const Tensor& moment : task_.graph->column(column)) zero(moment);
    }
  }

  /// So does another loss scale.
  void forget_scale() {
    if (!spec_.minimize.grad_scaler) return;
    for (const Tensor& counter : task_.graph->column("scaler")) zero(counter);
    program_->write(
        task_.training.scale,
        ArrayView::of(std::span(&spec_.minimize.grad_scaler->init_scale, 1), {}, DType::f32));
  }

  void zero(const Tensor& tensor) {
    program_->write(tensor, new_array(tensor.shape(), tensor.spec().dtype));
  }

  train::TaskSpec spec_;
  train::Task task_;
  std::optional<Program> program_;
  std::int64_t rows_ = 0;  // of the last training batch
};

void compile_step(Step* self, nb::callable model, nb::handle batch,
                  const train::Optimizer& optimizer, const nb::dict& gradients, nb::handle previous,
                  nb::handle arena, const nb::kwargs& options) {
  const Options read = complete(options_of(options), options);
  new (self)
      Step(spec_of(std::move(model), batch, optimizer, gradients, read),
           previous.is_none() ? nullptr : &nb::cast<const Step&>(previous), arena, read, options);
}

PlanReport plan_step(nb::callable model, nb::handle batch, const train::Optimizer& optimizer,
                     const nb::dict& gradients, const nb::kwargs& options) {
  const Options read = complete(options_of(options), options);
  const train::TaskSpec spec = spec_of(std::move(model), batch, optimizer, gradients, read);
  const train::Task task = train::make_task(spec);
  const Blueprint blueprint = train::draft_task(spec, task, read);
  save_tuning(options, read);
  return plan_of(blueprint);
}

}  // namespace

void bind_step(nb::module_& module) {
  module.def("plan_step", plan_step, "model"_a, "batch"_a, "optimizer"_a, "gradients"_a,
             "options"_a);
  nb::class_<Step>(
      module, "Step",
      "A model compiled into one arena: step(x, y) trains it by one batch.\n\n"
      "x and y are NumPy arrays, tensors of any library with __dlpack__, or buffers. "
      "Dense float32 and int64 on 64 bytes\nare read where they lie, others are copied "
      "into the arena and converted. A batch may be shorter than the one compiled for.\n"
      "On a GPU all are copied into the arena, and those that lie on it must be dense and of "
      "these types.")
      .def("__init__", compile_step, "model"_a, "batch"_a, "optimizer"_a, "gradients"_a,
           "previous"_a.none(), "arena"_a.none(), "options"_a)
      .def("__call__", &Step::train, "x"_a, "y"_a,
           nb::sig("def __call__(self, x: object, y: object) -> float"),
           "Trains by one batch; the loss before the update.")
      .def("evaluate", &Step::evaluate, "x"_a, "y"_a,
           nb::sig("def evaluate(self, x: object, y: object) -> tuple[float, float]"),
           "Mean loss and accuracy over any number of samples, in batches.")
      .def("predict", &Step::predict, "x"_a, nb::sig("def predict(self, x: object) -> Tensor"),
           "Logits [n, classes] of any number of samples, in an arena of their own on the CPU.")
      .def(
          "wait_for",
          [](Step& step, nb::handle stream) {
            step.program().wait_for(stream_of(stream, step.program()));
          },
          "stream"_a = nb::none(), nb::sig("def wait_for(self, stream: object = None) -> None"),
          kWaitFor)
      .def("profile", &Step::profile, "x"_a, "y"_a, nb::kw_only(), "steps"_a = 50,
           nb::sig("def profile(self, x: object, y: object, *, steps: int = 50) -> Profile"),
           "Where the time of a training step on this batch goes, by op and layer and by thread. "
           "The "
           "steps are\nreal ones, but what they change is put back.")
      .def("state_dict", &Step::state_dict, nb::sig("def state_dict(self) -> dict[str, Tensor]"),
           "All that training goes on from, on its own bytes: the model's state_dict(), and behind "
           "'optimizer.'\nmoments, step counter and learning rate.")
      .def(
          "load_state_dict", &Step::load_state_dict, "state_dict"_a,
          nb::sig("def load_state_dict(self, state_dict: collections.abc.Mapping[str, object]) -> "
                  "None"),
          "Copies in what state_dict() answered, here or elsewhere. ValueError, before anything is "
          "changed, for\nother names, shapes or dtypes.")
      .def("save", &Step::save, "path"_a, "loader"_a.none() = nb::none(),
           nb::sig("def save(self, path: str | os.PathLike, loader: DataLoader | None = None) -> "
                   "None"),
           "Writes a checkpoint, complete or not at all: state_dict() as safetensors, the "
           "optimizer's settings, and\nwhere the loader is in its data. It is the command's, too: "
           "poolgrad train --resume.")
      .def("load", &Step::load, "path"_a, "loader"_a.none() = nb::none(),
           nb::sig("def load(self, path: str | os.PathLike, loader: DataLoader | None = None) -> "
                   "None"),
           "Goes on from a checkpoint, with the bits of a run that never stopped; the loader goes "
           "on with the next\nbatch. Before anything is changed, OSError for what is no checkpoint "
           "and ValueError for one of another\nmodel, optimizer, data or batch_size.")
      .def_prop_rw("lr", &Step::rate, &Step::set_rate, "The learning rate, from the next step on.")
      .def_prop_ro("loss_scale", &Step::loss_scale,
                   "What the loss is multiplied by before gradients are made of it; 1 without a "
                   "grad_scaler.")
      .def_prop_ro("skipped_steps", &Step::skipped_steps,
                   "How many steps changed nothing, as a gradient was not finite.")
      .def_prop_ro("accuracy", &Step::accuracy,
                   "Of the last training batch, before its update; NaN before the first.")
      .def_prop_ro(
          "plan", [](Step& step) { return plan_of(step.program().blueprint()); },
          "What lies in the arena, and how good the plan is.")
      .def_prop_ro("program", &Step::program, nb::rv_policy::reference_internal,
                   "The engine's program: its columns as flat tensors, its peak.")
      .def("named", &Step::named, "column"_a,
           nb::sig("def named(self, column: str) -> dict[str, Tensor]"),
           "The tensors of a column by name: 'parameters', 'statistics' (running means and "
           "variances),\nand under their parameters' names 'gradients' (with keep_gradients=True), "
           "'momentum',\n'adam.first', 'adam.second'.");
}

}  // namespace poolgrad::python
