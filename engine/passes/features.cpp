// A set of nodes grows from a product with a weight until nobody outside needs what only one member
// has: a tensor that is cut asks its maker and all its readers to be cut in the same way.
#include "engine/passes/features.h"

#include <algorithm>

#include "engine/passes/runs.h"

namespace poolgrad::passes {
namespace {

constexpr std::int64_t kCacheLine = 16;         // values that two members should not share
constexpr std::int64_t kEverywhere = 64 << 10;  // bytes of a node that each member does itself

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Who makes and who reads each tensor.
struct Users {
  std::vector<int> maker;
  std::vector<std::vector<int>> readers;

  explicit Users(const Graph& graph)
      : maker(row(graph.tensors.size()), -1), readers(row(graph.tensors.size())) {
    for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
      for (const int id : graph.nodes[row(i)].inputs) readers[row(id)].push_back(i);
      for (const int id : graph.nodes[row(i)].outputs) maker[row(id)] = i;
    }
  }
};

class Set {
 public:
  Set(const Graph& graph, const Users& users, int members)
      : graph_(graph),
        users_(users),
        members_(members),
        cuts_(graph.nodes.size()),
        shares_(row(graph.tensors.size()), Share::whole) {}

  /// Whether a set could be closed that begins with this node and is worth it.
  bool grow(int seed, const Cut& cut) {
    if (!take(seed, cut)) return false;
    while (!open_.empty()) {
      const int id = open_.back();
      open_.pop_back();
      if (!close(id)) return false;
    }
    return nobody_needs_all() && is_worth_it();
  }

  [[nodiscard]] const std::vector<std::optional<Cut>>& cuts() const { return cuts_; }

  /// What lies between the sums that leave the set and those who need all of what comes of them;
  /// and who makes such sums.
  [[nodiscard]] std::vector<char> everywhere() const {
    const auto count = static_cast<int>(graph_.nodes.size());
    std::vector<char> behind(graph_.nodes.size()), before(graph_.nodes.size());
    const auto reads = [&](const Node& node, const std::vector<char>& marked) {
      return std::ranges::any_of(node.inputs, [&](int id) {
        const int maker = users_.maker[row(id)];
        return maker >= 0 && (marked[row(maker)] != 0 || shares_[row(id)] == Share::sum);
      });
    };
    for (int i = 0; i < count; ++i)
      behind[row(i)] = static_cast<char>(!cuts_[row(i)] && reads(node(i), behind));
    for (int i = count; i-- > 0;) {
      const bool is_before = std::ranges::any_of(node(i).outputs, [&](int id) {
        return std::ranges::any_of(users_.readers[row(id)], [&](int reader) {
          return cuts_[row(reader)].has_value() || before[row(reader)] != 0;
        });
      });
      before[row(i)] = static_cast<char>(is_before);
    }
    std::vector<char> result(graph_.nodes.size());
    for (int i = 0; i < count; ++i) {
      result[row(i)] =
          static_cast<char>(behind[row(i)] != 0 && before[row(i)] != 0 && is_small(node(i)));
      if (result[row(i)] == 0 && !cuts_[row(i)]) continue;
      for (const int id : node(i).inputs) {
        if (shares_[row(id)] == Share::sum) result[row(users_.maker[row(id)])] = 1;
      }
    }
    return result;
  }

 private:
  [[nodiscard]] const Node& node(int i) const { return graph_.nodes[row(i)]; }
  [[nodiscard]] const Spec& spec(int id) const { return graph_.tensors.spec[row(id)]; }
  [[nodiscard]] std::int64_t bytes(int id) const {
    return static_cast<std::int64_t>(spec(id).bytes());
  }

  /// Cuts node i, and notes whose makers and readers must follow.
  bool take(int i, const Cut& cut) {
    cuts_[row(i)] = cut;
    bool fits = true;
    each_operand(node(i), cut, [&](int id, Share share) {
      if (share == Share::whole) return wholes_.push_back(id);
      Share& now = shares_[row(id)];
      if (now == share) return;
      fits = fits && now == Share::whole;
      now = share;
      marked_.push_back(id);
      if (share == Share::sum) return;
      const std::int64_t length = length_of(spec(id), share);
      if (length_ == 0) length_ = length;
      fits = fits && length == length_ && length_ >= members_ * kCacheLine;
      open_.push_back(id);
    });
    return fits;
  }

