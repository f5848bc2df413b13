// A search in rounds: each round lowers the target by a step, makes more nodes again until no run
// is above it, and takes back what was not needed for that. Peaks are estimated from the lifetimes
// of whole tensors between runs; the plan decides later.
#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "engine/cost.h"
#include "engine/passes/recompute_walk.h"
#include "memory/arena.h"

namespace poolgrad::passes {
namespace {

constexpr int kRounds = 24;             // targets between all and nothing
constexpr std::size_t kMostNodes = 96;  // that are considered, those with the most bytes
constexpr double kSmall = 1e-3;         // of what is saved: not worth a decision

std::size_t row(int id) { return static_cast<std::size_t>(id); }

struct Estimate {
  std::vector<double> peak;  // bytes alive at each node, or while something is made again for it
  double us = 0.0;           // of what is made again

  [[nodiscard]] double above(double target) const {
    return std::accumulate(peak.begin(), peak.end(), 0.0, [&](double sum, double bytes) {
      return sum + std::max(0.0, bytes - target);
    });
  }
  [[nodiscard]] double highest() const { return *std::ranges::max_element(peak); }
};

/// Lifetimes under a choice, from the turns alone: no graph is rewritten.
class Estimator {
 public:
  Estimator(const Graph& graph, const Walk& walk, int members) : walk_(walk), members_(members) {
    for (const Node& node : walk.nodes)
      us_.push_back(node.outputs.empty() ? 0.0 : modelled_us(graph, node));
    for (const Storage& storage : walk.storages.all) {
      const bool planned = storage.persistent < 0;
      bytes_.push_back(planned ? static_cast<double>(memory::aligned(storage.bytes)) : 0.0);
    }
  }

  [[nodiscard]] double bytes_of(int node) const {
    double sum = 0.0;
    for (const int id : walk_.nodes[row(node)].outputs) sum += bytes_[storage(id)];
    return sum;
  }

  [[nodiscard]] Estimate estimate(const std::vector<Saved>& saved) {
    lives_.clear();
    for (const double bytes : bytes_) lives_.push_back({bytes});
    for (const double bytes : bytes_) lives_.push_back({bytes});  // made again once
    each_.assign(bytes_.size(), {-1, 0});
    places_.clear();
    Estimate result;
    const auto turns = walk_.turns(saved);
    std::vector<int> begins;  // of each run, in turns
    int time = 0;
    for (int r = 0; r < static_cast<int>(turns.size()); ++r) {
      begins.push_back(time);
      for (const Turn& turn : turns[row(r)]) {
        places_.push_back(turn.place);
        note(turn, r, time++, saved);
        if (turn.again) result.us += us_[row(turn.node)];
      }
    }
    begins.push_back(time);
    result.peak = peaks(begins);
    return result;
  }

 private:
  struct Life {
    double bytes = 0.0;
    int run = -1, last_run = -1, time = 0, last_time = 0;
    bool whole = false;  // not cut like the run it is in
  };

  [[nodiscard]] std::size_t storage(int id) const { return row(walk_.storages.of[row(id)]); }

  void note(const Turn& turn, int r, int time, const std::vector<Saved>& saved) {
    const Node& node = walk_.nodes[row(turn.node)];
    const bool reads_again = turn.again || walk_.backward(node);
    const auto use = [&](int id, bool again) {
      Life& life = lives_[again ? made_again(storage(id), r, saved) : storage(id)];
      if (life.run < 0) life.run = r, life.time = time, life.whole = turn.before;
      life.last_run = r, life.last_time = time;
    };
    for (const int id : node.inputs) use(id, reads_again && !walk_.original(id, turn.place, saved));
    for (const int id : node.outputs) use(id, turn.again);
  }
  /// The life of what is made again of a storage: one for all runs, or one for each.
  std::size_t made_again(std::size_t s, int r, const std::vector<Saved>& saved) {
    if (walk_.maker[s] < 0) return s;  // a view of what is kept
    if (saved[row(walk_.maker[s])] != Saved::each) return bytes_.size() + s;
    if (each_[s].first != r) {
      each_[s] = {r, static_cast<int>(lives_.size())};
      lives_.push_back({bytes_[s]});
    }
    return row(each_[s].second);
  }

