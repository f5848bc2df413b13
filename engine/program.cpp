// Placing the columns, feeding inputs, lending out bytes. How steps are run is runner.cpp.
#include "engine/program.h"

#include <algorithm>
#include <cstring>

#include "engine/device_run.h"
#include "engine/random.h"
#include "engine/runner.h"
#include "engine/transfer.h"
#include "memory/pool.h"

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

void fill(const ArrayView& to, const Init& init) {
  if (to.dtype != DType::f32) return;  // counters start at 0
  const std::span<float> values = to.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = init.kind == Init::Kind::constant
                    ? init.value
                    : (2.0F * unit(draw(init.seed, init.stream, i / 4)[i % 4]) - 1.0F) * init.value;
  }
}

bool batched_input(const TensorTable& tensors, int id) {
  return tensors.column[row(id)] == "inputs" && tensors.unbatched[row(id)] == 0;
}

void check_feed(const TensorTable& tensors, const Feed& feed, memory::Place place) {
  const int id = feed.slot.id;
  if (id < 0 || id >= tensors.size() || tensors.column[row(id)] != "inputs")
    throw ArgumentError("run: a feed's slot is no input of this program");
  const Spec& spec = tensors.spec[row(id)];
  const bool batched = batched_input(tensors, id);
  Shape fits = feed.values.shape;
  if (batched && fits.rank() > 0 && fits[0] >= 1 && fits[0] <= spec.shape[0])
    fits[0] = spec.shape[0];
  if (fits != spec.shape || feed.values.data == nullptr)
    throw ShapeError(text("run: ", feed.values.shape, " does not fit input '",
                          tensors.name[row(id)], "' ", spec.shape,
                          batched ? "; only the first axis may be shorter" : ""));
  if (feed.values.place.space == memory::Space::cuda && feed.values.place != place)
    throw ArgumentError(text("run: values for input '", tensors.name[row(id)], "' lie on ",
                             to_string(feed.values.place), " but the program runs on ",
                             to_string(place), "; move them there, or to the CPU"));
}

/// How many rows the feeds have, -1 where none of them is batched.
std::int64_t check_feeds(const TensorTable& tensors, std::span<const Feed> feeds,
                         memory::Place place) {
  std::int64_t rows = -1;
  for (const Feed& feed : feeds) {
    check_feed(tensors, feed, place);
    if (!batched_input(tensors, feed.slot.id)) continue;
    const std::int64_t mine = feed.values.shape[0];
    if (rows >= 0 && mine != rows)
      throw ShapeError(text("run: input '", tensors.name[row(feed.slot.id)], "' is fed ", mine,
                            " rows but another input ", rows));
    rows = mine;
  }
  return rows;
}

void check_loan(const TensorTable& tensors, Tensor slot, const ArrayView& values,
                memory::Place place) {
  const int id = slot.id;
  if (id < 0 || id >= tensors.size() || !tensors.lent(id))
    throw ArgumentError(
        "lend: the slot is no lent table of this program; make it by Graph::lent()");
  if (values.data == nullptr) return;
  const Spec& spec = tensors.spec[row(id)];
  if (values.place != place)
    throw ArgumentError(text("lend: table '", tensors.name[row(id)], "' lies on ",
                             to_string(values.place), " but the program runs on ", to_string(place),
                             "; copy it there by to_device()"));
  if (values.shape != spec.shape || values.dtype != spec.dtype || !values.row_major() ||
      reinterpret_cast<std::uintptr_t>(values.data) % size_of(spec.dtype) != 0)
    throw ShapeError(text("lend: ", values.shape, " of ", values.dtype, " does not fit table '",
                          tensors.name[row(id)], "' ", spec.shape, " of ", spec.dtype,
                          "; it must be dense and equal, since nothing is copied"));
}

/// What views of a device's arena share: the streams on which it is written are kept too.
struct Kept {
  std::shared_ptr<Launcher> launcher;
  std::shared_ptr<memory::Arena> arena;  // goes first
};

/// Running, for as long as it lives; a second caller is refused.
class Claim {
 public:
  explicit Claim(std::atomic_flag& running) : running_(running) {
    if (running_.test_and_set(std::memory_order_acquire))
      throw DeviceError("program: it is running already; compile a second one, or wait");
  }
  ~Claim() { running_.clear(std::memory_order_release); }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

 private:
  std::atomic_flag& running_;
};

}  // namespace

