// Two sides, three queues (the caller, copies, work) and the events between them.
#include "engine/device_run.h"

#include <algorithm>
#include <cstring>
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

}  // namespace

DeviceRun::DeviceRun(std::shared_ptr<Launcher> launcher, const Blueprint& blueprint,
                     const std::vector<ArrayView>& views, const memory::Arena& arena)
    : launcher_(std::move(launcher)), blueprint_(blueprint) {
  std::size_t bytes = 0;  // a slot or an answer takes two pieces at most
  for (const ArrayView& view : views) {
    if (view.data != nullptr) bytes += 2 * memory::aligned(std::max<std::size_t>(view.bytes(), 1));
  }
  std::size_t inputs = 0;
  const TensorTable& tensors = blueprint.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    const std::string& column = tensors.column[row(id)];
    const std::size_t own = tensors.spec[row(id)].bytes();
    if (column == "inputs" || (column == "kept" && own <= kSmall))
      inputs += 2 * memory::aligned(own);
  }
  pinned_ = std::make_unique<memory::Arena>(launcher_->pinned(), std::min(bytes, inputs));
  make_slots(views, arena);
  make_answers(views);
  make_lanes(views, arena);
}

DeviceRun::~DeviceRun() {
  try {
    launcher_->copies().synchronize();
    launcher_->work().synchronize();
  } catch (...) {  // nobody is left to be told
  }
}

std::byte* DeviceRun::take_pinned(std::size_t bytes) {
  return pinned_->at(std::exchange(pinned_used_, pinned_used_ + memory::aligned(bytes)));
}

void DeviceRun::make_slots(const std::vector<ArrayView>& views, const memory::Arena& arena) {
  for (int id = 0; id < blueprint_.tensors.size(); ++id) {
    if (blueprint_.tensors.column[row(id)] != "inputs") continue;
    const std::size_t bytes = blueprint_.tensors.spec[row(id)].bytes();
    auto* const first = static_cast<std::byte*>(views[row(id)].data);
    auto* const second = arena.at(static_cast<std::size_t>(blueprint_.second_offset[row(id)]));
    slots_.push_back(
        {id, bytes, {first, second}, {take_pinned(bytes), take_pinned(bytes)}, {true, true}});
  }
}

void DeviceRun::make_answers(const std::vector<ArrayView>& views) {
  for (int id = 0; id < blueprint_.tensors.size(); ++id) {
    const std::size_t bytes = blueprint_.tensors.spec[row(id)].bytes();
    if (blueprint_.tensors.column[row(id)] != "kept" || bytes > kSmall) continue;
    const auto* const device = static_cast<const std::byte*>(views[row(id)].data);
    answers_.push_back(std::make_unique<Answer>(
        Answer{id, bytes, device, {take_pinned(bytes), take_pinned(bytes)}}));
  }
}

void DeviceRun::make_lanes(const std::vector<ArrayView>& views, const memory::Arena& arena) {
  const int members = blueprint_.options.threads;
  for (const Entry& entry : blueprint_.entries) {
    lanes_.push_back({{Lane{Bindings(entry, members)}, Lane{Bindings(entry, members)}}});
    Lanes& lanes = lanes_.back();
    for (std::size_t side = 0; side < 2; ++side) {
      Bindings& b = lanes.of[side].bindings;
      for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
        const int owner = entry.storages.all[row(s)].persistent;
        if (owner >= 0 && blueprint_.tensors.lent(owner)) {
          if (side == 0 && entry.storages.all[row(s)].first >= 0) lanes.tables.push_back(owner);
        } else if (owner >= 0) {
          auto* data = static_cast<std::byte*>(views[row(owner)].data);
          if (blueprint_.tensors.column[row(owner)] == "inputs") data = slot(owner).device[side];
          b.bind(s, data - entry.storages.begin[row(owner)]);
        } else if (blueprint_.options.memory == Memory::planned &&
                   entry.requests[row(s)].bytes > 0) {
          b.bind(s, arena.at(blueprint_.persistent_bytes + entry.plan.offsets[row(s)]));
        }
      }
    }
    for (const auto& answer : answers_) {
      if (makes(entry, answer->id)) lanes.answers.push_back(answer.get());
    }
  }
}

DeviceRun::Slot& DeviceRun::slot(int id) { return *std::ranges::find(slots_, id, &Slot::id); }