  /// What lives beyond the run of each node, and at the node what lives in the run alone.
  [[nodiscard]] std::vector<double> peaks(const std::vector<int>& begins) const {
    const std::size_t count = walk_.runs.size();
    std::vector<double> change(count + 1), born(count), dies(count), inside(places_.size() + 1);
    for (const Life& life : lives_) {
      if (life.run < 0) continue;
      const Run& run = walk_.runs[row(life.run)];
      if (life.run == life.last_run) {
        const double share =
            life.whole || run.parts == 1 ? 1.0 : static_cast<double>(members_) / run.parts;
        inside[row(life.time)] += life.bytes * share;
        inside[row(life.last_time) + 1] -= life.bytes * share;
      } else {
        change[row(life.run)] += life.bytes, change[row(life.last_run) + 1] -= life.bytes;
        born[row(life.run)] += life.bytes, dies[row(life.last_run)] += life.bytes;
      }
    }
    std::vector<double> result(walk_.nodes.size());
    double alive = 0.0, within = 0.0;
    for (std::size_t r = 0; r < count; ++r) {
      alive += change[r];
      // Part by part, what a run reads dies as what it makes is born.
      const double twice = walk_.runs[r].parts == 1 ? 0.0 : std::min(born[r], dies[r]);
      for (std::size_t t = row(begins[r]); t < row(begins[r + 1]); ++t) {
        within += inside[t];
        double& peak = result[row(places_[t])];
        peak = std::max(peak, alive - twice + within);
      }
    }
    return result;
  }

  const Walk& walk_;
  int members_;
  std::vector<double> us_, bytes_;  // node, storage
  std::vector<Life> lives_;
  std::vector<std::pair<int, int>> each_;  // storage -> run and life
  std::vector<int> places_;                // of each turn
};

class Search {
 public:
  Search(const Graph& graph, const Walk& walk, int members)
      : walk_(walk), estimator_(graph, walk, members), saved_(walk.usual) {
    now_ = estimator_.estimate(saved_);
    usual_us_ = now_.us;
    for (int i = 0; i < static_cast<int>(walk.nodes.size()); ++i) {
      if (walk.droppable[row(i)] && estimator_.bytes_of(i) > kSmall * now_.highest())
        nodes_.push_back(i);
    }
    std::ranges::stable_sort(nodes_, std::greater{}, [&](int i) { return estimator_.bytes_of(i); });
    if (nodes_.size() > kMostNodes) nodes_.resize(kMostNodes);
  }

  std::vector<Choice> run() {
    choices_ = {{}, choice()};
    double target = now_.highest();
    for (double step = target / kRounds; step > target * kSmall;) {
      const std::vector<Saved> before = saved_;
      if (lower(target - step)) {
        target -= step;
        take_back(target);
        choices_.push_back(choice());
      } else {
        set(before);
        step /= 2;
      }
    }
    std::ranges::stable_sort(choices_.begin() + 1, choices_.end(), {}, &Choice::extra_us);
    return std::move(choices_);
  }

 private:
  [[nodiscard]] Choice choice() const {
    Choice result{saved_, now_.us - usual_us_};
    for (std::size_t i = 0; i < saved_.size(); ++i)
      result.dropped += walk_.usual[i] == Saved::kept && saved_[i] != Saved::kept ? 1 : 0;
    return result;
  }
  void set(const std::vector<Saved>& saved) {
    saved_ = saved;
    now_ = estimator_.estimate(saved_);
  }
  Estimate with(int node, Saved what) {
    const Saved was = std::exchange(saved_[row(node)], what);
    Estimate result = estimator_.estimate(saved_);
    saved_[row(node)] = was;
    return result;
  }

  /// Until no run is above the target, the change that lowers those above it most for its time.
  bool lower(double target) {
    for (double above = now_.above(target); above > 0.0; above = now_.above(target)) {
      double best = 0.0;
      int node = -1;
      Saved what{};
      for (const int i : nodes_) {
        for (const Saved other : {Saved::kept, Saved::once, Saved::each}) {
          if (other == saved_[row(i)]) continue;
          const Estimate then = with(i, other);
          const double gain = above - then.above(target);
          const double worth = gain / std::max(then.us - now_.us, kFree);
          if (gain > kSmall * above && worth > best) best = worth, node = i, what = other;
        }
      }
      if (node < 0) return false;
      saved_[row(node)] = what;
      now_ = estimator_.estimate(saved_);
    }
    return true;
  }

  /// What turned out not to be needed.
  void take_back(double target) {
    for (bool changed = true; changed;) {
      changed = false;
      for (const int i : nodes_) {
        for (const Saved other : {Saved::kept, Saved::once, Saved::each}) {
          if (other == saved_[row(i)]) continue;
          Estimate then = with(i, other);
          if (then.us >= now_.us || then.above(target) > 0.0) continue;
          saved_[row(i)] = other;
          now_ = std::move(then);
          changed = true;
        }
      }
    }
  }

  static constexpr double kFree = 1e-3;  // microseconds
  const Walk& walk_;
  Estimator estimator_;
  std::vector<int> nodes_;
  std::vector<Saved> saved_;
  Estimate now_;
  double usual_us_ = 0.0;
  std::vector<Choice> choices_;
};

}  // namespace

std::vector<Choice> recompute_choices(const Graph& graph, const std::vector<Run>& runs,
                                      int members) {
  const Walk walk(graph, runs);
  const bool has_backward =
      std::ranges::any_of(walk.nodes, [&](const Node& node) { return walk.backward(node); });
  if (!has_backward) return {{}};
  return Search(graph, walk, members).run();
}

}  // namespace poolgrad::passes
