// Running: one loop per member over bound addresses. Bytes that are asked for at run time are bound at
// their birth; planned ones once.
#include "engine/program.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "engine/backend/one_thread.h"
#include "engine/random.h"

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

void fill(const ArrayView& to, const Init& init) {
  std::memset(to.data, 0, to.bytes());
  if (to.dtype != DType::f32) return;  // counters start at 0
  const std::span<float> values = to.as<float>();
  if (init.kind == Init::Kind::constant) {
    std::ranges::fill(values, init.value);
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint32_t bits = draw(init.seed, init.stream, i / 4)[i % 4];
    values[i] = (2.0F * unit(bits) - 1.0F) * init.value;
  }
}

/// The most bytes that a resource has alive, by whoever asks through it.
struct Live {
  std::atomic<std::size_t> now = 0, peak = 0;
  void add(std::size_t bytes) {
    const std::size_t sum = now.fetch_add(bytes) + bytes;
    for (std::size_t seen = peak; seen < sum && !peak.compare_exchange_weak(seen, sum);) continue;
  }
};

/// What an entry needs to run: every argument of every step, and where storages lie now.
struct Runner {
  const Entry* entry = nullptr;
  std::vector<void*> addresses{};  // all arguments of all steps, end to end
  std::vector<Args> args{};        // per step
  std::vector<void*> base{};       // per storage; nullptr: no bytes at the moment
  std::vector<void*> home{};       // per persistent storage: where it lies unless a feed is bound
  std::vector<std::vector<std::pair<int, std::ptrdiff_t>>> users{};  // storage -> (argument, begin)
  std::vector<std::vector<int>> lists{};  // per member: steps, and -1 where the phase ends

  void bind(int storage, void* data) {
    base[row(storage)] = data;
    for (const auto& [argument, begin] : users[row(storage)])
      addresses[row(argument)] = static_cast<std::byte*>(data) + begin;
  }
};

Runner runner(const Entry& entry, int members) {
  Runner result{.entry = &entry};
  result.base.resize(entry.storages.all.size());
  result.home.resize(entry.storages.all.size());
  result.users.resize(entry.storages.all.size());
  std::vector<std::size_t> starts;
  int argument = 0;
  for (const Step& step : entry.steps) {
    const Node& node = entry.graph->nodes[row(step.node)];
    starts.push_back(row(argument));
    for (const auto* ids : {&node.inputs, &node.outputs}) {
      for (const int id : *ids) {
        result.users[row(entry.storages.of[row(id)])].emplace_back(
            argument++, entry.storages.begin[row(id)]);
      }
    }
    if (step.workspace >= 0) result.users[row(step.workspace)].emplace_back(argument, 0);
    ++argument;
  }
  result.addresses.resize(row(argument));
  result.lists.resize(row(members));
  int phase = 0;
  for (std::size_t i = 0; i < entry.steps.size(); ++i) {
    const Step& step = entry.steps[i];
    const Node& node = entry.graph->nodes[row(step.node)];
    void** first = result.addresses.data() + starts[i];
    result.args.push_back({first, first + node.inputs.size(),
                           first + node.inputs.size() + node.outputs.size()});
    for (; phase < step.phase; ++phase)
      for (auto& list : result.lists) list.push_back(-1);
    result.lists[row(step.member)].push_back(static_cast<int>(i));
  }
  return result;
}

}  // namespace

struct Program::State {
  std::shared_ptr<memory::Resource> heap;  // where the caller named no resource
  std::shared_ptr<memory::Arena> arena;
  std::unique_ptr<memory::Pool> pool;
  memory::Resource* source = nullptr;  // of planned tensors, when their bytes are asked for at run time
  memory::Stream stream{};
  Live live{};
  std::vector<ArrayView> views;  // per tensor; no data: planned
  std::vector<Runner> runners;   // per entry
  std::unique_ptr<Team> team;
  bool want_team = false;
  std::atomic_flag running;
  std::atomic<bool> failed = false;
  std::exception_ptr failure;

  // ---- bytes at run time

