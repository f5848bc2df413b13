// Greedy: a run begins at the first node that is worth cutting and takes every later node that
// fits. What is cut along features is decided before (features.h); all else is cut along rows.
#include "engine/passes/runs.h"

#include <algorithm>

#include "engine/liveness.h"
#include "engine/passes/features.h"

namespace poolgrad::passes {
namespace {

constexpr int kMaxChunks = 64;
constexpr std::size_t kGatheredByEach = 512 << 10;  // bytes that a member makes sooner than fetches

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Bytes of a node's operands by what becomes of them.
struct Weight {
  std::int64_t rows = 0, whole = 0, sums = 0;

  /// What is needed whole is read again for every part.
  [[nodiscard]] bool mostly_whole() const { return whole * 4 > rows; }
};

class Finder {
 public:
  Finder(const Graph& graph, const Split& settings)
      : graph_(graph),
        members_(settings.members),
        before_(predecessors(graph)),
        features_(find_features(graph, settings.features ? settings.members : 1)) {
    done_.resize(graph.nodes.size());
    in_run_.resize(row(graph.tensors.size()));
    chunks_ = settings.chunks > 0 ? settings.chunks : chunks_that_fit();
  }

  std::vector<Run> find() {
    const int count = static_cast<int>(graph_.nodes.size());
    std::vector<int> gathers;
    for (int i = 0; i < count; ++i) {
      if (!reads_table(i)) continue;
      gathers.push_back(i);
      done_[row(i)] = true;
    }
    std::vector<Run> runs = find_others(count);
    std::vector<Run> first;
    for (const int i : gathers) first.push_back(as_read(i, runs));
    runs.insert(runs.begin(), first.begin(), first.end());
    return runs;
  }

 private:
  std::vector<Run> find_others(int count) {
    std::vector<Run> runs;
    for (int i = 0; i < count; ++i) {
      if (done_[row(i)]) continue;  // every other node before i is done: i is ready
      run_ = {};
      in_run_.assign(in_run_.size(), std::nullopt);
      if (begins(i)) {
        for (int j = i + 1; j < count; ++j) try_to_join(j);
      } else {
        run_.nodes = {{i, {}, features_.everywhere[row(i)] != 0}};
      }
      for (const CutNode& cut : run_.nodes) done_[row(cut.node)] = true;
      runs.push_back(std::move(run_));
    }
    return runs;
  }

  /// Whether node i takes rows out of a table that lies outside: it comes first, and in the parts
  /// in which it is read, so that a member needs no other's rows and all else is cut as if the
  /// batch were an input. What every member reads whole, each gathers for itself if it is small.
  [[nodiscard]] bool reads_table(int i) const {
    return before_[row(i)].empty() && !cuts(node(i)).empty() &&
           std::ranges::any_of(node(i).inputs, [&](int id) { return graph_.tensors.lent(id); });
  }
  [[nodiscard]] Run as_read(int i, std::vector<Run>& runs) const {
    const Cut cut = cuts(node(i))[0];
    Run result{.nodes = {{i, cut}}, .length = length(node(i), cut), .parts = members_};
    std::vector<bool> shown(row(graph_.tensors.size()));  // tensors that show what it makes
    for (const int id : node(i).outputs) shown[row(id)] = true;
    const auto shows = [&](int id) { return shown[row(id)]; };
    std::vector<CutNode*> views;
    bool all_read_all = false;  // some reader is done by every member and not by these rows
    for (Run& run : runs) {
      for (CutNode& reader : run.nodes) {
        const Node& other = node(reader.node);
        if (std::ranges::none_of(other.inputs, shows)) continue;
        if (run.parts > 1 && reads_rows(reader, shows)) {
          result.parts = run.parts;
          return result;
        }
        all_read_all = all_read_all || run.parts > 1 || reader.everywhere;
        if (other.op->view == nullptr) continue;
        if (run.parts == 1) views.push_back(&reader);
        shown[row(other.outputs[0])] = true;
      }
    }
    if (all_read_all && spec(node(i).outputs[0]).bytes() <= kGatheredByEach) {
      for (CutNode* view : views) view->everywhere = true;
      return {.nodes = {{i, {}, true}}};
    }
    if (result.length < result.parts) result.parts = 1;
    return result;
  }

  template <typename F>
  [[nodiscard]] bool reads_rows(const CutNode& reader, const F& of) const {
    const std::vector<int>& inputs = node(reader.node).inputs;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      if (of(inputs[k]) && reader.cut.input(k) == Share::rows) return true;
    }
    return false;
  }

