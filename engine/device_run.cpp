// Two sides, three queues (the caller, copies, work) and the events between them.
#include "engine/device_run.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

namespace poolgrad {
namespace {

constexpr std::size_t kSmall = 64;  // bytes of an answer that comes back by itself

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Whether a node of the entry makes this tensor.
bool makes(const Entry& entry, int id) {
  return std::ranges::any_of(entry.graph->nodes, [&](const Node& node) {
    return std::ranges::count(node.outputs, id) > 0;
  });
}

bool on_device(const Feed& feed) { return feed.values.place.space == memory::Space::cuda; }

/// Abandons a recording unless all went well: a stream left recording is of no use to anybody.
class RecordingGuard {
 public:
  explicit RecordingGuard(Launcher& launcher) : launcher_(&launcher) { launcher.begin_recording(); }
  RecordingGuard(const RecordingGuard&) = delete;
  RecordingGuard& operator=(const RecordingGuard&) = delete;
  ~RecordingGuard() {
    if (launcher_ == nullptr) return;
    try {
      (void)launcher_->end_recording();
    } catch (...) {  // what broke it is on its way already
    }
  }
  [[nodiscard]] Launcher::Recording end() {
    return std::exchange(launcher_, nullptr)->end_recording();
  }

 private:
  Launcher* launcher_;
};

/// A range for profilers, ended at the latest where it goes out of scope.
class Range {
 public:
  explicit Range(Launcher& launcher) : launcher_(launcher) {}
  Range(Launcher& launcher, Launcher::RangeName name) : launcher_(launcher) { begin(name); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
  ~Range() { end(); }
  void begin(Launcher::RangeName name) {
    launcher_.begin_range(name);
    open_ = true;
  }
  void end() {
    if (std::exchange(open_, false)) launcher_.end_range();
  }

 private:
  Launcher& launcher_;
  bool open_ = false;
};

}  // namespace

DeviceRun::DeviceRun(std::shared_ptr<Launcher> launcher, const Blueprint& blueprint,
                     const std::vector<ArrayView>& views, const memory::Arena& arena)
    : launcher_(std::move(launcher)),
      rows_id_(blueprint.rows_id),
      replays_(blueprint.options.memory == Memory::planned && blueprint.options.replay),
      arena_(arena.at(0), arena.bytes()) {
  std::size_t bytes = 0;  // two pieces per slot and per answer
  const TensorTable& tensors = blueprint.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    const std::string& column = tensors.column[row(id)];
    const std::size_t own = tensors.spec[row(id)].bytes();
    if (column == "inputs" || (column == "kept" && own <= kSmall))
      bytes += 2 * memory::aligned(own);
  }
  try {
    pinned_ = std::make_unique<memory::Arena>(launcher_->pinned(), bytes);
  } catch (const std::bad_alloc& error) {
    throw MemoryError(
        text("program: no ", bytes, " bytes of host memory for feeds and answers: ", error.what()));
  }
  make_slots(blueprint, views, arena);
  make_answers(blueprint, views);
  make_lanes(blueprint, views, arena);
}

DeviceRun::~DeviceRun() { settle(*launcher_); }

std::byte* DeviceRun::take_pinned(std::size_t bytes) {
  return pinned_->at(std::exchange(pinned_used_, pinned_used_ + memory::aligned(bytes)));
}

void DeviceRun::make_slots(const Blueprint& blueprint, const std::vector<ArrayView>& views,
                           const memory::Arena& arena) {
  for (int id = 0; id < blueprint.tensors.size(); ++id) {
    if (blueprint.tensors.column[row(id)] != "inputs") continue;
    const Spec& spec = blueprint.tensors.spec[row(id)];
    auto* const first = static_cast<std::byte*>(views[row(id)].data);
    auto* const second = arena.at(static_cast<std::size_t>(blueprint.second_offset[row(id)]));
    slots_.push_back({id,
                      blueprint.tensors.name[row(id)],
                      spec,
                      {first, second},
                      {take_pinned(spec.bytes()), take_pinned(spec.bytes())},
                      {true, true}});
  }
}

void DeviceRun::make_answers(const Blueprint& blueprint, const std::vector<ArrayView>& views) {
  for (int id = 0; id < blueprint.tensors.size(); ++id) {
    const std::size_t bytes = blueprint.tensors.spec[row(id)].bytes();
    if (blueprint.tensors.column[row(id)] != "kept" || bytes > kSmall) continue;
    const auto* const device = static_cast<const std::byte*>(views[row(id)].data);
    answers_.push_back(std::make_unique<Answer>(
        Answer{id, bytes, device, {take_pinned(bytes), take_pinned(bytes)}}));
  }
}

void DeviceRun::name_ranges(Lanes& lanes, const Entry& entry) {
  lanes.name = launcher_->name_range(entry.name);
  for (const Step& step : entry.steps) {
    const Node& node = entry.graph->nodes[row(step.node)];
    const std::string& layer = entry.graph->layer_of(node);
    lanes.node_names.push_back(launcher_->name_range(
        layer.empty() ? text(node.op->name) : text(node.op->name, " (", layer, ")")));
  }
}

void DeviceRun::make_lanes(const Blueprint& blueprint, const std::vector<ArrayView>& views,
                           const memory::Arena& arena) {
  const int members = blueprint.options.threads;
  for (const Entry& entry : blueprint.entries) {
    lanes_.push_back({{Lane{Bindings(entry, members)}, Lane{Bindings(entry, members)}}});
    Lanes& lanes = lanes_.back();
    name_ranges(lanes, entry);
    for (std::size_t side = 0; side < 2; ++side) {
      Bindings& b = lanes.of[side].bindings;
      for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
        const int owner = entry.storages.all[row(s)].persistent;
        if (owner >= 0 && blueprint.tensors.lent(owner)) {
          if (side == 0 && entry.storages.all[row(s)].first >= 0) lanes.tables.push_back(owner);
        } else if (owner >= 0) {
          auto* data = static_cast<std::byte*>(views[row(owner)].data);
          if (blueprint.tensors.column[row(owner)] == "inputs") data = slot(owner).device[side];
          b.bind(s, data - entry.storages.begin[row(owner)]);
        } else if (blueprint.options.memory == Memory::planned &&
                   entry.requests[row(s)].bytes > 0) {
          b.bind(s, arena.at(blueprint.persistent_bytes + entry.plan.offsets[row(s)]));
        }
      }
    }
    for (const auto& answer : answers_) {
      if (makes(entry, answer->id)) lanes.answers.push_back(answer.get());
    }
  }
}

