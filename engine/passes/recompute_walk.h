// What recompute_choices.cpp (would it fit?) and recompute_runs.cpp (do it) must agree on: where
// the backward pass finds what it reads, and what is made again before which node.
#pragma once

#include "engine/liveness.h"
#include "engine/passes/recompute_runs.h"

namespace poolgrad::passes {

/// A node's turn in a run.
struct Turn {
  int node = 0;
  int place = 0;        // of the node that is done, or for which this one is made again
  bool again = false;   // made again, not the node itself
  bool before = false;  // in runs of its own before this one: it is not cut like this one
};

/// The graph and its runs before anything is decided, and what follows from them alone. Nodes that
/// recompute() made again are taken back: whether and where they are is decided here, too.
class Walk {
 public:
  Walk(const Graph& graph, const std::vector<Run>& runs);

  std::vector<Node> nodes;
  std::vector<Run> runs;
  Storages storages;             // of `nodes`, before any is made again
  std::vector<int> run_of;       // node -> run, -1: taken back
  std::vector<Cut> cut_of;       // node -> how it is cut there
  std::vector<bool> everywhere;  // node -> whether each member does it for itself
  std::vector<int> producer;     // tensor -> node, or -1
  std::vector<int> maker;        // storage -> the only node that is no view and writes it, or -1
  std::vector<bool> droppable;   // node
  std::vector<Saved> usual;      // node -> what recompute() would do

  [[nodiscard]] bool backward(const Node& node) const;
  /// Whether what is done for a backward node, the `place`-th of all, reads `id` itself, and not
  /// what was made again.
  [[nodiscard]] bool original(int id, int place, const std::vector<Saved>& saved) const;
  /// For every run what is done in it, in order.
  [[nodiscard]] std::vector<std::vector<Turn>> turns(const std::vector<Saved>& saved) const;

 private:
  void take_back();
  void note_places();
  void note_droppable();
  [[nodiscard]] bool can_be_made_again(int node) const;
  [[nodiscard]] bool cut_alike(int node, int r) const;
  void put_before(std::vector<Turn>& turns, int r) const;
  struct Making;
  void make_again(Making& making, int node) const;

  const Graph& graph_;
  std::vector<int> last_forward_;  // storage -> the last place that reads it as it was, or -1
  std::vector<std::vector<int>> updated_;  // storage -> runs that update it
  int first_backward_ = 0;                 // run
};

}  // namespace poolgrad::passes
