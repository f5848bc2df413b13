// What a choice of recomputing would take, without doing it. Only recompute_choices.cpp asks.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/passes/recompute_walk.h"

namespace poolgrad::passes {

struct Estimate {
  std::vector<double> peak;  // bytes alive at each node, or while something is made again for it
  double us = 0.0;           // of what is made again

  /// Summed over all nodes.
  [[nodiscard]] double above(double target) const {
    return std::accumulate(peak.begin(), peak.end(), 0.0, [&](double sum, double bytes) {
      return sum + std::max(0.0, bytes - target);
    });
  }
  [[nodiscard]] double highest() const { return *std::ranges::max_element(peak); }
};

/// Lifetimes under a choice, from the turns alone: no graph is rewritten. Asked some ten thousand
/// times, so it keeps its memory.
class Estimator {
 public:
  Estimator(const Graph& graph, const Walk& walk, int members);

  /// Of what a node makes, as far as it counts.
  [[nodiscard]] double bytes_of(int node) const;
  [[nodiscard]] double us_of(int node) const { return us_[static_cast<std::size_t>(node)]; }
  /// Estimate::us alone, in less time.
  [[nodiscard]] double us(const std::vector<Saved>& saved, const Times& times = {});
  [[nodiscard]] Estimate estimate(const std::vector<Saved>& saved, const Times& times = {});

 private:
  struct Life {
    double bytes = 0.0;
    int run = -1, last_run = -1, time = 0, last_time = 0;
    bool whole = false;  // not cut like the run it is in
  };
  /// Tensors of a node with enough bytes to count.
  struct Operands {
    std::vector<int> inputs, outputs;  // those that are what they are, whatever is chosen
    std::vector<Walk::Read> reads;     // the other inputs
  };

  /// Of the storage that `id` is in; -1 where that does not count.
  [[nodiscard]] int life_of(int id) const {
    return life_of_[static_cast<std::size_t>(walk_.storages.of[static_cast<std::size_t>(id)])];
  }
  int made_again(int id, int r, bool now, const std::vector<Saved>& saved);
  void note(const Turn& turn, int r, int time, const std::vector<Saved>& saved);
  void note_changes();
  [[nodiscard]] std::vector<double> peaks();

  const Walk& walk_;
  int members_;
  std::vector<double> us_;                 // node
  std::vector<Operands> operands_;         // node
  std::vector<int> life_of_;               // storage -> life, or -1
  std::vector<double> bytes_;              // life
  std::vector<Life> lives_;                // as they are, then made again once, then for each run
  std::vector<std::pair<int, int>> each_;  // life -> run and the one in it, or the last one
  Turns turns_;
  std::vector<double> born_, dies_, inside_;  // bytes that live beyond their run; per turn, in one
};

}  // namespace poolgrad::passes