DeviceRun::Slot& DeviceRun::slot(int id) { return *std::ranges::find(slots_, id, &Slot::id); }

/// Host values in pinned memory, as the slot has them; what lies on the device already stays there.
void DeviceRun::stage(const Feed& feed, std::size_t side) {
  const Slot& to = slot(feed.slot.id);
  if (on_device(feed)) {
    if (feed.values.dtype != to.spec.dtype || !feed.values.row_major())
      throw ArgumentError(text("run: values on the device for input '", to.name,
                               "' are not dense ones of ", to.spec.dtype, "; convert them first"));
    return;
  }
  ArrayView part{to.pinned[side], to.spec.shape, to.spec.strides(), to.spec.dtype, {}, {}};
  if (part.shape.rank() > 0) part.shape[0] = feed.values.shape[0];
  copy(feed.values, part);
}

void DeviceRun::fill_slot(const Feed& feed, std::size_t side) {
  Slot& to = slot(feed.slot.id);
  const std::size_t bytes =
      static_cast<std::size_t>(feed.values.shape.count()) * size_of(to.spec.dtype);
  const void* from = on_device(feed) ? feed.values.data : to.pinned[side];
  launcher_->copy(to.device[side], from, bytes, launcher_->copies());
  to.fresh = {side == 0, side == 1};
}

bool DeviceRun::in_arena(const Feed& feed) const {
  const std::less<const void*> before;
  return !before(feed.values.data, arena_.data()) &&
         before(feed.values.data, arena_.data() + arena_.size());
}