struct Program::State {
  std::shared_ptr<memory::Resource> heap;  // where the caller named no resource
  memory::Resource* resource = nullptr;
  std::shared_ptr<memory::Arena> arena;
  std::unique_ptr<memory::Pool> pool;
  std::unique_ptr<Runner> runner;
  std::vector<ArrayView> views;          // per tensor; no data: planned
  std::vector<Bindings> bindings;        // per entry
  std::vector<int> lent;                 // slots whose values lie with the caller, for one run
  std::vector<std::vector<int>> tables;  // per entry: Graph::lent() tables that it reads
  std::atomic_flag running;
  std::unique_ptr<DeviceRun> device;  // where the arena is not the host's

  void take_arena(const Blueprint& blueprint) {
    const Options& options = blueprint.options;
    const bool planned = options.memory == Memory::planned;
    resource = options.resource;
    if (resource == nullptr) {
      heap =
          options.launcher ? options.launcher->memory() : std::make_shared<memory::HostResource>();
      resource = heap.get();
    }
    const std::size_t bytes = blueprint.persistent_bytes + (planned ? blueprint.scratch_bytes : 0);
    try {
      arena = heap ? std::make_shared<memory::Arena>(heap, bytes, options.guard_bytes)
                   : std::make_shared<memory::Arena>(*resource, bytes, options.guard_bytes);
    } catch (const std::bad_alloc& error) {
      throw MemoryError(text("program: no arena of ", bytes, " bytes: ", error.what()));
    } catch (const memory::CudaError& error) {
      throw DeviceError(text("program: no arena of ", bytes, " bytes: ", error.what()));
    }
    check_place(options);
    if (!options.launcher) std::memset(arena->at(0), 0, arena->bytes());
    if (options.memory == Memory::pooled) pool = std::make_unique<memory::Pool>(*resource);
    memory::Resource* source = pool ? pool.get() : resource;
    runner = std::make_unique<Runner>(planned ? nullptr : source, options.device.stream);
  }

  void check_place(const Options& options) const {
    const bool on_device = arena->place().space == memory::Space::cuda;
    if (on_device == (options.launcher != nullptr)) return;
    throw ArgumentError(text("program: the resource gives ", on_device ? "device" : "host",
                             " memory but the program runs on the ", on_device ? "CPU" : "device",
                             "; name another resource or none"));
  }

  void place_persistent(const Blueprint& blueprint) {
    const TensorTable& tensors = blueprint.tensors;
    std::vector<std::byte> image;  // of the columns, on their way to a device
    std::shared_ptr<const void> owner = arena;
    memory::Stream stream;
    if (const auto& launcher = blueprint.options.launcher) {
      image.resize(blueprint.persistent_bytes);
      owner = std::make_shared<Kept>(Kept{launcher, arena});
      stream = launcher->work();
    }
    std::int64_t rows = 0;
    for (int id = 0; id < tensors.size(); ++id) {
      const Spec& spec = tensors.spec[row(id)];
      views.push_back({nullptr, spec.shape, spec.strides(), spec.dtype, arena->place(), {}});
      if (blueprint.offset[row(id)] >= 0) {
        views.back().data = arena->at(static_cast<std::size_t>(blueprint.offset[row(id)]));
        views.back().owner = owner;
        views.back().stream = stream;
        ArrayView target = views.back();
        if (!image.empty()) target.data = image.data() + blueprint.offset[row(id)];
        fill(target, tensors.init[row(id)]);
      } else if (tensors.persistent(id) && !tensors.lent(id)) {
        views.back() =
            blueprint.options.share->find(tensors.column[row(id)], tensors.name[row(id)]);
      }
      if (batched_input(tensors, id)) rows = std::max(rows, spec.shape[0]);
    }
    if (!image.empty()) return send(blueprint, image, rows);
    set_rows(blueprint, rows);   // until a feed says otherwise, all of them
    lent.reserve(views.size());  // run() allocates nothing
  }

  /// The columns, and zeros behind them.
  void send(const Blueprint& blueprint, std::span<std::byte> image, std::int64_t rows) {
    Launcher& launcher = *blueprint.options.launcher;
    const auto count = static_cast<std::int32_t>(rows);
    if (blueprint.rows_id >= 0) {
      const std::ptrdiff_t first = blueprint.offset[row(blueprint.rows_id)],
                           second = blueprint.second_offset[row(blueprint.rows_id)];
      for (const std::ptrdiff_t at : {first, second})
        std::memcpy(image.data() + at, &count, sizeof count);
    }
    const std::size_t rest = arena->bytes() - image.size();
    settled(
        launcher, [] { return "program"; },
        [&] {
          launcher.copy(arena->at(0), image.data(), image.size(), launcher.work());
          if (rest > 0) launcher.fill(arena->at(image.size()), std::byte{0}, rest, launcher.work());
          launcher.work().synchronize();
          device =
              std::make_unique<DeviceRun>(blueprint.options.launcher, blueprint, views, *arena);
        });
  }

