// A search in rounds: each round lowers the target by a step, makes more nodes again until no run
// is above it, and takes back what was not needed for that. Peaks are estimated from the lifetimes
// of whole tensors between runs; the plan decides later.
#include <algorithm>
#include <functional>
#include <iterator>
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
    std::size_t largest = 0;
    for (const Storage& storage : walk.storages.all) {
      if (storage.persistent < 0) largest = std::max(largest, storage.bytes);
    }
    for (const Storage& storage : walk.storages.all) {
      const bool counts = storage.persistent < 0 && storage.bytes * kLeast > largest;
      life_of_.push_back(counts ? static_cast<int>(bytes_.size()) : -1);
      if (counts) bytes_.push_back(static_cast<double>(memory::aligned(storage.bytes)));
    }
    for (const Node& node : walk.nodes) {
      const auto counts = [&](int id) { return life_of(id) >= 0 && node.op->view == nullptr; };
      operands_.emplace_back();
      std::ranges::copy_if(node.inputs, std::back_inserter(operands_.back().inputs), counts);
      std::ranges::copy_if(node.outputs, std::back_inserter(operands_.back().outputs), counts);
    }
  }

  [[nodiscard]] double bytes_of(int node) const {
    double sum = 0.0;
    for (const int id : operands_[row(node)].outputs) sum += bytes_[row(life_of(id))];
    return sum;
  }

  [[nodiscard]] Estimate estimate(const std::vector<Saved>& saved) {
    lives_.clear();
    for (const double bytes : bytes_) lives_.push_back({bytes});
    for (const double bytes : bytes_) lives_.push_back({bytes});  // made again once
    each_.assign(bytes_.size(), {-1, 0});
    walk_.turns(saved, turns_);
    Estimate result;
    int time = 0;
    for (int r = 0; r < static_cast<int>(walk_.runs.size()); ++r) {
      for (const Turn& turn : turns_.of(r)) {
        note(turn, r, time++, saved);
        if (turn.again) result.us += us_[row(turn.node)];
      }
    }
    result.peak = peaks();
    return result;
  }

 private:
  struct Life {
    double bytes = 0.0;
    int run = -1, last_run = -1, time = 0, last_time = 0;
    bool whole = false;  // not cut like the run it is in
  };

  /// Tensors of a node with enough bytes to count.
  struct Operands {
    std::vector<int> inputs, outputs;
  };
  static constexpr std::size_t kLeast = 1000;  // times this is more than the largest: it counts

  /// Of the storage that `id` is in; -1 where that does not count.
  [[nodiscard]] int life_of(int id) const { return life_of_[row(walk_.storages.of[row(id)])]; }

  void note(const Turn& turn, int r, int time, const std::vector<Saved>& saved) {
    const Operands& operands = operands_[row(turn.node)];
    const bool reads_again = turn.again || walk_.backward(turn.node);
    const auto use = [&](int id, bool again) {
      Life& life = lives_[row(again ? made_again(id, r, saved) : life_of(id))];
      if (life.run < 0) life.run = r, life.time = time, life.whole = turn.before;
      life.last_run = r, life.last_time = time;
    };
    for (const int id : operands.inputs)
      use(id, reads_again && !walk_.original(id, turn.place, saved));
    for (const int id : operands.outputs) use(id, turn.again);
  }
  /// The life of what is made again of a storage: one for all runs, or one for each.
  int made_again(int id, int r, const std::vector<Saved>& saved) {
    const int life = life_of(id), made_by = walk_.maker[row(walk_.storages.of[row(id)])];
    if (saved[row(made_by)] == Saved::once) return static_cast<int>(bytes_.size()) + life;
    auto& [run, own] = each_[row(life)];
    if (run != r) {
      run = r, own = static_cast<int>(lives_.size());
      lives_.push_back({bytes_[row(life)]});
    }
    return own;
  }

  /// What lives beyond the run of each node, and at the node what lives in the run alone.
  [[nodiscard]] std::vector<double> peaks() {
    note_changes();
    std::vector<double> result(walk_.nodes.size());
    double alive = 0.0, within = 0.0;
    std::size_t time = 0;
    for (std::size_t r = 0; r < walk_.runs.size(); ++r) {
      alive += born_[r];
      // Part by part, what a run reads dies as what it makes is born.
      const double twice = walk_.runs[r].parts == 1 ? 0.0 : std::min(born_[r], dies_[r]);
      for (const Turn& turn : turns_.of(static_cast<int>(r))) {
        within += inside_[time++];
        double& peak = result[row(turn.place)];
        peak = std::max(peak, alive - twice + within);
      }
      alive -= dies_[r];
    }
    return result;
  }
  void note_changes() {
    born_.assign(walk_.runs.size(), 0.0);
    dies_.assign(walk_.runs.size(), 0.0);
    inside_.assign(turns_.all().size() + 1, 0.0);
    for (const Life& life : lives_) {
      if (life.run < 0) continue;
      if (life.run != life.last_run) {
        born_[row(life.run)] += life.bytes;
        dies_[row(life.last_run)] += life.bytes;
        continue;
      }
      const int parts = life.whole ? 1 : walk_.runs[row(life.run)].parts;
      const double bytes = parts == 1 ? life.bytes : life.bytes * members_ / parts;
      inside_[row(life.time)] += bytes;
      inside_[row(life.last_time) + 1] -= bytes;
    }
  }

  const Walk& walk_;
  int members_;
  std::vector<double> us_;                 // node
  std::vector<Operands> operands_;         // node
  std::vector<int> life_of_;               // storage -> life, or -1
  std::vector<double> bytes_;              // life
  std::vector<Life> lives_;                // as they are, then made again once, then for each run
  std::vector<std::pair<int, int>> each_;  // life -> run and the one in it
  Turns turns_;
  std::vector<double> born_, dies_, inside_;  // bytes that live beyond their run; per turn, in one
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
    std::ranges::sort(nodes_);
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
  /// One change, or two at once.
  struct Change {
    std::vector<std::pair<int, Saved>> nodes{};
    double worth = 0.0;  // bytes over the target that it takes away, over all nodes, per time
  };

  /// Until no node is above the target, the change that is worth most.
  bool lower(double target) {
    while (now_.above(target) > 0.0) {
      Change best = best_change(target);
      if (best.nodes.empty()) crowded_ = true, best = best_two_changes(target);
      if (best.nodes.empty()) return false;
      for (const auto& [node, what] : best.nodes) saved_[row(node)] = what;
      now_ = estimator_.estimate(saved_);
    }
    return true;
  }

  Change best_change(double target) {
    Change best;
    for (const int i : nodes_)
      each_other(i, [&](Saved what) { weigh({{{i, what}}}, target, best); });
    return best;
  }
  /// Two that only help together are near each other: one is kept instead of the other, or what one
  /// needs is not kept either.
  Change best_two_changes(double target) {
    Change best;
    for (std::size_t a = 0; a < nodes_.size(); ++a) {
      for (std::size_t b = a + 1; b < std::min(a + kNear, nodes_.size()); ++b) {
        each_other(nodes_[a], [&](Saved what) {
          each_other(nodes_[b], [&](Saved other) {
            weigh({{{nodes_[a], what}, {nodes_[b], other}}}, target, best);
          });
        });
      }
    }
    return best;
  }
  template <typename F>
  void each_other(int node, const F& visit) const {
    const Saved is = saved_[row(node)];
    for (const Saved other : {Saved::kept, Saved::once, Saved::each})
      if (other != is) visit(other);
  }
  /// `change` becomes `best` if it is worth more.
  void weigh(Change change, double target, Change& best) {
    const double above = now_.above(target);
    for (auto& [node, what] : change.nodes) std::swap(saved_[row(node)], what);
    const Estimate then = estimator_.estimate(saved_);
    for (auto& [node, what] : change.nodes) std::swap(saved_[row(node)], what);
    const double gain = above - then.above(target);
    change.worth = gain / std::max(then.us - now_.us, kFree);
    if (gain > kSmall * above && change.worth > best.worth) best = std::move(change);
  }

  /// What turned out not to be needed, or not in this place.
  void take_back(double target) {
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t a = 0; a < nodes_.size(); ++a) {
        if (saved_[row(nodes_[a])] == Saved::kept) continue;
        each_other(nodes_[a], [&](Saved what) {
          changed = saves_time({{{nodes_[a], what}}}, target) || changed;
        });
        if (!crowded_) continue;
        for (std::size_t b = a - std::min(a, kNear); b < std::min(a + kNear, nodes_.size()); ++b) {
          if (b == a) continue;
          each_other(nodes_[b], [&](Saved other) {
            changed =
                saves_time({{{nodes_[a], Saved::kept}, {nodes_[b], other}}}, target) || changed;
          });
        }
      }
    }
  }
  /// Takes the change if that is so.
  bool saves_time(const Change& change, double target) {
    Change undo = change;
    for (auto& [node, what] : undo.nodes) std::swap(saved_[row(node)], what);
    Estimate then = estimator_.estimate(saved_);
    const bool saves = then.us < now_.us && then.above(target) == 0.0;
    if (saves) {
      now_ = std::move(then);
    } else {
      for (auto& [node, what] : undo.nodes) std::swap(saved_[row(node)], what);
    }
    return saves;
  }

  static constexpr double kFree = 1e-3;  // microseconds
  static constexpr std::size_t kNear = 5;
  const Walk& walk_;
  Estimator estimator_;
  std::vector<int> nodes_;
  std::vector<Saved> saved_;
  Estimate now_;
  double usual_us_ = 0.0;
  bool crowded_ = false;  // single changes have been too few once
  std::vector<Choice> choices_;
};

}  // namespace

std::vector<Choice> recompute_choices(const Graph& graph, const std::vector<Run>& runs,
                                      int members) {
  const Walk walk(graph, runs);
  if (!walk.has_backward()) return {{}};
  return Search(graph, walk, members).run();
}

}  // namespace poolgrad::passes