  bool close(int id) {
    const int maker = users_.maker[row(id)];
    if (maker < 0 ? !graph_.tensors.persistent(id) : graph_.tensors.persistent(id)) return false;
    return (maker < 0 || follow(maker)) &&
           std::ranges::all_of(users_.readers[row(id)], [&](int i) { return follow(i); });
  }
  /// Takes the first cut that agrees with what is cut already.
  bool follow(int i) {
    if (cuts_[row(i)]) return true;
    for (const Cut& cut : cuts_of(graph_, node(i))) {
      bool agrees = true;
      each_operand(node(i), cut, [&](int id, Share share) {
        const Share now = shares_[row(id)];
        agrees = agrees && (now == share || now == Share::whole ||
                            (now == Share::sum && share == Share::whole));
      });
      if (agrees) return take(i, cut);
    }
    return false;
  }
  [[nodiscard]] bool nobody_needs_all() const {
    return std::ranges::none_of(wholes_, [&](int id) {
      return shares_[row(id)] == Share::rows || shares_[row(id)] == Share::columns;
    });
  }

  /// Bytes that move between cores in a step. By rows of the batch: weights that one member has
  /// changed are read by the others, and taken back to be changed again. By features: all read what
  /// is whole, and the sums.
  [[nodiscard]] bool is_worth_it() {
    std::int64_t kept = 0, changed = 0, exchanged = 0;
    for (const int id : marked_) {
      if (shares_[row(id)] == Share::sum) exchanged += members_ * bytes(id);
      if (!graph_.tensors.persistent(id)) continue;
      kept += bytes(id);
      if (std::ranges::any_of(users_.readers[row(id)], [&](int i) {
            const Node& reader = node(i);
            return std::find(reader.inputs.begin(), reader.inputs.begin() + reader.op->updates,
                             id) != reader.inputs.begin() + reader.op->updates;
          }))
        changed += bytes(id);
    }
    std::ranges::sort(wholes_);
    wholes_.erase(std::unique(wholes_.begin(), wholes_.end()), wholes_.end());
    for (const int id : wholes_) exchanged += bytes(id);
    return kept >= kWorthCutting && kept <= members_ * kCache && exchanged < 2 * changed;
  }

  [[nodiscard]] bool is_small(const Node& node) const {
    std::int64_t sum = 0;
    each_operand(node, {}, [&](int id, Share) { sum += bytes(id); });
    return node.op->updates == 0 && node.op->view == nullptr && sum <= kEverywhere;
  }

  const Graph& graph_;
  const Users& users_;
  std::int64_t members_;
  std::int64_t length_ = 0;               // of the axis that is cut
  std::vector<std::optional<Cut>> cuts_;  // per node
  std::vector<Share> shares_;             // per tensor
  std::vector<int> marked_, wholes_;      // tensors that are cut or sums; that are read as a whole
  std::vector<int> open_;                 // whose maker and readers are to follow
};

}  // namespace

Features find_features(const Graph& graph, int members) {
  Features result{std::vector<std::optional<Cut>>(graph.nodes.size()),
                  std::vector<char>(graph.nodes.size())};
  if (members == 1) return result;
  const Users users(graph);
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    if (result.cut[row(i)]) continue;
    for (const Cut& cut : cuts_of(graph, graph.nodes[row(i)])) {
      if (cut.output(0) != Share::columns) continue;
      Set set(graph, users, members);
      if (!set.grow(i, cut)) continue;
      const std::vector<char> everywhere = set.everywhere();
      for (std::size_t k = 0; k < graph.nodes.size(); ++k) {
        if (set.cuts()[k]) result.cut[k] = set.cuts()[k];
        if (everywhere[k] != 0) result.everywhere[k] = 1;
      }
      break;
    }
  }
  return result;
}

}  // namespace poolgrad::passes