void DeviceRun::wait_for_producers(std::span<const Feed> feeds, std::size_t side) {
  const memory::Stream copies = launcher_->copies();
  for (const Feed& feed : feeds) {
    if (!on_device(feed)) continue;
    const memory::Stream theirs = feed.values.stream;
    if (theirs != copies) copies.wait(memory::Event(theirs));
    if (feed.values.owner) owners_[side].push_back(feed.values.owner);
  }
}

/// To the other side. Feeds that do not convert are told before anything is changed; where a call
/// fails, this side still has all that was fed before.
void DeviceRun::cross(std::span<const Feed> feeds, std::int64_t rows) {
  const auto here = row(side_), side = 1 - here;
  fed_[side].wait();  // the pinned slots have been read
  owners_[side].clear();
  for (const Feed& feed : feeds) stage(feed, side);
  const std::int32_t rows_before = rows_;
  try {
    bring(feeds, rows, side);
  } catch (...) {
    settle(*launcher_);
    rows_ = rows_before;
    for (Slot& s : slots_) s.fresh = {here == 0, here == 1};
    throw;
  }
  side_ = static_cast<int>(side);
}

/// What is not fed is brought along where that side has it from before: on the same queue, so that
/// no later feed overtakes it.
void DeviceRun::bring(std::span<const Feed> feeds, std::int64_t rows, std::size_t side) {
  const std::size_t other = 1 - side;
  const memory::Stream copies = launcher_->copies();
  copies.wait(done_[side]);  // the step has read the device's slots
  const auto ours = [this](const Feed& feed) { return on_device(feed) && in_arena(feed); };
  if (std::ranges::any_of(feeds, ours)) copies.wait(done_[other]);  // a step may make them
  wait_for_producers(feeds, side);
  for (const Feed& feed : feeds) fill_slot(feed, side);
  if (rows >= 0 && rows != rows_) {
    rows_ = static_cast<std::int32_t>(rows);
    const Feed count{Tensor{nullptr, rows_id_}, {&rows_, {}, {}, DType::i32, {}, {}}};
    stage(count, side);
    fill_slot(count, side);
  }
  for (Slot& s : slots_) {
    if (s.fresh[side]) continue;
    launcher_->copy(s.device[side], s.device[other], s.spec.bytes(), copies);
    s.fresh[side] = true;
  }
  fed_[side].record(copies);
  launcher_->work().wait(fed_[side]);
}

/// An observer is told of a node's end once it is done, and of the first one's beginning once all
/// before it is.
void DeviceRun::issue(Lanes& lanes, Runner& runner, const Observer* observer, std::size_t& nodes) {
  const memory::Stream work = launcher_->work();
  if (observer != nullptr) work.synchronize();
  Range node(*launcher_);
  const Observer named{
      [&](const Entry& entry, const Step& step) {
        node.begin(lanes.node_names[static_cast<std::size_t>(&step - entry.steps.data())]);
        if (observer != nullptr && observer->before) observer->before(entry, step);
      },
      [&](const Entry& entry, const Step& step) {
        if (observer != nullptr) work.synchronize();
        ++nodes;
        if (observer != nullptr && observer->after) observer->after(entry, step);
        node.end();
      }};
  runner.run(lanes.of[row(side_)].bindings, &named);
  for (const Answer* answer : lanes.answers)
    launcher_->copy(answer->pinned[row(side_)], answer->device, answer->bytes, work);
}

void DeviceRun::step(Lanes& lanes, Runner& runner, const Observer* observer) {
  const Range all(*launcher_, lanes.name);
  Launcher::Recording& recording = lanes.of[row(side_)].recording;
  if (!replays_ || observer != nullptr || !lanes.warm) {
    issue(lanes, runner, observer, nodes_done_);
    lanes.warm = true;
  } else {
    if (recording == nullptr) {
      std::size_t written_down = 0;
      RecordingGuard guard(*launcher_);
      issue(lanes, runner, nullptr, written_down);
      recording = guard.end();
    }
    launcher_->replay(recording);
    nodes_done_ = lanes.node_names.size();
  }
  done_[row(side_)].record(launcher_->work());
}

/// A failure in an entry: which, and how far its step had come.
std::string DeviceRun::told(const Lanes& lanes, const char* what) const {
  const std::string begin = text("run: '", lanes.of[0].bindings.entry->name, "': ", what);
  if (nodes_done_ == 0) return text(begin, "; nothing of the step was done");
  return text(begin, "; ", nodes_done_, " of the step's ", lanes.node_names.size(),
              " nodes were done, and what they update is new; restore that, or go on");
}