  [[nodiscard]] const Node& node(int i) const { return graph_.nodes[row(i)]; }
  [[nodiscard]] const Spec& spec(int id) const { return graph_.tensors.spec[row(id)]; }

  [[nodiscard]] Weight weigh(const Node& node, const Cut& cut) const {
    Weight weight;
    each_operand(node, cut, [&](int id, Share share) {
      const auto bytes = static_cast<std::int64_t>(spec(id).bytes());
      (share == Share::rows  ? weight.rows
       : share == Share::sum ? weight.sums
                             : weight.whole) += bytes;
    });
    return weight;
  }
  /// The cuts along rows of the batch, or of a gradient.
  [[nodiscard]] std::vector<Cut> cuts(const Node& node) const {
    std::vector<Cut> cuts = cuts_of(graph_, node);
    std::erase_if(cuts, [](const Cut& cut) {
      const auto columns = [](const std::vector<Share>& shares) {
        return std::ranges::count(shares, Share::columns) > 0;
      };
      const bool rows_come_out = std::ranges::count(cut.outputs, Share::rows) > 0;
      return columns(cut.outputs) || (columns(cut.inputs) && !rows_come_out);
    });
    return cuts;
  }
  [[nodiscard]] std::int64_t length(const Node& node, const Cut& cut) const {
    std::int64_t length = 0;
    each_operand(node, cut, [&](int id, Share share) {
      length = std::max(length, length_of(spec(id), share));
    });
    return length;
  }

  /// The smallest power of two with which one member's rows of the widest node stay near: they need
  /// not fit its own cache, and what a part does once (its weights' order) should not weigh.
  [[nodiscard]] int chunks_that_fit() const {
    std::int64_t widest = 0, length = 1;
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i) {
      const Node& node = this->node(i);
      const auto ways = cuts(node);
      if (ways.empty() || node.op->view != nullptr || node.op->updates > 0 || reads_table(i))
        continue;
      const Weight weight = weigh(node, ways[0]);
      if (weight.mostly_whole() || weight.rows <= widest) continue;
      widest = weight.rows;
      length = this->length(node, ways[0]);
    }
    int chunks = 1;
    while (chunks < kMaxChunks && widest > 2 * kCache * members_ * chunks &&
           2 * chunks * members_ <= length)
      chunks *= 2;
    return chunks;
  }

  /// Into how many parts this node would best be cut; 0: it does not matter.
  [[nodiscard]] int wanted(const Node& node, const Cut& cut, const Weight& weight) const {
    if (node.op->updates > 0) return 0;  // rows of weights: where their gradient is made
    if (std::ranges::count(cut.inputs, Share::rows) == 0) {
      // Rows of a gradient, each made of all samples: a block is updated while it is in the cache.
      return static_cast<int>((weight.rows + members_ * kCache - 1) / (members_ * kCache)) *
             members_;
    }
    if (weight.mostly_whole()) return members_;
    return weight.rows > kCache ? members_ * chunks_ : 0;
  }

  bool begins(int i) {
    if (features_.cut[row(i)]) {
      run_.length = length(node(i), *features_.cut[row(i)]);
      run_.parts = members_;
      return join(i, *features_.cut[row(i)]);
    }
    if (members_ * chunks_ == 1 || node(i).op->view != nullptr || features_.everywhere[row(i)] != 0)
      return false;
    for (const Cut& cut : cuts(node(i))) {
      const Weight weight = weigh(node(i), cut);
      if (weight.rows + weight.whole < kWorthCutting) continue;
      run_.length = length(node(i), cut);
      run_.parts = std::max(wanted(node(i), cut, weight), members_);
      if (run_.length >= run_.parts && run_.parts > 1 && fits(i, cut)) return join(i, cut);
    }
    run_ = {};
    return false;
  }
  void try_to_join(int j) {
    if (done_[row(j)]) return;
    const auto& along_features = features_.cut[row(j)];
    if (features_.cut[row(run_.nodes[0].node)] || along_features) {
      if (features_.cut[row(run_.nodes[0].node)] && along_features && fits(j, *along_features))
        join(j, *along_features);
      return;
    }
    if (features_.everywhere[row(j)] != 0) return;
    const bool follows = reads_run(node(j));
    if (!follows && made_again(node(j)) && !serves_run(j)) return;
    for (const Cut& cut : cuts(node(j))) {
      if ((follows || weigh(node(j), cut).rows >= kWorthCutting) && fits(j, cut)) {
        join(j, cut);
        return;
      }
    }
  }
  [[nodiscard]] bool reads_run(const Node& node) const {
    return std::ranges::any_of(node.inputs, [&](int id) { return in_run_[row(id)].has_value(); });
  }
  /// By recompute(), which would be in vain if it ran long before somebody wants it.
  [[nodiscard]] bool made_again(const Node& node) const {
    return node.op->recompute && graph_.tensors.backward[row(node.outputs[0])] != 0;
  }
  /// Whether the first reader of what node j makes reads the run too.
  [[nodiscard]] bool serves_run(int j) const {
    for (int k = j + 1; k < static_cast<int>(graph_.nodes.size()); ++k) {
      if (std::ranges::count(node(k).inputs, node(j).outputs[0]) > 0) return reads_run(node(k));
    }
    return false;
  }
  bool join(int i, const Cut& cut) {
    run_.nodes.push_back({i, cut, features_.everywhere[row(i)] != 0});
    for (std::size_t k = 0; k < node(i).outputs.size(); ++k)
      in_run_[row(node(i).outputs[k])] = cut.output(k);
    return true;
  }

