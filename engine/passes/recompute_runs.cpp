// Writes a choice into graph and runs, and orders the runs anew where updates must wait.
#include <algorithm>
#include <functional>
#include <map>
#include <queue>
#include <utility>

#include "engine/passes/recompute_walk.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class Writer {
 public:
  Writer(Graph& graph, const Walk& walk, const Choice& choice)
      : graph_(graph), walk_(walk), choice_(choice) {
    graph_.nodes = walk.nodes;
  }

  std::vector<Run> write() {
    Turns turns;
    walk_.turns(choice_.saved, choice_.times, turns);
    for (run_ = 0; run_ < static_cast<int>(walk_.runs.size()); ++run_) {
      each_.clear();
      const Run& run = walk_.runs[row(run_)];
      Run written{{}, run.length, run.parts};
      for (const Turn& turn : turns.of(run_)) {
        place_ = turn.place;
        const int node = turn.again ? made_again(turn.node) : turn.node;
        if (!turn.again && walk_.backward(node)) read_again(node);
        const CutNode cut{node, walk_.cut_of[row(turn.node)], walk_.everywhere[row(turn.node)]};
        turn.before ? put_before(turn.node, cut) : written.nodes.push_back(cut);
      }
      runs_.push_back(std::move(written));
      open_ = false;
    }
    return std::move(runs_);
  }

 private:
  void read_again(int node) {
    for (int& id : graph_.nodes[row(node)].inputs) id = now(id);
  }
  /// Where the node at place_ finds what `id` was.
  [[nodiscard]] int now(int id) const {
    if (walk_.original(id, place_, choice_.saved)) return id;
    const auto found = each_.find(id);
    return found != each_.end() ? found->second : last_.at(id);
  }
  int made_again(int first) {
    Node node = walk_.nodes[row(first)];
    for (int& id : node.inputs) id = now(id);
    const bool each = node.op->view != nullptr || choice_.saved[row(first)] == Saved::each;
    for (int& id : node.outputs) {
      TensorTable& tensors = graph_.tensors;
      const int fresh = tensors.add(tensors.spec[row(id)]);
      tensors.layer[row(fresh)] = tensors.layer[row(id)];
      tensors.backward[row(fresh)] = 1;
      (each ? each_ : last_)[id] = fresh;
      id = fresh;
    }
    graph_.nodes.push_back(std::move(node));
    return static_cast<int>(graph_.nodes.size()) - 1;
  }
  /// In the run that is open before run_, or in a new one: as the node was cut the first time.
  void put_before(int first, const CutNode& cut) {
    const Run& there = walk_.runs[row(walk_.run_of[row(first)])];
    const Node& node = graph_.nodes[row(cut.node)];
    const auto read_otherwise = [&](const CutNode& made) {
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        if (cut.cut.input(k) != Share::rows &&
            std::ranges::count(graph_.nodes[row(made.node)].outputs, node.inputs[k]) > 0)
          return true;
      }
      return false;
    };
    const bool joins = open_ && there.parts > 1 && runs_.back().parts == there.parts &&
                       runs_.back().length == there.length &&
                       std::ranges::none_of(runs_.back().nodes, read_otherwise);
    if (!joins) runs_.push_back({{}, there.length, there.parts});
    runs_.back().nodes.push_back(cut);
    open_ = true;
  }

  Graph& graph_;
  const Walk& walk_;
  const Choice& choice_;
  std::vector<Run> runs_;
  int run_ = 0, place_ = 0;
  bool open_ = false;               // the last of runs_ is before run_, for what it needs
  std::map<int, int> last_, each_;  // tensor -> the same as it was made again last; in run_
};

/// The runs in their order, except that a run waits for all that must be before it. False where
/// two wait for each other.
bool order(const Graph& graph, std::vector<Run>& runs) {
  std::vector<int> run_of(graph.nodes.size(), -1);
  for (int r = 0; r < static_cast<int>(runs.size()); ++r)
    for (const CutNode& cut : runs[row(r)].nodes) run_of[row(cut.node)] = r;
  const auto before = predecessors(graph);
  std::vector<std::vector<int>> after(runs.size());
  std::vector<int> waits_for(runs.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    for (const int earlier : before[i]) {
      const int from = run_of[row(earlier)], to = run_of[i];
      if (from == to || from < 0 || to < 0) continue;
      after[row(from)].push_back(to);
      ++waits_for[row(to)];
    }
  }
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    if (waits_for[r] == 0) ready.push(static_cast<int>(r));
  }
  std::vector<Run> ordered;
  while (!ready.empty()) {
    const int next = ready.top();
    ready.pop();
    for (const int later : after[row(next)]) {
      if (--waits_for[row(later)] == 0) ready.push(later);
    }
    ordered.push_back(std::move(runs[row(next)]));
  }
  const bool all = ordered.size() == runs.size();
  runs = std::move(ordered);
  return all;
}

}  // namespace

std::size_t bytes_between(const Graph& graph, const std::vector<Run>& runs) {
  const Storages storages = assign_storages(graph, /*in_place=*/false);
  std::vector<int> last(storages.all.size(), -1), first(storages.all.size(), -1);
  for (int r = 0; r < static_cast<int>(runs.size()); ++r) {
    for (const CutNode& cut : runs[row(r)].nodes) {
      const Node& node = graph.nodes[row(cut.node)];
      if (node.op->view != nullptr) continue;
      for (const auto* ids : {&node.inputs, &node.outputs}) {
        for (const int id : *ids) {
          const std::size_t s = row(storages.of[row(id)]);
          if (first[s] < 0) first[s] = r;
          last[s] = r;
        }
      }
    }
  }
  std::vector<std::ptrdiff_t> change(runs.size() + 1);
  for (std::size_t s = 0; s < storages.all.size(); ++s) {
    if (first[s] < 0 || storages.all[s].persistent >= 0) continue;
    change[row(first[s])] += static_cast<std::ptrdiff_t>(storages.all[s].bytes);
    change[row(last[s])] -= static_cast<std::ptrdiff_t>(storages.all[s].bytes);
  }
  std::ptrdiff_t alive = 0, most = 0;
  for (const std::ptrdiff_t bytes : change) most = std::max(most, alive += bytes);
  return static_cast<std::size_t>(most);
}

bool recompute_runs(Graph& graph, std::vector<Run>& runs, const Choice& choice) {
  if (choice.saved.empty()) return true;
  const Walk walk(graph, runs);
  runs = Writer(graph, walk, choice).write();
  return order(graph, runs);
}

}  // namespace poolgrad::passes