  void take(Runner& r, const std::vector<int>& storages) {
    for (const int s : storages) {
      const std::size_t bytes = memory::aligned(r.entry->storages.all[row(s)].bytes);
      r.bind(s, source->allocate_on(stream, bytes, memory::kAlignment));
      live.add(bytes);
    }
  }
  void give(Runner& r, const std::vector<int>& storages) {
    for (const int s : storages) {
      const std::size_t bytes = memory::aligned(r.entry->storages.all[row(s)].bytes);
      source->deallocate_on(stream, r.base[row(s)], bytes, memory::kAlignment);
      r.base[row(s)] = nullptr;
      live.now -= bytes;
    }
  }
  void give_all(Runner& r) {
    for (int s = 0; s < static_cast<int>(r.base.size()); ++s) {
      if (r.entry->requests[row(s)].bytes > 0 && r.base[row(s)] != nullptr) give(r, {s});
    }
  }
  /// The end of phase `phase` - 1 and the beginning of `phase`, for bytes that several members touch.
  void cross(Runner& r, std::size_t phase) {
    const std::vector<Edge>& edges = r.entry->edges;
    if (phase > 0) give(r, edges[phase - 1].dead);
    if (phase < edges.size()) take(r, edges[phase].born);
  }

  // ---- the loops

  template <bool kDynamic, bool kObserved>
  void step(Runner& r, int i, const Observer* observer) {
    const Step& s = r.entry->steps[row(i)];
    if constexpr (kDynamic) take(r, s.born);
    if constexpr (kObserved) {
      if (observer->before) observer->before(*r.entry, s);
    }
    s.kernel->run(r.args[row(i)]);
    if constexpr (kObserved) {
      if (observer->after) observer->after(*r.entry, s);
    }
    if constexpr (kDynamic) give(r, s.dead);
  }

  void fail() {
    if (!failed.exchange(true)) failure = std::current_exception();
  }
  template <typename F>
  void guarded(const F& work) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      work();
    } catch (...) {
      fail();
    }
  }

  /// One thread, all members' shares: within a phase in the order of the list.
  template <bool kDynamic, bool kObserved>
  void alone(Runner& r, const Observer* observer) {
    guarded([&] {
      std::size_t phase = 0;
      if constexpr (kDynamic) cross(r, 0);
      for (int i = 0; i < static_cast<int>(r.entry->steps.size()); ++i) {
        if constexpr (kDynamic) {
          while (phase < row(r.entry->steps[row(i)].phase)) cross(r, ++phase);
        }
        step<kDynamic, kObserved>(r, i, observer);
      }
      if constexpr (kDynamic) cross(r, r.entry->edges.size());
    });
  }

  template <bool kDynamic, bool kObserved>
  void together(Runner& r, const Observer* observer) {
    if constexpr (kDynamic) guarded([&] { cross(r, 0); });
    auto work = [&](int member) {
      std::size_t phase = 0;
      for (const int i : r.lists[row(member)]) {
        if (i >= 0) {
          guarded([&] { step<kDynamic, kObserved>(r, i, observer); });
          continue;
        }
        team->meet();
        if constexpr (kDynamic) {
          ++phase;
          if (member == 0) guarded([&] { cross(r, phase); });
          team->meet();
        }
      }
    };
    team->run(work);
    if constexpr (kDynamic) guarded([&] { cross(r, r.entry->edges.size()); });
  }

  void run(Runner& r, bool dynamic, const Observer* observer) {
    const OneThread guard;
    const auto choose = [&]<bool kDynamic, bool kObserved>() {
      team ? together<kDynamic, kObserved>(r, observer) : alone<kDynamic, kObserved>(r, observer);
    };
    if (dynamic) {
      observer ? choose.template operator()<true, true>() : choose.template operator()<true, false>();
    } else {
      observer ? choose.template operator()<false, true>()
               : choose.template operator()<false, false>();
    }
    if (!failed) return;
    if (dynamic) give_all(r);
    failed = false;
    std::rethrow_exception(std::exchange(failure, nullptr));
  }

  void muster(int members) {
    if (team && team->forked()) (void)team.release();  // its threads are the parent's: nobody to join
    if (!want_team || members == 1) return team.reset();
    if (!team) team = std::make_unique<Team>(members, use_one_thread);
  }
};

