// Writes the runs out part by part. Parts are slices and joins, that is views: no bytes move.
#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/cost.h"
#include "engine/ops.h"
#include "engine/passes/runs.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Where the parts of a tensor are, once it is cut.
struct Parts {
  std::vector<int> ids;  // of slices, one per part
  Share axis = Share::rows;
  bool joined = true;  // the whole can be read
};

class Writer {
 public:
  Writer(Graph& graph, int members)
      : graph_(graph), nodes_(std::exchange(graph.nodes, {})), load_(row(members)) {}

  void write(const Run& run) {
    grow();
    if (run.parts > 1) return write_parts(run);
    const Node& node = nodes_[row(run.nodes[0].node)];
    run.nodes[0].everywhere ? write_everywhere(node) : write_whole(node);
  }

 private:
  [[nodiscard]] const Spec& spec(int id) const { return graph_.tensors.spec[row(id)]; }
  [[nodiscard]] int members() const { return static_cast<int>(load_.size()); }
  [[nodiscard]] int least_loaded() const {
    return static_cast<int>(std::ranges::min_element(load_) - load_.begin());
  }
  /// One row per tensor in the tables here too.
  void grow() {
    parts_.resize(row(graph_.tensors.size()));
    maker_.resize(row(graph_.tensors.size()), -1);
    own_.resize(row(graph_.tensors.size()));
  }

  // ---- tensors

  int whole(int id) {
    if (!parts_[row(id)].joined) {
      assert(parts_[row(id)].axis == Share::rows);
      (void)join(graph_.handles(parts_[row(id)].ids));
      graph_.nodes.back().outputs[0] = id;
      grow();
      parts_[row(id)].joined = true;
    }
    return id;
  }
  /// The whole, or what this member made of it for itself.
  int whole(int id, int member) {
    return own_[row(id)].empty() ? whole(id) : own_[row(id)][row(member)];
  }
  static Rows range(const Run& run, int part) {
    return {run.length * part / run.parts, run.length * (part + 1) / run.parts};
  }
  int part_of(int id, Share axis, const Run& run, int part) {
    const Parts& now = parts_[row(id)];
    if (static_cast<int>(now.ids.size()) != run.parts || now.axis != axis) {
      whole(id);
      std::vector<int> ids;
      for (int p = 0; p < run.parts; ++p) {
        const auto [begin, end] = range(run, p);
        const Tensor all = graph_.handle(id);
        ids.push_back(
            (axis == Share::rows ? slice(all, begin, end) : slice_columns(all, begin, end)).id);
        describe_as(ids.back(), id);
      }
      grow();
      parts_[row(id)] = {ids, axis};
    }
    return parts_[row(id)].ids[row(part)];
  }
  /// Reports speak of the parts as of the whole.
  void describe_as(int part, int whole) {
    TensorTable& tensors = graph_.tensors;
    tensors.name[row(part)] = tensors.name[row(whole)];
    tensors.layer[row(part)] = tensors.layer[row(whole)];
    tensors.backward[row(part)] = tensors.backward[row(whole)];
  }

  // ---- nodes

  void write_whole(const Node& node) {
    int member = least_loaded();
    for (const int id : node.inputs) {
      if (maker_[row(id)] >= 0) member = maker_[row(id)];  // stay where the input was made
    }
    std::vector<int> inputs;
    for (const int id : node.inputs) inputs.push_back(whole(id, member));
    if (node.op->view == nullptr) {
      load_[row(member)] += static_cast<std::int64_t>(work_of(graph_, node).bytes);
      for (const int id : node.outputs) maker_[row(id)] = member;
    }
    graph_.nodes.push_back(node);
    graph_.nodes.back().inputs = std::move(inputs);
    graph_.nodes.back().member = member;
  }

  /// Every member does it for itself; the first one's outputs are what the graph calls by their
  /// names.
  void write_everywhere(const Node& node) {
    std::vector<std::vector<int>> made(node.outputs.size());
    for (int member = 0; member < members(); ++member) {
      std::vector<int> inputs;
      for (const int id : node.inputs) inputs.push_back(whole(id, member));
      const auto outputs =
          graph_.add(*node.op, graph_.handles(inputs), node.attributes, node.floats);
      graph_.nodes.back().member = member;
      if (member == 0) graph_.nodes.back().outputs = node.outputs;
      grow();
      for (std::size_t k = 0; k < node.outputs.size(); ++k) {
        made[k].push_back(graph_.nodes.back().outputs[k]);
        describe_as(made[k].back(), node.outputs[k]);
      }
    }
    for (std::size_t k = 0; k < node.outputs.size(); ++k) own_[row(node.outputs[k])] = made[k];
  }

