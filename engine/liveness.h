// Storages: which tensors share bytes, and from which step to which those bytes are alive. Side
// tables: the graph itself is not changed.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// Tensors bound together by views and updates, and by `overwrites` where the promise was used.
struct Storage {
  std::size_t bytes = 0;
  int first = -1, end = -1;  // nodes [first, end), half-open; views neither read nor write
  int persistent = -1;       // a tensor of it with bytes of its own, or -1: planned
  int member = -1;           // the only one of the team who touches it, or -1: several do
};

struct Storages {
  std::vector<int> of;                // tensor -> storage
  std::vector<std::ptrdiff_t> begin;  // tensor -> where in it, in bytes
  std::vector<Storage> all;
};

/// With `in_place`, outputs take over the bytes of inputs that nobody reads later, where ops allow
/// it. Throws ShapeError when a tensor would have to lie in two places.
[[nodiscard]] Storages assign_storages(const Graph& graph, bool in_place);

/// The phase of each node: the team meets between phases, and only there. Within one phase no two
/// members touch the same bytes of a storage, unless both only read.
[[nodiscard]] std::vector<int> phases(const Graph& graph, const Storages& storages);

/// For each node those that must run before it: its producers, and if it updates, all other
/// readers.
[[nodiscard]] std::vector<std::vector<int>> predecessors(const Graph& graph);

/// A reason why the order is wrong, in one sentence, or nothing: someone reads bytes that an
/// earlier node has updated in place.
[[nodiscard]] std::string check_order(const Graph& graph);

}  // namespace poolgrad