namespace {

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

/// Rows of a feed, or -1 where its slot has no batch axis.
std::int64_t rows_of(const TensorTable& tensors, const Feed& feed) {
  return tensors.unbatched[row(feed.slot.id)] != 0 ? -1 : feed.values.shape[0];
}

void check_feed(const TensorTable& tensors, const Feed& feed) {
  const int id = feed.slot.id;
  if (id < 0 || id >= tensors.size() || tensors.column[row(id)] != "inputs")
    throw ArgumentError("run: a feed's slot is no input of this program");
  const Spec& spec = tensors.spec[row(id)];
  Shape fits = feed.values.shape;
  if (tensors.unbatched[row(id)] == 0 && fits.rank() > 0 && fits[0] >= 1 &&
      fits[0] <= spec.shape[0])
    fits[0] = spec.shape[0];
  if (fits == spec.shape && feed.values.data != nullptr) return;
  throw ShapeError(text("run: ", feed.values.shape, " does not fit input '", tensors.name[row(id)],
                        "' ", spec.shape,
                        tensors.unbatched[row(id)] == 0 ? "; only the first axis may be shorter" : ""));
}

}  // namespace

Program::Program(Blueprint blueprint)
    : blueprint_(std::move(blueprint)), state_(std::make_unique<State>()) {
  State& state = *state_;
  const Options& options = blueprint_.options;
  const bool planned = options.memory == Memory::planned;
  memory::Resource* resource = options.resource;
  if (resource == nullptr) {
    state.heap = std::make_shared<memory::HostResource>();
    resource = state.heap.get();
  }
  const std::size_t bytes =
      blueprint_.persistent_bytes + (planned ? blueprint_.scratch_bytes : 0);
  try {
    state.arena = state.heap ? std::make_shared<memory::Arena>(state.heap, bytes, options.guard_bytes)
                             : std::make_shared<memory::Arena>(*resource, bytes, options.guard_bytes);
  } catch (const std::bad_alloc& error) {
    throw MemoryError(text("program: no arena of ", bytes, " bytes: ", error.what()));
  }
  std::memset(state.arena->at(0), 0, state.arena->bytes());
  if (options.memory == Memory::pooled) {
    state.pool = std::make_unique<memory::Pool>(*resource);
    resource = state.pool.get();
  }
  state.source = resource;
  state.stream = options.device.stream;
  state.live.add(blueprint_.persistent_bytes);

  const TensorTable& tensors = blueprint_.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    const Spec& spec = tensors.spec[row(id)];
    state.views.push_back({nullptr, spec.shape, spec.strides(), spec.dtype, state.arena->place(), {}});
    if (!tensors.persistent(id)) continue;
    ArrayView& view = state.views.back();
    if (blueprint_.offset[row(id)] >= 0) {
      view.data = state.arena->at(static_cast<std::size_t>(blueprint_.offset[row(id)]));
      view.owner = state.arena;
      fill(view, tensors.init[row(id)]);
    } else {
      view = options.share->find(tensors.column[row(id)], tensors.name[row(id)]);
    }
  }
  if (blueprint_.rows_id >= 0) {
    std::int64_t rows = 0;  // until a feed says otherwise, all of them
    for (int id = 0; id < tensors.size(); ++id) {
      if (tensors.column[row(id)] == "inputs" && tensors.unbatched[row(id)] == 0)
        rows = std::max(rows, tensors.spec[row(id)].shape[0]);
    }
    *static_cast<std::int32_t*>(state.views[row(blueprint_.rows_id)].data) =
        static_cast<std::int32_t>(rows);
  }
  for (const Entry& entry : blueprint_.entries) {
    state.runners.push_back(runner(entry, options.threads));
    Runner& r = state.runners.back();
    for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
      const int owner = entry.storages.all[row(s)].persistent;
      if (owner >= 0) {
        r.home[row(s)] = static_cast<std::byte*>(state.views[row(owner)].data) -
                         entry.storages.begin[row(owner)];
        r.bind(s, r.home[row(s)]);
      } else if (planned && entry.requests[row(s)].bytes > 0) {
        r.bind(s, state.arena->at(blueprint_.persistent_bytes + entry.plan.offsets[row(s)]));
      }
    }
  }
  blueprint_.options.share = nullptr;  // what is shared is held by the views' owners
  use_team(options.use_team);
}

