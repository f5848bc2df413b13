// Features: which nodes are cut along rows of weights and columns of activations, instead of along
// rows of the batch.
#pragma once

#include <optional>
#include <vector>

#include "engine/graph.h"

namespace poolgrad::passes {

/// One row per node of the graph.
struct Features {
  std::vector<std::optional<Cut>> cut;  // nothing: not along features
  /// Small, and every member needs it: each does it for itself. Where cut: adds up the sums.
  std::vector<char> everywhere;
};

/// Where a layer's weights are worth keeping with the members: each has its own rows of a weight
/// for the product, the gradient and the update, and of the next weight the columns that fit. Then
/// the only values that members give each other are sums of partial results, and the batch is what
/// all read. Chosen where that moves fewer bytes between cores than weights that one changes and
/// all read, and where the weights stay in the cores' caches.
[[nodiscard]] Features find_features(const Graph& graph, int members);

}  // namespace poolgrad::passes