  void write_parts(const Run& run) {
    // For each node and member, the tensors that were last added to: empty before the first part.
    std::vector<std::vector<std::vector<int>>> sums(run.nodes.size(),
                                                    std::vector<std::vector<int>>(load_.size()));
    for (const CutNode& cut : run.nodes) {
      const Node& node = nodes_[row(cut.node)];
      for (std::size_t k = 0; k < node.outputs.size(); ++k) {
        const Share share = cut.cut.output(k);
        if (share == Share::rows || share == Share::columns)
          parts_[row(node.outputs[k])] = {std::vector<int>(row(run.parts)), share, false};
      }
    }
    const int chunks = run.parts / members();
    for (int chunk = 0; chunk < chunks; ++chunk)
      for (int member = 0; member < members(); ++member)
        for (std::size_t n = 0; n < run.nodes.size(); ++n)
          write_part(run, n, member, member * chunks + chunk, sums[n][row(member)]);
    for (std::size_t n = 0; n < run.nodes.size(); ++n) {
      const Node& node = nodes_[row(run.nodes[n].node)];
      for (std::size_t k = 0; k < node.outputs.size(); ++k) {
        const int id = node.outputs[k];
        if (run.nodes[n].cut.output(k) == Share::sum) {
          run.nodes[n].everywhere ? add_up_everywhere(sums[n], k, id) : add_up(sums[n], k, id);
        } else if (graph_.tensors.persistent(id)) {
          whole(id);
        }
      }
    }
  }

  void write_part(const Run& run, std::size_t n, int member, int part, std::vector<int>& sums) {
    const Node& node = nodes_[row(run.nodes[n].node)];
    const Cut& cut = run.nodes[n].cut;
    std::vector<int> inputs = sums;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const int id = node.inputs[k];
      const Share share = cut.input(k);
      inputs.push_back(share == Share::rows || share == Share::columns
                           ? part_of(id, share, run, part)
                           : whole(id, member));
    }
    const OpDef& op = sums.empty() ? *node.op : *node.op->adds;
    const Attributes attributes =
        cut.part == nullptr ? node.attributes : cut.part(node.attributes, range(run, part));
    const std::vector<Tensor> made =
        graph_.add(op, graph_.handles(inputs), attributes, node.floats);
    graph_.nodes.back().member = member;
    grow();
    sums.clear();
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      describe_as(made[k].id, node.outputs[k]);
      const Share share = cut.output(k);
      if (share == Share::sum) {
        sums.push_back(made[k].id);
      } else if (share != Share::whole) {
        parts_[row(node.outputs[k])].ids[row(part)] = made[k].id;
      }
    }
  }

  /// The sum of the members' sums, always in the same order, becomes `id`.
  void add_up(const std::vector<std::vector<int>>& sums, std::size_t k, int id) {
    if (sums.size() == 1) {
      for (Node& node : graph_.nodes) std::ranges::replace(node.outputs, sums[0][k], id);
      return;
    }
    const int member = least_loaded();
    (void)total(sums, k, id, member);
    graph_.nodes.back().outputs[0] = id;
    maker_[row(id)] = member;
    load_[row(member)] += static_cast<std::int64_t>(spec(id).bytes());
  }
  void add_up_everywhere(const std::vector<std::vector<int>>& sums, std::size_t k, int id) {
    std::vector<int> own;
    for (int member = 0; member < members(); ++member) own.push_back(total(sums, k, id, member));
    for (Node& node : graph_.nodes) std::ranges::replace(node.outputs, own[0], id);
    own[0] = id;
    own_[row(id)] = own;
  }
  int total(const std::vector<std::vector<int>>& sums, std::size_t k, int id, int member) {
    int total = sums[0][k];
    for (std::size_t m = 1; m < sums.size(); ++m) {
      total = add(graph_.handle(total), graph_.handle(sums[m][k])).id;
      graph_.nodes.back().member = member;
      describe_as(total, id);
    }
    grow();
    return total;
  }

  Graph& graph_;
  std::vector<Node> nodes_;            // as they were
  std::vector<Parts> parts_;           // tensor -> its slices
  std::vector<int> maker_;             // tensor -> the member who made it as a whole
  std::vector<std::vector<int>> own_;  // tensor -> what each member made of it for itself, if so
  std::vector<std::int64_t> load_;     // per member, by nodes that are not cut
};

}  // namespace

void split(Graph& graph, std::span<const Run> runs, int members) {
  Writer writer(graph, members);
  for (const Run& run : runs) writer.write(run);
}

}  // namespace poolgrad::passes
