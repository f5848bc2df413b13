// Clocks around nodes, then sums by op and layer.
#include "engine/profile.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <map>
#include <thread>

#include "engine/cost.h"

namespace poolgrad {
namespace {

using Clock = std::chrono::steady_clock;

std::size_t row(int id) { return static_cast<std::size_t>(id); }

double microseconds(Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// The moments of one step; each node's are written by the one member who runs it.
struct Moments {
  Clock::time_point begin, end;
  std::vector<Clock::time_point> began, ended;  // per place in Entry::steps
  bool by_team = false;
};

/// The time of one thread that ran `nodes` in this order.
template <typename Nodes>
MemberTime time_of(const Entry& entry, const Nodes& nodes, const Moments& at, bool waits) {
  MemberTime time;
  Clock::time_point free = at.begin;
  int phase = -1;
  for (const int i : nodes) {
    const int own = entry.steps[row(i)].phase;
    (waits && own != phase ? time.wait_us : time.rest_us) += microseconds(at.began[row(i)] - free);
    time.busy_us += microseconds(at.ended[row(i)] - at.began[row(i)]);
    free = at.ended[row(i)];
    phase = own;
  }
  (waits ? time.wait_us : time.rest_us) += microseconds(at.end - free);
  return time;
}

std::vector<MemberTime> members_of(const Entry& entry, const Moments& at) {
  std::vector<std::vector<int>> lists(1);
  for (int i = 0; i < static_cast<int>(entry.steps.size()); ++i) {
    const std::size_t member = at.by_team ? row(entry.steps[row(i)].member) : 0;
    if (member >= lists.size()) lists.resize(member + 1);
    lists[member].push_back(i);
  }
  std::vector<MemberTime> result;
  for (const auto& list : lists) result.push_back(time_of(entry, list, at, at.by_team));
  return result;
}

/// A copy of all that a program keeps between runs, put back at the end.
class Snapshot {
 public:
  explicit Snapshot(Program& program) : program_(program) {
    const TensorTable& tensors = program.blueprint().tensors;
    for (int id = 0; id < tensors.size(); ++id) {
      if (!tensors.persistent(id) || tensors.lent(id)) continue;
      const ArrayView values = program.read({nullptr, id});
      const auto* first = static_cast<const std::byte*>(values.data);
      kept_.push_back({id, values, std::vector(first, first + values.bytes())});
      kept_.back().values.data = kept_.back().bytes.data();
    }
  }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() {
    try {
      for (const Kept& kept : kept_) program_.write({nullptr, kept.id}, kept.values);
    } catch (...) {  // of a device that is broken: whoever uses it next is told
    }
  }

 private:
  struct Kept {
    int id;
    ArrayView values;  // at the bytes
    std::vector<std::byte> bytes;
  };
  Program& program_;
  std::vector<Kept> kept_;
};

std::vector<ProfileRow> rows_of(const Entry& entry, const StepTimes& times) {
  std::map<std::pair<std::string, std::string>, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < entry.steps.size(); ++i) {
    const Node& node = entry.graph->nodes[row(entry.steps[i].node)];
    groups[{std::string(node.op->name), entry.graph->layer_of(node)}].push_back(i);
  }
  std::vector<ProfileRow> rows;
  double sum = 0.0;
  for (const auto& [name, places] : groups) {
    ProfileRow result{.op = name.first, .layer = name.second, .calls = 0};
    std::vector<double> per_step(times.node_us.size());
    for (const std::size_t i : places) {
      const Work work = work_of(*entry.graph, entry.graph->nodes[row(entry.steps[i].node)]);
      ++result.calls;
      result.flops += work.flops;
      result.bytes += work.bytes;
      for (std::size_t s = 0; s < per_step.size(); ++s) per_step[s] += times.node_us[s][i];
    }
    result.us = median(per_step);
    sum += result.us;
    rows.push_back(std::move(result));
  }
  for (ProfileRow& result : rows) result.share = result.us / sum;
  std::ranges::stable_sort(rows, std::ranges::greater{}, &ProfileRow::us);
  return rows;
}

/// Medians over the steps that ran like most of them did: by the team, or by one thread.
std::vector<MemberTime> usual_members(const StepTimes& times) {
  std::map<std::size_t, int> counts;
  for (const auto& members : times.members) ++counts[members.size()];
  const std::size_t usual =
      std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; })->first;
  std::vector<MemberTime> result(usual);
  for (std::size_t m = 0; m < usual; ++m) {
    for (double MemberTime::*field :
         {&MemberTime::busy_us, &MemberTime::wait_us, &MemberTime::rest_us}) {
      std::vector<double> values;
      for (const auto& members : times.members) {
        if (members.size() == usual) values.push_back(members[m].*field);
      }
      result[m].*field = median(values);
    }
  }
  return result;
}

}  // namespace