  /// Rows or columns meet those made in this run or before it; what is whole, or a sum, was made
  /// before it.
  [[nodiscard]] bool fits(int i, const Cut& cut) const {
    const Node& candidate = node(i);
    for (std::size_t k = 0; k < candidate.inputs.size(); ++k) {
      const auto& made = in_run_[row(candidate.inputs[k])];
      if (made && *made != cut.input(k)) return false;
    }
    bool same_length = true;
    each_operand(candidate, cut, [&](int id, Share share) {
      if (share == Share::rows || share == Share::columns)
        same_length = same_length && length_of(spec(id), share) == run_.length;
    });
    if (!same_length || !std::ranges::all_of(before_[row(i)], [&](int earlier) {
          return done_[row(earlier)] || follows_in_part(candidate, cut, earlier);
        }))
      return false;
    if (features_.cut[row(i)]) return true;
    const Weight weight = weigh(candidate, cut);
    if (weight.sums > 0 &&
        (candidate.op->adds == nullptr || weight.sums * run_.parts > weight.rows))
      return false;
    const int wish = wanted(candidate, cut, weight);
    return wish == 0 || wish == run_.parts;
  }
  /// Whether `earlier` is in the run and `candidate` needs only its own part of it: reads what the
  /// part made, or changes what the part has read. An update must not overtake another part's
  /// reader.
  [[nodiscard]] bool follows_in_part(const Node& candidate, const Cut& cut, int earlier) const {
    const auto maker = std::ranges::find(run_.nodes, earlier, &CutNode::node);
    if (maker == run_.nodes.end()) return false;
    bool follows = false;
    for (std::size_t k = 0; k < node(earlier).outputs.size(); ++k) {
      if (std::ranges::count(candidate.inputs, node(earlier).outputs[k]) == 0) continue;
      if (maker->cut.output(k) == Share::sum || maker->cut.output(k) == Share::whole) return false;
      follows = true;
    }
    for (std::size_t k = 0; k < node(earlier).inputs.size(); ++k) {
      for (std::size_t u = 0; u < row(candidate.op->updates); ++u) {
        if (candidate.inputs[u] != node(earlier).inputs[k]) continue;
        if (cut.input(u) == Share::whole || cut.input(u) != maker->cut.input(k)) return false;
        follows = true;
      }
    }
    return follows;
  }

  const Graph& graph_;
  int members_;
  int chunks_ = 1;
  std::vector<std::vector<int>> before_;
  Features features_;
  std::vector<bool> done_;                    // node -> in a run that is found
  std::vector<std::optional<Share>> in_run_;  // tensor -> how the run that is being found makes it
  Run run_;
};

}  // namespace

std::vector<Cut> cuts_of(const Graph& graph, const Node& node) {
  if (node.op->cuts == nullptr) return {};
  const auto inputs = graph.specs(node.inputs), outputs = graph.specs(node.outputs);
  std::vector<Cut> cuts = node.op->cuts({inputs, outputs, node.attributes});
  std::erase_if(cuts, [&](const Cut& cut) {  // halves are not added up part by part
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (cut.output(k) == Share::sum && is_half(outputs[k].dtype)) return true;
    }
    return false;
  });
  return cuts;
}

std::int64_t length_of(const Spec& spec, Share share) {
  const int axis = share == Share::rows ? 0 : share == Share::columns ? 1 : Shape::kMaxRank;
  return axis < spec.shape.rank() ? spec.shape[axis] : 0;
}

std::vector<Run> find_runs(const Graph& graph, const Split& settings) {
  return Finder(graph, settings).find();
}

}  // namespace poolgrad::passes