  void set_rows(const Blueprint& blueprint, std::int64_t rows) {
    if (blueprint.rows_id >= 0)
      *static_cast<std::int32_t*>(views[row(blueprint.rows_id)].data) =
          static_cast<std::int32_t>(rows);
  }

  /// Binds all that has bytes from now on. A device's steps are bound by DeviceRun.
  void bind(const Entry& entry, const Blueprint& blueprint) {
    bindings.emplace_back(entry, blueprint.options.threads);
    tables.emplace_back();
    Bindings& b = bindings.back();
    for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
      const int owner = entry.storages.all[row(s)].persistent;
      if (owner >= 0 && blueprint.tensors.lent(owner)) {
        if (entry.storages.all[row(s)].first >= 0) tables.back().push_back(owner);
      } else if (owner >= 0) {
        b.home[row(s)] =
            static_cast<std::byte*>(views[row(owner)].data) - entry.storages.begin[row(owner)];
        b.bind(s, b.home[row(s)]);
      } else if (blueprint.options.memory == Memory::planned && entry.requests[row(s)].bytes > 0) {
        b.bind(s, arena->at(blueprint.persistent_bytes + entry.plan.offsets[row(s)]));
      }
    }
  }

  /// Lets the steps read the values where they lie, or copies them into the slot.
  void feed(const Feed& feed) {
    const ArrayView& slot = views[row(feed.slot.id)];
    const ArrayView& values = feed.values;
    const bool dense = values.dtype == slot.dtype && values.shape == slot.shape &&
                       values.place == slot.place && values.row_major() &&
                       reinterpret_cast<std::uintptr_t>(values.data) % memory::kAlignment == 0;
    const auto alone = [&](const Bindings& b) {  // no view shares the slot's bytes
      const Storage& storage = b.entry->storages.all[row(b.entry->storages.of[row(feed.slot.id)])];
      return storage.bytes == slot.bytes();
    };
    const bool in_place = dense && std::ranges::all_of(bindings, alone);
    if (!in_place && values.data != slot.data) {  // gathered in the slot itself: there already
      ArrayView part = slot;
      if (part.shape.rank() > 0) part.shape[0] = values.shape[0];
      copy(values, part);
    }
    bind_slot(feed.slot.id, in_place ? values.data : nullptr);
    if (in_place) lent.push_back(feed.slot.id);
  }

  /// Lets every entry read a slot at `data`, or where it has bytes of its own.
  void bind_slot(int id, void* data) {
    for (Bindings& b : bindings) {
      const int s = b.entry->storages.of[row(id)];
      void* to = data != nullptr ? data : b.home[row(s)];
      if (b.base[row(s)] != to) b.bind(s, to);
    }
  }

  void lend(int id, const ArrayView& values) {
    if (device && views[row(id)].data != nullptr) device->synchronize();  // steps may read it yet
    if (device) device->lend(id, values);
    views[row(id)] = values;
    for (Bindings& b : bindings) {
      const int s = b.entry->storages.of[row(id)];
      auto* first = static_cast<std::byte*>(values.data);
      b.home[row(s)] = first == nullptr ? nullptr : first - b.entry->storages.begin[row(id)];
      b.bind(s, b.home[row(s)]);
    }
  }

  [[nodiscard]] std::optional<std::size_t> highest_changed(std::size_t from) const {
    if (!device) return arena->highest_changed(from);
    std::vector<std::byte> copy(arena->bytes() - from);
    device->read(arena->at(from), copy.data(), copy.size());
    while (!copy.empty() && copy.back() == memory::Arena::kFillPattern) copy.pop_back();
    if (copy.empty()) return {};
    return from + copy.size() - 1;
  }

  void check_loans(std::size_t entry, const Blueprint& blueprint) const {
    for (const int id : tables[entry]) {
      if (views[row(id)].data == nullptr)
        throw ArgumentError(text("run: entry '", blueprint.entries[entry].name, "' reads table '",
                                 blueprint.tensors.name[row(id)],
                                 "', which nobody lent; call Program::lend() first"));
    }
  }

  /// What the caller lent for one run is not looked at in the next.
  void take_back() {
    for (const int id : lent) bind_slot(id, nullptr);
    lent.clear();
  }
};

