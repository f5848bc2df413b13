// Recomputing under a memory budget: which forward nodes the backward pass does again instead of
// keeping what they made. It works on runs that are already found, so no choice changes the parts,
// and with them the bits, of any node that is there.
#pragma once

#include "engine/passes/runs.h"

namespace poolgrad::passes {

/// What becomes of what a forward node made once nobody in the forward pass reads it any more.
enum class Saved : std::uint8_t {
  kept,   // until its last reader
  once,   // made again for its first reader in the backward pass, then kept
  each,   // made again in every run that reads it
  timed,  // made again for its first reader at or behind each of some places
};

/// node -> places at which what has been made of it before is forgotten, in order. A node's place
/// is how many nodes are before it in the runs. For those that are Saved::timed.
using Times = std::vector<std::vector<int>>;

struct Choice {
  std::vector<Saved> saved{};  // one per node; empty: the runs stay as they are
  Times times{};               // one per node, or empty: none is timed
  double extra_us = 0.0;       // modelled time of what is made again, one thread
  int dropped = 0;             // nodes whose results are not kept
};

/// A family of choices from nothing made again to as little memory as the search finds, least
/// extra time first. A pure function of its arguments, so that all budgets choose from one list.
[[nodiscard]] std::vector<Choice> recompute_choices(const Graph& graph,
                                                    const std::vector<Run>& runs, int members);

/// Appends the nodes that `choice` makes again and puts them into the runs that read them, along
/// the same rows; updates move behind the last reader of the old value. False where an update would
/// have to run both before and after another node: then graph and runs are spoilt.
[[nodiscard]] bool recompute_runs(Graph& graph, std::vector<Run>& runs, const Choice& choice);

/// Planned bytes that are alive together between two runs, at most: no plan of these runs is
/// smaller, whatever they are split into.
[[nodiscard]] std::size_t bytes_between(const Graph& graph, const std::vector<Run>& runs);

}  // namespace poolgrad::passes