void DeviceRun::run(std::size_t entry, std::span<const Feed> feeds, std::int64_t rows,
                    Runner& runner, const Observer* observer) {
  Lanes& lanes = lanes_[entry];
  nodes_done_ = 0;
  try {
    if (!feeds.empty()) cross(feeds, rows_id_ >= 0 ? rows : -1);
    for (Answer* answer : lanes.answers) answer->side = -1;
    step(lanes, runner, observer);
    for (Answer* answer : lanes.answers) answer->side = side_;
  } catch (const memory::CudaError& error) {
    settle(*launcher_);  // the next step's feeds wait for no event of this one
    throw DeviceError(told(lanes, error.what()));
  } catch (const DeviceError& error) {
    settle(*launcher_);
    throw DeviceError(told(lanes, error.what()));
  } catch (const std::bad_alloc& error) {
    settle(*launcher_);
    throw MemoryError(told(lanes, error.what()));
  } catch (...) {
    settle(*launcher_);
    throw;
  }
}

void DeviceRun::lend(int id, const ArrayView& values) {
  if (values.data != nullptr && values.stream != launcher_->work())
    launcher_->work().wait(memory::Event(values.stream));
  for (Lanes& lanes : lanes_) {
    const Storages& storages = lanes.of[0].bindings.entry->storages;
    const int s = storages.of[row(id)];
    for (Lane& lane : lanes.of) {
      auto* const first = static_cast<std::byte*>(values.data);
      lane.bindings.bind(s, first == nullptr ? nullptr : first - storages.begin[row(id)]);
      if (std::ranges::count(lanes.tables, id) > 0) lane.recording.reset();
    }
  }
}

void DeviceRun::wait_for(memory::Stream stream) {
  const memory::Event theirs(stream);
  launcher_->work().wait(theirs);
  launcher_->copies().wait(theirs);
}

void DeviceRun::make_wait(memory::Stream stream) {
  stream.wait(memory::Event(launcher_->work()));
  stream.wait(memory::Event(launcher_->copies()));
}

void DeviceRun::write(int id, void* device, const void* values, std::size_t bytes) {
  synchronize();
  const memory::Stream work = launcher_->work();
  const auto s = std::ranges::find(slots_, id, &Slot::id);
  launcher_->copy(device, values, bytes, work);
  if (s != slots_.end()) launcher_->copy(s->device[1], values, bytes, work);
  work.synchronize();
  if (s != slots_.end()) s->fresh = {true, true};
  for (const auto& answer : answers_) {
    if (answer->id == id) answer->side = -1;  // no run made it
  }
  if (id == rows_id_) std::memcpy(&rows_, values, sizeof rows_);
}

void DeviceRun::read(int id, const void* device, void* values, std::size_t bytes) {
  const auto s = std::ranges::find(slots_, id, &Slot::id);
  read(s != slots_.end() ? s->device[s->fresh[0] ? 0 : 1] : device, values, bytes);
}

void DeviceRun::read(const void* device, void* values, std::size_t bytes) {
  synchronize();
  send(values, device, bytes);
}

void DeviceRun::send(void* to, const void* from, std::size_t bytes) {
  launcher_->copy(to, from, bytes, launcher_->work());
  launcher_->work().synchronize();
}

void DeviceRun::fill(void* device, std::size_t bytes, std::byte value) {
  if (bytes > 0) launcher_->fill(device, value, bytes, launcher_->work());
}

const void* DeviceRun::answer(int id) {
  const auto found = std::ranges::find_if(answers_, [id](const auto& a) { return a->id == id; });
  if (found == answers_.end() || (*found)->side < 0) return nullptr;
  done_[row((*found)->side)].wait();
  launcher_->check();
  return (*found)->pinned[row((*found)->side)];
}

void DeviceRun::synchronize() {
  launcher_->copies().synchronize();
  for (auto& owners : owners_) owners.clear();
  launcher_->work().synchronize();
  launcher_->check();
}

}  // namespace poolgrad