double StepTimes::median_step_us() const { return median(step_us); }

std::vector<double> StepTimes::median_node_us() const {
  std::vector<double> result(node_us.front().size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    std::vector<double> values;
    for (const std::vector<double>& step : node_us) values.push_back(step[i]);
    result[i] = median(values);
  }
  return result;
}

StepTimes time_steps(const Entry& entry, int steps,
                     const std::function<void(const Observer&)>& run) {
  if (steps < 1) throw ArgumentError(text("profile: ", steps, " steps; take 1 or more"));
  const std::size_t count = entry.steps.size();
  Moments at{.begin = {}, .end = {}, .began = {}, .ended = {}};
  at.began.resize(count);
  at.ended.resize(count);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> by_team = false;
  const auto place = [&](const Step& step) {
    return static_cast<std::size_t>(&step - entry.steps.data());
  };
  const Observer observer{
      .before =
          [&](const Entry&, const Step& step) {
            if (step.member > 0 && std::this_thread::get_id() != caller)
              by_team.store(true, std::memory_order_relaxed);
            at.began[place(step)] = Clock::now();
          },
      .after = [&](const Entry&, const Step& step) { at.ended[place(step)] = Clock::now(); }};
  StepTimes times;
  for (int s = 0; s < steps; ++s) {
    by_team = false;
    at.begin = Clock::now();
    run(observer);
    at.end = Clock::now();
    at.by_team = by_team;
    times.step_us.push_back(microseconds(at.end - at.begin));
    times.node_us.emplace_back();
    for (std::size_t i = 0; i < count; ++i)
      times.node_us.back().push_back(microseconds(at.ended[i] - at.began[i]));
    times.members.push_back(members_of(entry, at));
  }
  return times;
}

Profile profile(Program& program, std::string_view name, std::span<const Feed> feeds, int steps) {
  constexpr int kWarmRuns = 60;  // until it is settled who runs the step (pace.h)
  constexpr double kWarmUs = 0.2e6;
  const Entry& entry = program.blueprint().entry(name);
  const Snapshot before(program);
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < kWarmRuns && microseconds(Clock::now() - begin) < kWarmUs; ++i)
    program.run(name, feeds);
  const StepTimes times = time_steps(
      entry, steps, [&](const Observer& observer) { program.run(name, feeds, &observer); });
  return {steps, times.median_step_us(), rows_of(entry, times), usual_members(times)};
}

std::string describe(const Profile& profile, std::size_t most) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << "step " << profile.step_us << " us (median of "
      << profile.steps << "), by op and layer\n";
  std::size_t op = 2, layer = 5;
  const std::span shown = std::span(profile.rows).first(std::min(most, profile.rows.size()));
  for (const ProfileRow& r : shown) {
    op = std::max(op, r.op.size());
    layer = std::max(layer, r.layer.size());
  }
  const auto head = [&](const std::string& first, const std::string& second) {
    out << "  " << std::left << std::setw(static_cast<int>(op)) << first << "  "
        << std::setw(static_cast<int>(layer)) << second << std::right;
  };
  head("op", "layer");
  out << "  calls         us   share  rate\n";
  for (const ProfileRow& r : shown) {
    head(r.op, r.layer.empty() ? "-" : r.layer);
    out << std::setw(7) << r.calls << std::setw(11) << r.us << std::setw(6) << 100.0 * r.share
        << " %  ";
    if (r.flops > 0.0) {
      out << r.gflops() << " GFLOP/s\n";
    } else {
      out << r.gbs() << " GB/s\n";
    }
  }
  if (profile.rows.size() > most)
    out << "  and " << profile.rows.size() - most << " smaller ones\n";
  for (std::size_t m = 0; m < profile.members.size(); ++m) {
    const MemberTime& time = profile.members[m];
    const auto part = [&](double us) {
      return text(" us (", std::lround(100.0 * us / profile.step_us), " %)");
    };
    out << (profile.members.size() == 1 ? std::string("one thread") : text("member ", m))
        << ": in kernels " << time.busy_us << part(time.busy_us) << ", waiting " << time.wait_us
        << part(time.wait_us) << ", between kernels " << time.rest_us << part(time.rest_us) << "\n";
  }
  return out.str();
}

}  // namespace poolgrad