Program::Program(Program&&) noexcept = default;
Program& Program::operator=(Program&&) noexcept = default;
Program::~Program() = default;

void Program::use_team(bool on) {
  state_->want_team = on;
  state_->muster(blueprint_.options.threads);
}

void Program::run(std::string_view name, std::span<const Feed> feeds, const Observer* observer) {
  State& state = *state_;
  const Claim claim(state.running);
  const TensorTable& tensors = blueprint_.tensors;
  Runner& r = state.runners[static_cast<std::size_t>(&blueprint_.entry(name) -
                                                     blueprint_.entries.data())];
  std::int64_t rows = -1;
  for (const Feed& feed : feeds) {
    check_feed(tensors, feed);
    const std::int64_t mine = rows_of(tensors, feed);
    if (mine >= 0 && rows >= 0 && mine != rows)
      throw ShapeError(text("run: input '", tensors.name[row(feed.slot.id)], "' is fed ", mine,
                            " rows but another input ", rows));
    rows = std::max(rows, mine);
  }
  for (const Feed& feed : feeds) bind_or_copy(feed);
  if (rows >= 0 && blueprint_.rows_id >= 0)
    *static_cast<std::int32_t*>(state.views[row(blueprint_.rows_id)].data) =
        static_cast<std::int32_t>(rows);
  if (state.team && state.team->forked()) state.muster(blueprint_.options.threads);
  state.run(r, blueprint_.options.memory != Memory::planned, observer);
}

void Program::bind_or_copy(const Feed& feed) {
  const ArrayView& slot = state_->views[row(feed.slot.id)];
  const ArrayView& values = feed.values;
  const bool in_place = values.dtype == slot.dtype && values.shape == slot.shape &&
                        values.place == slot.place && values.row_major() &&
                        reinterpret_cast<std::uintptr_t>(values.data) % memory::kAlignment == 0;
  if (!in_place && values.data != slot.data) {
    ArrayView part = slot;
    if (part.shape.rank() > 0) part.shape[0] = values.shape[0];
    copy(values, part);
  }
  for (Runner& r : state_->runners) {
    const int s = r.entry->storages.of[row(feed.slot.id)];
    const Storage& storage = r.entry->storages.all[row(s)];
    if (storage.first < 0 || storage.persistent != feed.slot.id) continue;
    void* data = in_place && storage.bytes == values.bytes() ? values.data : r.home[row(s)];
    if (in_place && data != values.data) copy(values, slot);
    if (r.base[row(s)] != data) r.bind(s, data);
  }
}

void Program::write(Tensor tensor, const ArrayView& values) {
  const ArrayView to = view(tensor);
  if (values.shape != to.shape)
    throw ShapeError(text("write: ", values.shape, " does not fit '",
                          blueprint_.tensors.name[row(tensor.id)], "' ", to.shape));
  copy(values, to);
}

ArrayView Program::view(Tensor tensor) const {
  const bool known = tensor.id >= 0 && row(tensor.id) < state_->views.size();
  if (known && state_->views[row(tensor.id)].data != nullptr) return state_->views[row(tensor.id)];
  const std::string name = known ? blueprint_.tensors.name[row(tensor.id)] : "";
  const std::string shown = name.empty() ? text("tensor ", tensor.id) : name;
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
  state_->live.peak = state_->live.now.load();
  if (blueprint_.options.memory == Memory::planned)
    state_->arena->fill(blueprint_.persistent_bytes);
}

std::size_t Program::measured_peak_bytes() const {
  if (blueprint_.options.memory != Memory::planned) return state_->live.peak;
  const std::size_t base = blueprint_.persistent_bytes;
  const std::optional<std::size_t> highest = state_->arena->highest_changed(base);
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
  for (const Runner& r : state_->runners) {
    if (r.entry == &entry) return r.base[row(storage)];
  }
  return nullptr;
}

Program compile(const Graph& graph, const std::vector<EntryPoint>& entries,
                const Options& options) {
  return Program(draft(graph, entries, options));
}

}  // namespace poolgrad