Program::Program(Blueprint blueprint)
    : blueprint_(std::move(blueprint)), state_(std::make_unique<State>()) {
  if (!blueprint_.options.place)
    throw ArgumentError("program: a draft without offsets cannot run; draft it with place = true");
  state_->take_arena(blueprint_);
  state_->place_persistent(blueprint_);
  for (const Entry& entry : blueprint_.entries) state_->bind(entry, blueprint_);
  blueprint_.options.share = nullptr;  // what is shared is held by the views' owners
  use_team(blueprint_.options.use_team);
}

Program::Program(Program&&) noexcept = default;
Program& Program::operator=(Program&&) noexcept = default;
Program::~Program() = default;

void Program::use_team(bool on) {
  state_->runner->muster(on, blueprint_.options.threads, blueprint_.options.adaptive);
}

void Program::run(std::string_view name, std::span<const Feed> feeds, const Observer* observer) {
  const Claim claim(state_->running);
  const auto entry = static_cast<std::size_t>(&blueprint_.entry(name) - blueprint_.entries.data());
  const std::int64_t rows = check_feeds(blueprint_.tensors, feeds, state_->arena->place());
  state_->check_loans(entry, blueprint_);
  if (state_->device) return state_->device->run(entry, feeds, rows, *state_->runner, observer);
  state_->take_back();
  for (const Feed& feed : feeds) state_->feed(feed);
  if (rows >= 0) state_->set_rows(blueprint_, rows);
  state_->runner->muster_after_fork();
  state_->runner->run(state_->bindings[entry], observer);
}

void Program::lend(Tensor slot, const ArrayView& values) {
  const Claim claim(state_->running);
  check_loan(blueprint_.tensors, slot, values, state_->arena->place());
  told("lend", slot, [&] { state_->lend(slot.id, values); });
}

/// `work()`; what fails of a device's calls says by `call`, and of which tensor, they were made.
template <typename Work>
void Program::told(const char* call, Tensor tensor, const Work& work) const {
  const auto what = [&]() -> std::string {
    if (tensor.id < 0) return call;
    const std::string& name = blueprint_.tensors.name[row(tensor.id)];
    return name.empty() ? text(call, ": tensor ", tensor.id) : text(call, ": '", name, "'");
  };
  state_->device ? settled(*blueprint_.options.launcher, what, work) : work();
}

std::size_t Program::sleeps() const { return state_->runner->sleeps(); }

void Program::write(Tensor tensor, const ArrayView& values) {
  const ArrayView to = view(tensor);
  if (values.shape != to.shape)
    throw ShapeError(text("write: ", values.shape, " does not fit '",
                          blueprint_.tensors.name[row(tensor.id)], "' ", to.shape));
  const ArrayView here = on_host(values);
  if (!state_->device) return copy(here, to);
  std::vector<std::byte> dense(to.bytes());
  copy(here, {dense.data(), to.shape, Spec{to.shape}.strides(), to.dtype, {}, {}});
  told("write", tensor,
       [&] { state_->device->write(tensor.id, to.data, dense.data(), dense.size()); });
}

ArrayView Program::read(Tensor tensor) const {
  ArrayView values = view(tensor);
  if (!state_->device) return values;
  values.place = {};
  values.stream = {};
  const auto bytes = std::make_shared<std::vector<std::byte>>();
  told("read", tensor, [&] {
    if (const void* answer = state_->device->answer(tensor.id)) {
      values.data = const_cast<void*>(answer);
      values.owner = nullptr;
      return;
    }
    bytes->resize(values.bytes());
    state_->device->read(tensor.id, values.data, bytes->data(), bytes->size());
    values.data = bytes->data();
    values.owner = bytes;
  });
  return values;
}

ArrayView Program::to_device(const ArrayView& values) const {
  const memory::Place place = state_->arena->place();
  if (values.place == place || !state_->device) return values;
  const std::shared_ptr<memory::Resource> resource = blueprint_.options.launcher->memory();
  std::shared_ptr<memory::Arena> block;
  try {
    block = std::make_shared<memory::Arena>(resource, values.bytes());
  } catch (const std::bad_alloc& error) {
    throw MemoryError(text("to_device: no ", values.bytes(), " bytes for values ", values.shape,
                           ": ", error.what()));
  }
  std::vector<std::byte> dense(values.bytes());
  ArrayView result{dense.data(), values.shape, Spec{values.shape}.strides(), values.dtype, {}, {}};
  copy(on_host(values), result);
  told("to_device", {}, [&] { state_->device->send(block->at(0), dense.data(), dense.size()); });
  result.data = block->at(0);
  result.place = place;
  result.owner = block;
  return result;
}

