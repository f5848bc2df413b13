// Three slots in turn, and iteration as Python has it.
#include "python/bindings/loader.h"

#include <algorithm>
#include <atomic>

#include "engine/error.h"
#include "train/task.h"

namespace poolgrad::python {
namespace {

/// Dense, on the bytes that were given where they are.
ArrayView dense(nb::handle object, std::string_view name) {
  const ArrayView array = array_of(object, name);
  return array.row_major() ? array : clone(array);
}

ArrayView samples_of(nb::handle x) {
  const ArrayView array = dense(x, "x");
  if (array.dtype != DType::f32 && array.dtype != DType::u8)
    throw ArgumentError(text("x: samples of ", array.dtype, "; convert them to float32 or uint8"));
  if (array.shape.rank() < 2 || array.shape.count() == 0)
    throw ShapeError(text("x: ", array.shape, " are no samples; give [n, ...]"));
  return array;
}

ArrayView labels_of(nb::handle y, const ArrayView& x) {
  const ArrayView array = dense(y, "y");
  if (array.dtype != DType::i64 && array.dtype != DType::i32 && array.dtype != DType::u8)
    throw ArgumentError(
        text("y: labels of ", array.dtype, "; convert them to int64, int32 or uint8"));
  if (array.shape != Shape{x.shape[0]})
    throw ShapeError(text("x, y: ", x.shape[0], " samples but labels ", array.shape,
                          "; give one label for each"));
  return array;
}

DataLoader::Batch data_of(nb::handle x, nb::handle y) {
  const ArrayView samples = samples_of(x);
  return {samples, labels_of(y, samples)};
}

/// For a batch of them, zeros at first.
ArrayView slot(const ArrayView& column, std::int64_t batch, DType dtype) {
  Shape shape = column.shape;
  shape[0] = batch;
  return new_array(shape, dtype);
}

GatherKernel kernel(const ArrayView& column, std::int64_t batch, const Gather& how) {
  Shape shape = column.shape;
  shape[0] = batch;
  return {{column.shape, column.dtype}, {shape, how.dtype}, how};
}

bool held(const DataLoader::Batch& slot) {
  return slot.x.owner.use_count() > 1 || slot.y.owner.use_count() > 1;
}

}  // namespace

DataLoader::DataLoader(nb::handle x, nb::handle y, std::int64_t batch, bool shuffle,
                       std::uint64_t seed, bool read_ahead)
    : data_(data_of(x, y)),
      shuffle_(shuffle),
      batches_(data_.x.shape[0], batch, seed),
      at_{.seed = seed, .samples = batches_.samples(), .batch = batch},
      gather_x_(kernel(data_.x, batch, train::as_pixels(data_.x.dtype))),
      gather_y_(kernel(data_.y, batch, {DType::i64})) {
  if (read_ahead) stream_.emplace();
}

int DataLoader::begin() {
  if (stream_ && filling_ != nullptr) stream_->synchronize();  // of an epoch that was given up
  filling_ = nullptr;
  if (!within_epoch_ && at_.steps > 0) {
    ++at_.epochs;
    at_.steps = 0;
  }
  within_epoch_ = false;
  if (shuffle_) {
    batches_.shuffle(at_.epochs + 1);
  } else {
    batches_.in_order();
  }
  batches_.skip(at_.steps);
  return ++begun_;
}

std::optional<DataLoader::Batch> DataLoader::next(int begun) {
  if (begun != begun_)
    throw std::runtime_error(
        "DataLoader: another loop over it has begun; give each a loader of its own");
  if (filling_ == nullptr && !start()) {
    ++at_.epochs;
    at_.steps = 0;
    return {};
  }
  if (stream_) {
    const nb::gil_scoped_release others_may_run;
    stream_->synchronize();
  }
  const Batch batch = *std::exchange(filling_, nullptr);
  ++at_.steps;
  if (stream_) (void)start();
  return batch;
}

void DataLoader::check(const train::Position& at, std::string_view name) const {
  train::check(at, at_, name);
}

void DataLoader::go_on_from(const train::Position& at) {
  at_ = at;
  within_epoch_ = true;
  ++begun_;
}

/// Has the next batch gathered, or gathers it; false at the end of the epoch.
bool DataLoader::start() {
  const std::span<const std::int32_t> rows = batches_.next();
  if (rows.empty()) return false;
  Batch& slot = free_slot();
  slot.x.shape[0] = slot.y.shape[0] = static_cast<std::int64_t>(rows.size());
  filling_ = &slot;
  if (stream_) {
    stream_->enqueue([this, rows, &slot] { gather(rows, slot); });
  } else {
    const nb::gil_scoped_release others_may_run;
    gather(rows, slot);
  }
  return true;
}

/// Bytes that nobody looks at; new ones where all of ours are held.
DataLoader::Batch& DataLoader::free_slot() {
  for (Batch& slot : slots_) {
    if (slot.x.data == nullptr || held(slot)) continue;
    std::atomic_thread_fence(std::memory_order_acquire);  // whoever let go of it has read it
    return slot;
  }
  Batch& slot = slots_[turn_];
  turn_ = (turn_ + 1) % slots_.size();
  slot = {python::slot(data_.x, batches_.batch(), DType::f32),
          python::slot(data_.y, batches_.batch(), DType::i64)};
  return slot;
}

void DataLoader::gather(std::span<const std::int32_t> rows, const Batch& slot) const {
  gather_x_(data_.x.data, rows, slot.x.data);
  gather_y_(data_.y.data, rows, slot.y.data);
}

namespace {

/// One loop over the batches.
struct Iterator {
  nb::object loader;
  int begun;
  bool ended = false;