/// By way of pinned memory; what lies on the device already, straight from there.
void DeviceRun::fill_slot(const Feed& feed) {
  Slot& to = slot(feed.slot.id);
  const Spec& spec = blueprint_.tensors.spec[row(feed.slot.id)];
  const auto side = row(side_);
  ArrayView part{to.pinned[side], spec.shape, spec.strides(), spec.dtype, {}, {}};
  if (part.shape.rank() > 0) part.shape[0] = feed.values.shape[0];
  const void* from = part.data;
  if (feed.values.place.space == memory::Space::cuda) {
    if (feed.values.dtype != spec.dtype || !feed.values.row_major())
      throw ArgumentError(text("run: values on the device for input '",
                               blueprint_.tensors.name[row(feed.slot.id)],
                               "' are not dense ones of ", spec.dtype, "; convert them first"));
    from = feed.values.data;
  } else {
    copy(feed.values, part);
  }
  launcher_->copy(to.device[side], from, part.bytes(), launcher_->copies());
  to.fresh = {side == 0, side == 1};
}

/// To the other side. What is not fed is brought along where that side has it from before: on the
/// same queue, so that no later feed overtakes it.
void DeviceRun::cross(std::span<const Feed> feeds, std::int64_t rows) {
  side_ = 1 - side_;
  const auto side = row(side_), other = 1 - side;
  const memory::Stream copies = launcher_->copies();
  fed_[side].wait();         // the pinned slots have been read
  copies.wait(done_[side]);  // and the device's by the step
  for (const Feed& feed : feeds) fill_slot(feed);
  if (rows >= 0 && rows != rows_) {
    rows_ = static_cast<std::int32_t>(rows);
    const ArrayView one{&rows_, {}, {}, DType::i32, {}, {}};
    fill_slot({Tensor{nullptr, blueprint_.rows_id}, one});
  }
  for (Slot& s : slots_) {
    if (s.fresh[side]) continue;
    launcher_->copy(s.device[side], s.device[other], s.bytes, copies);
    s.fresh[side] = true;
  }
  fed_[side].record(copies);
  launcher_->work().wait(fed_[side]);
}

void DeviceRun::issue(Lanes& lanes, Runner& runner, const Observer* observer) {
  runner.run(lanes.of[row(side_)].bindings, observer);
  for (const Answer* answer : lanes.answers)
    launcher_->copy(answer->pinned[row(side_)], answer->device, answer->bytes, launcher_->work());
}

void DeviceRun::run(std::size_t entry, std::span<const Feed> feeds, std::int64_t rows,
                    Runner& runner, const Observer* observer) {
  if (!feeds.empty()) cross(feeds, blueprint_.rows_id >= 0 ? rows : -1);
  Lanes& lanes = lanes_[entry];
  Launcher::Recording& recording = lanes.of[row(side_)].recording;
  const bool planned = blueprint_.options.memory == Memory::planned;
  if (!planned || observer != nullptr || !lanes.warm) {
    issue(lanes, runner, observer);
    lanes.warm = true;
  } else {
    if (recording == nullptr) {
      RecordingGuard guard(*launcher_);
      issue(lanes, runner, nullptr);
      recording = guard.end();
    }
    launcher_->replay(recording);
  }
  for (Answer* answer : lanes.answers) answer->side = side_;
  done_[row(side_)].record(launcher_->work());
}

void DeviceRun::lend(int id, void* data) {
  for (std::size_t e = 0; e < lanes_.size(); ++e) {
    const Storages& storages = blueprint_.entries[e].storages;
    const int s = storages.of[row(id)];
    for (Lane& lane : lanes_[e].of) {
      auto* const first = static_cast<std::byte*>(data);
      lane.bindings.bind(s, first == nullptr ? nullptr : first - storages.begin[row(id)]);
      if (std::ranges::count(lanes_[e].tables, id) > 0) lane.recording.reset();
    }
  }
}

void DeviceRun::write(int id, void* device, const void* values) {
  synchronize();
  const memory::Stream work = launcher_->work();
  const std::size_t bytes = blueprint_.tensors.spec[row(id)].bytes();
  launcher_->copy(device, values, bytes, work);
  if (const auto s = std::ranges::find(slots_, id, &Slot::id); s != slots_.end()) {
    launcher_->copy(s->device[1], values, bytes, work);
    s->fresh = {true, true};
  }
  if (id == blueprint_.rows_id) std::memcpy(&rows_, values, sizeof rows_);
  work.synchronize();
}

void DeviceRun::read(const void* device, void* values, std::size_t bytes) {
  synchronize();
  launcher_->copy(values, device, bytes, launcher_->work());
  launcher_->work().synchronize();
}

void DeviceRun::send(void* device, const void* values, std::size_t bytes) {
  launcher_->copy(device, values, bytes, launcher_->work());
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
  launcher_->work().synchronize();
  launcher_->check();
}

}  // namespace poolgrad