void Program::synchronize() const {
  if (state_->device) told("synchronize", {}, [&] { state_->device->synchronize(); });
}

void Program::wait_for(memory::Stream stream) {
  const Claim claim(state_->running);
  told("wait_for", {},
       [&] { state_->device ? state_->device->wait_for(stream) : memory::Event(stream).wait(); });
}

void Program::make_wait(memory::Stream stream) const {
  if (state_->device) told("make_wait", {}, [&] { state_->device->make_wait(stream); });
}

ArrayView Program::view(Tensor tensor) const {
  const bool known = tensor.id >= 0 && row(tensor.id) < state_->views.size();
  if (known && state_->views[row(tensor.id)].data != nullptr) return state_->views[row(tensor.id)];
  const std::string name = known ? blueprint_.tensors.name[row(tensor.id)] : "";
  const std::string shown = name.empty() ? text("tensor ", tensor.id) : name;
  if (known && blueprint_.tensors.lent(tensor.id))
    throw ExportError(
        text("view: table '", shown, "' is lent but nobody did so; call lend() first"));
  throw ExportError(text("view: '", shown, "' has bytes the plan reuses; call keep(", shown,
                         ") before compile()"));
}

ArrayView Program::find(std::string_view column, std::string_view name) const {
  const TensorTable& tensors = blueprint_.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    if (tensors.column[row(id)] == column && tensors.name[row(id)] == name)
      return state_->views[row(id)];
  }
  throw ArgumentError(text("program: column '", column, "' has no '", name, "'"));
}

ArrayView Program::column(std::string_view name, DType dtype) const {
  const TensorTable& tensors = blueprint_.tensors;
  ArrayView flat;
  const std::byte* end = nullptr;
  for (int id = 0; id < tensors.size(); ++id) {
    if (tensors.column[row(id)] != name || tensors.spec[row(id)].dtype != dtype) continue;
    const ArrayView& part = state_->views[row(id)];
    if (flat.data == nullptr) flat = part;
    end = static_cast<const std::byte*>(part.data) + memory::aligned(part.bytes());
  }
  if (flat.data == nullptr)
    throw ArgumentError(text("column: there is no '", name, "' of ", dtype));
  const std::ptrdiff_t bytes = end - static_cast<const std::byte*>(flat.data);
  flat.shape = Shape{bytes / static_cast<std::ptrdiff_t>(size_of(dtype))};
  flat.strides = Shape{1};
  return flat;
}

void Program::watch_peak() {
  state_->runner->reset_peak();
  if (blueprint_.options.memory != Memory::planned) return;
  if (!state_->device) return state_->arena->fill(blueprint_.persistent_bytes);
  told("watch_peak", {}, [&] {
    state_->device->fill(state_->arena->at(blueprint_.persistent_bytes), blueprint_.scratch_bytes,
                         memory::Arena::kFillPattern);
  });
}

std::size_t Program::measured_peak_bytes() const {
  const std::size_t base = blueprint_.persistent_bytes;
  if (blueprint_.options.memory != Memory::planned) return base + state_->runner->peak_bytes();
  std::optional<std::size_t> highest;
  told("measured_peak_bytes", {}, [&] { highest = state_->highest_changed(base); });
  if (!highest) return base;
  std::size_t end = *highest + 1;
  for (const Entry& entry : blueprint_.entries) {
    for (std::size_t s = 0; s < entry.requests.size(); ++s) {
      const std::size_t begin = base + entry.plan.offsets[s];
      const std::size_t slot_end = begin + memory::aligned(entry.requests[s].bytes);
      if (entry.requests[s].bytes > 0 && begin <= *highest && *highest < slot_end)
        end = std::max(end, slot_end);
    }
  }
  return end;
}

bool Program::guards_intact() const { return state_->arena->guards_intact(); }

void* Program::address(const Entry& entry, int storage) const {
  for (const Bindings& b : state_->bindings) {
    if (b.entry == &entry) return b.base[row(storage)];
  }
  return nullptr;
}

Program compile(const Graph& graph, const std::vector<EntryPoint>& entries,
                const Options& options) {
  return Program(draft(graph, entries, options));
}

}  // namespace poolgrad
