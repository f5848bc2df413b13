// The passes, in the order in which draft() applies them. Each rewrites the nodes of an entry's own
// copy of the graph, appends tensors where it needs new ones and never renumbers any.
#pragma once

#include "engine/graph.h"

namespace poolgrad::passes {

/// A kept tensor that would have to share its bytes with another one that has bytes of its own (a
/// view of a parameter, or of what is kept too) becomes a copy, which nodes do not read.
void copy_kept_views(Graph& graph);

/// Where an op can absorb its only reader, both become one node. Which can is said in
/// OpDef::absorb; what is kept is not fused away.
void fuse(Graph& graph);

/// Keeps the nodes that `roots` need, in their order. The gradient of the input goes this way.
void drop_dead(Graph& graph, std::span<const int> roots);

/// Keeps activations and their gradients as f16 or bf16 (`half`), in the way of PyTorch's autocast.
/// Products read halves: each parameter becomes halves once per step, by a cast. Parameters, their
/// gradients and moments, sums, statistics, losses and all that has bytes of its own stay f32.
void precision(Graph& graph, DType half);

/// An update whose gradient nobody else reads is done by the node that makes it, on top of the
/// weight or its momentum: no gradient is ever stored. Sums are rounded in another order.
void fuse_updates(Graph& graph);

/// Gives every image the layout its readers want (OpDef::wants) and puts reorders where two differ.
/// With `propagate` a layout is carried through ops that take any; without it every op that wants
/// one gets its reorders in and out, which moves more bytes to the same values. Persistent tensors
/// stay row-major.
void layout(Graph& graph, bool propagate);

/// Where the backward pass asks of a ReLU's output only where it is above 0, and not for its
/// values, those are kept: a bit instead of a float, with the same result.
void keep_signs(Graph& graph);

/// What the backward pass reads of a cheap op (OpDef::recompute) is made again just before, so that
/// it need not be kept in between.
void recompute(Graph& graph);

/// Each update as soon as its gradient is final and the last reader of the old value has run.
void schedule(Graph& graph);

/// After split(): an order of the nodes in which fewer bytes are alive at the fullest moment, by
/// their places in the present one; nothing where none is found. No bit changes: whoever adds to a
/// sum goes on doing so in the same turn. `workspace_bytes`: one row per node. Counts as if one
/// thread ran all nodes.
[[nodiscard]] std::vector<int> lower_peak(const Graph& graph,
                                          std::span<const std::size_t> workspace_bytes,
                                          bool in_place);

/// What find_runs() in runs.h is asked for.
struct Split {
  int members = 1;  // how many can work at once. The team may be smaller: the bits are the same
  int chunks = 0;   // in how many goes a member takes its rows; 0: as their sizes suggest
  bool features = true;  // may cut along features where that moves fewer bytes
};

}  // namespace poolgrad::passes