  nb::tuple next() {
    if (!ended) {
      if (auto batch = nb::cast<DataLoader&>(loader).next(begun))
        return nb::make_tuple(std::move(batch->x), std::move(batch->y));
    }
    ended = true;
    throw nb::stop_iteration();
  }
};

nb::dict state_of(const DataLoader& loader) {
  const train::Position& at = loader.at();
  nb::dict state;
  state["epochs"] = at.epochs;
  state["steps"] = at.steps;
  state["seed"] = at.seed;
  state["samples"] = at.samples;
  state["batch_size"] = at.batch;
  return state;
}

void load_state(DataLoader& loader, const nb::dict& state) {
  const auto number = [&](const char* key) {
    if (!state.contains(key))
      throw ArgumentError(text("load_state_dict: there is no '", key,
                               "'; give what a DataLoader's state_dict() answered"));
    return nb::cast<std::int64_t>(nb::object(state[key]));
  };
  train::Position at{.epochs = number("epochs"),
                     .steps = number("steps"),
                     .samples = number("samples"),
                     .batch = number("batch_size")};
  (void)number("seed");
  at.seed = nb::cast<std::uint64_t>(nb::object(state["seed"]));
  loader.check(at, "load_state_dict");
  loader.go_on_from(at);
}

}  // namespace

void bind_loader(nb::module_& module) {
  nb::class_<Iterator>(module, "BatchIterator", "A loop over a DataLoader.")
      .def("__iter__", [](nb::handle self) { return nb::borrow(self); })
      .def("__next__", &Iterator::next, nb::sig("def __next__(self) -> tuple[Tensor, Tensor]"));
  nb::class_<DataLoader>(
      module, "DataLoader",
      R"(Samples and labels in batches: for x, y in loader: step(x, y). Each loop is an epoch.

Both are arrays on the CPU, which stay where they are: x [n, ...] of float32, or of uint8 that stand
for 0 to 1, y [n] of int64, int32 or uint8. A batch is a pair of tensors, float32 and int64, that a
step reads in place; its bytes are used again once nobody holds them. The order follows from seed
and epoch alone and is that of `poolgrad train`; the last batch may be short.

read_ahead=True gathers the next batch on a thread of its own while a step runs. The bits are the
same; it pays where a core is spare.)")
      .def(nb::init<nb::handle, nb::handle, std::int64_t, bool, std::uint64_t, bool>(), "x"_a,
           "y"_a, nb::kw_only(), "batch_size"_a = 64, "shuffle"_a = true, "seed"_a = 0,
           "read_ahead"_a = false,
           nb::sig("def __init__(self, x: object, y: object, *, batch_size: int = 64, shuffle: "
                   "bool = True, seed: int = 0, read_ahead: bool = False) -> None"))
      .def(
          "__iter__",
          [](nb::handle self) {
            return Iterator{nb::borrow(self), nb::cast<DataLoader&>(self).begin()};
          },
          nb::sig("def __iter__(self) -> BatchIterator"))
      .def("__len__", &DataLoader::per_epoch)
      .def_prop_ro(
          "epochs", [](const DataLoader& loader) { return loader.at().epochs; },
          "Whole epochs so far: range(loader.epochs, 5) are those to do, also after a load.")
      .def("state_dict", state_of, nb::sig("def state_dict(self) -> dict[str, int]"),
           "Behind the last batch given, and in which order.")
      .def("load_state_dict", load_state, "state_dict"_a,
           nb::sig("def load_state_dict(self, state_dict: dict[str, int]) -> None"),
           "The next loop goes on there. ValueError for other data, batch_size or seed.");
}

}  // namespace poolgrad::python
