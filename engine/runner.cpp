// One loop per member over bound addresses. Bytes that are asked for at run time are bound at their
// birth: by the member who alone touches them, or by member 0 between two phases.
#include "engine/runner.h"

#include <chrono>
#include <utility>

#include "engine/backend/one_thread.h"

namespace poolgrad {
namespace {
std::size_t row(int id) { return static_cast<std::size_t>(id); }

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace

Bindings::Bindings(const Entry& of_entry, int members)
    : entry(&of_entry),
      base(of_entry.storages.all.size()),
      home(of_entry.storages.all.size()),
      lists(row(members)),
      users_(of_entry.storages.all.size()) {
  std::vector<std::size_t> starts;
  std::size_t argument = 0;
  for (const Step& step : entry->steps) {
    const Node& node = entry->graph->nodes[row(step.node)];
    starts.push_back(argument);
    for (const auto* ids : {&node.inputs, &node.outputs}) {
      for (const int id : *ids)
        users_[row(entry->storages.of[row(id)])].push_back(
            {argument++, entry->storages.begin[row(id)]});
    }
    if (step.workspace >= 0) users_[row(step.workspace)].push_back({argument, 0});
    ++argument;
  }
  addresses.resize(argument);
  int phase = 0;
  for (std::size_t i = 0; i < entry->steps.size(); ++i) {
    const Step& step = entry->steps[i];
    const Node& node = entry->graph->nodes[row(step.node)];
    void** first = addresses.data() + starts[i];
    args.push_back(
        {first, first + node.inputs.size(), first + node.inputs.size() + node.outputs.size()});
    for (; phase < step.phase; ++phase)
      for (auto& list : lists) list.push_back(-1);
    lists[row(step.member)].push_back(static_cast<int>(i));
  }
}

void Bindings::bind(int storage, void* data) {
  base[row(storage)] = data;
  for (const User& user : users_[row(storage)])
    addresses[user.argument] = static_cast<std::byte*>(data) + user.begin;
}

namespace {

/// Whose bytes a storage is: of what an op makes, or of its workspace.
std::string whose(const Entry& entry, int storage) {
  for (const Step& step : entry.steps) {
    const Node& node = entry.graph->nodes[row(step.node)];
    if (step.workspace == storage) return text("the workspace of '", node.op->name, "'");
    for (const int id : node.outputs) {
      if (entry.storages.of[row(id)] == storage)
        return text("what '", node.op->name, "' makes, ", entry.graph->tensors.spec[row(id)].shape);
    }
  }
  return "a tensor";
}

}  // namespace

void Runner::take(Bindings& bindings, const std::vector<int>& storages) {
  for (const int s : storages) {
    const std::size_t bytes = memory::aligned(bindings.entry->storages.all[row(s)].bytes);
    try {
      bindings.bind(s, source_->allocate_on(stream_, bytes, memory::kAlignment));
    } catch (const std::bad_alloc& error) {
      throw MemoryError(
          text("no ", bytes, " bytes for ", whose(*bindings.entry, s), ": ", error.what()));
    }
    const std::size_t live = live_.fetch_add(bytes) + bytes;
    for (std::size_t seen = peak_; seen < live && !peak_.compare_exchange_weak(seen, live);)
      continue;
  }
}

void Runner::give(Bindings& bindings, const std::vector<int>& storages) {
  for (const int s : storages) {
    const std::size_t bytes = memory::aligned(bindings.entry->storages.all[row(s)].bytes);
    source_->deallocate_on(stream_, std::exchange(bindings.base[row(s)], nullptr), bytes,
                           memory::kAlignment);
    live_ -= bytes;
  }
}

void Runner::give_all(Bindings& bindings) {
  for (int s = 0; s < static_cast<int>(bindings.base.size()); ++s) {
    if (bindings.entry->requests[row(s)].bytes > 0 && bindings.base[row(s)] != nullptr)
      give(bindings, {s});
  }
}

/// The end of phase `phase` - 1 and the beginning of `phase`, for bytes that several members touch.
void Runner::cross(Bindings& bindings, std::size_t phase) {
  const std::vector<Edge>& edges = bindings.entry->edges;
  if (phase > 0) give(bindings, edges[phase - 1].dead);
  if (phase < edges.size()) take(bindings, edges[phase].born);
}

template <bool kDynamic, bool kObserved>
void Runner::step(Bindings& bindings, int i, const Observer* observer) {
  const Step& step = bindings.entry->steps[row(i)];
  if constexpr (kDynamic) take(bindings, step.born);
  if constexpr (kObserved) {
    if (observer->before) observer->before(*bindings.entry, step);
  }
  step.kernel->run(bindings.args[row(i)]);
  if constexpr (kObserved) {
    if (observer->after) observer->after(*bindings.entry, step);
  }
  if constexpr (kDynamic) give(bindings, step.dead);
}

/// After a failure nothing more is done, but every member still comes to every barrier.
template <typename F>
void Runner::guarded(const F& work) {
  if (failed_.load(std::memory_order_relaxed)) return;
  try {
    work();
  } catch (...) {
    if (!failed_.exchange(true)) failure_ = std::current_exception();
  }
}

template <bool kDynamic, bool kObserved>
void Runner::alone(Bindings& bindings, const Observer* observer) {
  guarded([&] {
    std::size_t phase = 0;
    if constexpr (kDynamic) cross(bindings, 0);
    const Entry& entry = *bindings.entry;
    for (int i = 0; i < static_cast<int>(entry.steps.size()); ++i) {
      if constexpr (kDynamic) {
        while (phase < row(entry.steps[row(i)].phase)) cross(bindings, ++phase);
      }
      step<kDynamic, kObserved>(bindings, i, observer);
    }
    if constexpr (kDynamic) cross(bindings, entry.edges.size());
  });
}

/// Answers for how long the caller waited for others.
template <bool kDynamic, bool kObserved>
double Runner::together(Bindings& bindings, const Observer* observer) {
  if constexpr (kDynamic) guarded([&] { cross(bindings, 0); });
  double waited = 0.0, arrived = 0.0;
  const auto meet = [&](int member) {
    const double since = member == 0 ? seconds_now() : 0.0;
    team_->meet();
    if (member == 0) waited += seconds_now() - since;
  };
  auto work = [&](int member) {
    std::size_t phase = 0;
    for (const int i : bindings.lists[row(member)]) {
      if (i >= 0) {
        guarded([&] { step<kDynamic, kObserved>(bindings, i, observer); });
        continue;
      }
      meet(member);
      if constexpr (kDynamic) {
        ++phase;
        if (member == 0) guarded([&] { cross(bindings, phase); });
        team_->meet();
      }
    }
    if (member == 0) arrived = seconds_now();
  };
  team_->run(work);
  waited += seconds_now() - arrived;
  if constexpr (kDynamic) guarded([&] { cross(bindings, bindings.entry->edges.size()); });
  return waited;
}

template <bool kDynamic, bool kObserved>
void Runner::choose(Bindings& bindings, const Observer* observer) {
  if (!team_) return alone<kDynamic, kObserved>(bindings, observer);
  const double begin = seconds_now();
  double waited = 0.0;
  if (!adaptive_ || bindings.pace.team(begin)) {
    waited = together<kDynamic, kObserved>(bindings, observer);
  } else {
    alone<kDynamic, kObserved>(bindings, observer);
  }
  const double end = seconds_now();
  bindings.pace.note(end, end - begin, waited);
}

void Runner::run(Bindings& bindings, const Observer* observer) {
  const OneThread guard;
  if (source_ != nullptr) {
    observer ? choose<true, true>(bindings, observer) : choose<true, false>(bindings, observer);
  } else {
    observer ? choose<false, true>(bindings, observer) : choose<false, false>(bindings, observer);
  }
  if (!failed_) return;
  if (source_ != nullptr) give_all(bindings);
  failed_ = false;
  std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Runner::muster(bool team, int members, bool adaptive) {
  adaptive_ = adaptive;
  if (team_ && team_->forked())
    (void)team_.release();  // its threads are the parent's: none to join
  if (!team || members == 1) {
    team_.reset();
  } else if (!team_) {
    team_ = std::make_unique<Team>(members, use_one_thread);
  }
}

}  // namespace poolgrad
