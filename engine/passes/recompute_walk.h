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

/// All turns, run by run. Filled again and again by a search, so it keeps its memory.
class Turns {
 public:
  [[nodiscard]] std::span<const Turn> all() const { return turns_; }
  [[nodiscard]] std::span<const Turn> of(int run) const {
    const auto begin = static_cast<std::size_t>(begins_[static_cast<std::size_t>(run)]);
    const auto end = static_cast<std::size_t>(begins_[static_cast<std::size_t>(run) + 1]);
    return std::span(turns_).subspan(begin, end - begin);
  }

 private:
  friend class Walk;
  std::vector<Turn> turns_;
  std::vector<int> begins_;  // run -> its first turn; and the end
  std::vector<int> made_;    // node -> the last run, or place, in which it was made again, or -1
  std::vector<int> wanted_;  // node -> the last run before which its result was wanted, or -1
};

/// The graph and its runs before anything is decided, and what follows from them alone. Nodes that
/// recompute() made again are taken back: whether and where they are is decided here.
class Walk {
 public:
  Walk(const Graph& graph, const std::vector<Run>& runs);

  std::vector<Node> nodes;
  std::vector<Run> runs;
  Storages storages;        // of `nodes`, before any is made again
  std::vector<int> run_of;  // node -> run, -1: taken back
  std::vector<Cut> cut_of;  // node -> how it is cut there
  std::vector<bool>
      everywhere;             // node -> whether every member makes what comes out whole for itself
  std::vector<int> producer;  // tensor -> node, or -1
  std::vector<int> maker;     // storage -> the only node that is no view and writes it, or -1
  std::vector<bool> droppable;  // node
  std::vector<Saved> usual;     // node -> what recompute() would do

  [[nodiscard]] bool has_backward() const {
    return first_backward_ < static_cast<int>(runs.size());
  }
  [[nodiscard]] bool backward(int node) const { return backward_[static_cast<std::size_t>(node)]; }
  /// What a node reads and could find made again.
  struct Read {
    int id = 0;
    int producer = 0, maker = 0;  // of the tensor, and of its storage
    int last_forward = 0;         // the last place that reads it as it was
  };
  [[nodiscard]] std::span<const Read> reads(int node) const {
    return reads_[static_cast<std::size_t>(node)];
  }
  /// Whether what is done for a backward node, the `place`-th of all, reads `id` itself, and not
  /// what was made again.
  [[nodiscard]] bool original(int id, int place, const std::vector<Saved>& saved) const;
  [[nodiscard]] static bool original(const Read& read, int place, const std::vector<Saved>& saved) {
    return saved[static_cast<std::size_t>(read.maker)] == Saved::kept || place <= read.last_forward;
  }
  /// What is done in each run, in order.
  void turns(const std::vector<Saved>& saved, const Times& times, Turns& result) const;

 private:
  void take_back();
  void note_places();
  void note_droppable();
  [[nodiscard]] bool can_be_made_again(int node) const;
  [[nodiscard]] bool cut_alike(int node, int r) const;
  void put_before(Turns& turns, int r) const;
  /// What decides whether something is made again.
  struct Choosing {
    const std::vector<Saved>& saved;
    const Times& times;
  };
  void make_again(Turns& turns, const Choosing& choice, int r, int place, int node) const;
  [[nodiscard]] bool is_there(const Turns& turns, const Choosing& choice, int r, int place,
                              int node) const;

  const Graph& graph_;
  std::vector<bool> backward_;
  std::vector<std::vector<Read>> reads_;
  std::vector<int> last_forward_;  // storage -> the last place that reads it as it was, or -1
  std::vector<std::vector<int>> updated_;  // storage -> runs that update it
  int first_backward_ = 0;                 // run
};

}  // namespace poolgrad::passes
