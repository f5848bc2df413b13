// A search in rounds: each round lowers the target by a step, makes more nodes again until no node
// is above it, and takes back what was not needed for that. Peaks are estimated from the lifetimes
// of whole tensors between runs; the plan decides later. Chains have choices of their own beside
// it.
#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "engine/passes/recompute_chain.h"

namespace poolgrad::passes {
namespace {

constexpr int kRounds = 24;             // targets between all and nothing
constexpr std::size_t kMostNodes = 96;  // that are considered, those with the most bytes
constexpr double kSmall = 1e-3;         // of what is saved: not worth a decision

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class Search {
 public:
  Search(const Graph& graph, const Walk& walk, int members)
      : walk_(walk), members_(members), estimator_(graph, walk, members), saved_(walk.usual) {
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
    note(choice());
    for (Choice& each : chain_choices(walk_, estimator_, nodes_, members_)) note(std::move(each));
    double target = now_.highest();
    for (double step = target / kRounds; step > target * kSmall;) {
      const std::vector<Saved> before = saved_;
      if (lower(target - step)) {
        target -= step;
        take_back(target);
        note(choice());
      } else {
        set(before);
        step /= 2;
      }
    }
    return best();
  }

 private:
  struct Weighed {
    Choice choice;
    double peak = 0.0;
  };
  [[nodiscard]] Choice choice() const { return {.saved = saved_}; }
  void note(Choice choice) {
    const Estimate then = estimator_.estimate(choice.saved, choice.times);
    choice.extra_us = then.us - usual_us_;
    for (std::size_t i = 0; i < choice.saved.size(); ++i)
      choice.dropped += walk_.usual[i] == Saved::kept && choice.saved[i] != Saved::kept ? 1 : 0;
    weighed_.push_back({std::move(choice), then.highest()});
  }
  /// To keep all comes first; then those that need fewer bytes than all that take less time.
  std::vector<Choice> best() {
    std::ranges::stable_sort(weighed_, {}, [](const Weighed& each) {
      return std::pair{each.choice.extra_us, each.peak};
    });
    std::vector<Choice> result{{}};
    double least = std::numeric_limits<double>::infinity();
    for (Weighed& each : weighed_) {
      if (each.peak >= least) continue;
      least = each.peak;
      result.push_back(std::move(each.choice));
    }
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
    if (estimator_.us(saved_) < now_.us) {
      Estimate then = estimator_.estimate(saved_);
      if (then.above(target) == 0.0) {
        now_ = std::move(then);
        return true;
      }
    }
    for (auto& [node, what] : undo.nodes) std::swap(saved_[row(node)], what);
    return false;
  }

  static constexpr double kFree = 1e-3;  // microseconds
  static constexpr std::size_t kNear = 5;
  const Walk& walk_;
  int members_;
  Estimator estimator_;
  std::vector<int> nodes_;
  std::vector<Saved> saved_;
  Estimate now_;
  double usual_us_ = 0.0;
  bool crowded_ = false;  // single changes have been too few once
  std::vector<Weighed> weighed_;
};

}  // namespace

std::vector<Choice> recompute_choices(const Graph& graph, const std::vector<Run>& runs,
                                      int members) {
  const Walk walk(graph, runs);
  if (!walk.has_backward()) return {{}};
  return Search(graph, walk, members).run();
}

}  // namespace poolgrad::passes
