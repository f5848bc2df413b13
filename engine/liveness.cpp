// Union-find with offsets over tensors; one scan over nodes for first and last use.
#include "engine/liveness.h"

#include <algorithm>
#include <numeric>

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Bytes of a tensor, counted from anywhere: all from begin to end, or of columns that lie apart
/// `width` of every `pitch`.
struct Stretch {
  std::ptrdiff_t begin, end, pitch, width;

  Stretch(std::ptrdiff_t at, const Spec& spec)
      : begin(at), end(at + static_cast<std::ptrdiff_t>(spec.bytes())), pitch(0), width(0) {
    if (spec.pitch == 0) return;
    const auto value_bytes = static_cast<std::ptrdiff_t>(size_of(spec.dtype));
    pitch = spec.pitch * value_bytes;
    width = spec.shape[1] * value_bytes;
  }

  [[nodiscard]] bool meets(const Stretch& other) const {
    if (other.begin >= end || begin >= other.end) return false;
    if (pitch == 0 || pitch != other.pitch) return true;
    const std::ptrdiff_t right = ((other.begin - begin) % pitch + pitch) % pitch;  // of our columns
    return right < width || pitch - right < other.width;
  }
};

/// Tensors that lie in the same bytes, and where relative to each other.
struct Groups {
  std::vector<int> parent;
  std::vector<std::ptrdiff_t> offset;  // from the parent's first byte

  explicit Groups(int size) : parent(row(size)), offset(row(size)) {
    std::iota(parent.begin(), parent.end(), 0);
  }
  [[nodiscard]] std::pair<int, std::ptrdiff_t> find(int id) const {
    std::ptrdiff_t at = 0;
    for (; parent[row(id)] != id; id = parent[row(id)]) at += offset[row(id)];
    return {id, at};
  }
  /// Puts `inner` at `begin` bytes from the first of `outer`.
  void join(const Graph& graph, int inner, int outer, std::ptrdiff_t begin) {
    const auto [inner_root, inner_at] = find(inner);
    const auto [outer_root, outer_at] = find(outer);
    if (inner_root == outer_root) {
      if (inner_at != outer_at + begin)
        throw ShapeError(text("pack: ", graph.describe(inner),
                              " would have to lie in two places; duplicate() it first"));
      return;
    }
    parent[row(inner_root)] = outer_root;
    offset[row(inner_root)] = outer_at + begin - inner_at;
  }
};

void join_views(const Graph& graph, Groups& groups) {
  for (const Node& node : graph.nodes) {
    if (node.op->view == nullptr) continue;
    const auto inputs = graph.specs(node.inputs), outputs = graph.specs(node.outputs);
    const auto begins = node.op->view({inputs, outputs, node.attributes});
    for (std::size_t i = 0; i < begins.size(); ++i)
      groups.join(graph, node.inputs[i], node.outputs[0], begins[i]);
  }
}

/// One storage per group, as large as its outermost tensors.
Storages storages_of(const Graph& graph, const Groups& groups) {
  Storages result;
  const auto count = row(graph.tensors.size());
  result.of.resize(count), result.begin.resize(count);
  std::vector<int> storage_of_root(count, -1);
  std::vector<std::ptrdiff_t> low, high;
  for (int id = 0; id < graph.tensors.size(); ++id) {
    const auto [root, at] = groups.find(id);
    int& storage = storage_of_root[row(root)];
    if (storage < 0) {
      storage = static_cast<int>(result.all.size());
      result.all.emplace_back(), low.push_back(at), high.push_back(at);
    }
    result.of[row(id)] = storage;
    result.begin[row(id)] = at;
    const auto bytes = static_cast<std::ptrdiff_t>(graph.tensors.spec[row(id)].bytes());
    low[row(storage)] = std::min(low[row(storage)], at);
    high[row(storage)] = std::max(high[row(storage)], at + bytes);
    if (graph.tensors.persistent(id)) result.all[row(storage)].persistent = id;
  }
  for (std::size_t id = 0; id < count; ++id) result.begin[id] -= low[row(result.of[id])];
  for (std::size_t s = 0; s < result.all.size(); ++s)
    result.all[s].bytes = static_cast<std::size_t>(high[s] - low[s]);
  return result;
}

void note_uses(const Graph& graph, Storages& storages) {
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[row(i)];
    if (node.op->view != nullptr) continue;
    for (const auto* ids : {&node.inputs, &node.outputs}) {
      for (const int id : *ids) {
        Storage& storage = storages.all[row(storages.of[row(id)])];
        if (storage.first < 0) storage.first = i, storage.member = node.member;
        if (storage.member != node.member) storage.member = -1;
        storage.end = i + 1;
      }
    }
  }
}

/// Gives outputs the bytes of inputs that nobody reads later. Only between bytes of one member:
/// sharing them with others would make the members wait for each other.
class InPlace {
 public:
  InPlace(const Graph& graph, Storages& storages) : graph_(graph), storages_(storages) {
    merged_.resize(storages.all.size());
    std::iota(merged_.begin(), merged_.end(), 0);
  }

  void run() {
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i) {
      const Node& node = graph_.nodes[row(i)];
      if (node.op->overwrites >= 0) try_node(i, node);
    }
    for (int& storage : storages_.of) storage = resolve(storage);
    for (std::size_t s = 0; s < merged_.size(); ++s) {
      if (merged_[s] != static_cast<int>(s)) storages_.all[s] = {};
    }
  }

 private:
  void try_node(int i, const Node& node) {
    const int in = node.inputs[row(node.op->overwrites)], out = node.outputs[0];
    const int from = storage(in), to = storage(out);
    Storage &old = storages_.all[row(from)], &fresh = storages_.all[row(to)];
    const auto shared =
        std::ranges::count_if(node.inputs, [&](int id) { return storage(id) == from; });
    const std::size_t bytes = graph_.tensors.spec[row(out)].bytes();
    if (from == to || old.persistent >= 0 || fresh.persistent >= 0 || old.end != i + 1 ||
        shared != 1 || old.bytes != bytes || fresh.bytes != bytes ||
        graph_.tensors.spec[row(in)].bytes() != bytes || old.member < 0 ||
        old.member != fresh.member)
      return;
    old.end = fresh.end;
    merged_[row(to)] = from;
  }
  [[nodiscard]] int storage(int id) const { return resolve(storages_.of[row(id)]); }
  [[nodiscard]] int resolve(int storage) const {
    while (merged_[row(storage)] != storage) storage = merged_[row(storage)];
    return storage;
  }

  const Graph& graph_;
  Storages& storages_;
  std::vector<int> merged_;  // storage -> the one that took it over, or itself
};

/// A stretch of a storage that a node reads or writes.
struct Use {
  int member;
  Stretch stretch;
  bool writes;

  [[nodiscard]] bool conflicts(const Use& other) const {
    return other.member != member && (other.writes || writes) && stretch.meets(other.stretch);
  }
};

template <typename F>
void each_use(const Graph& graph, const Storages& storages, const Node& node, const F& visit) {
  if (node.op->view != nullptr) return;
  for (const auto* ids : {&node.inputs, &node.outputs}) {
    for (const int id : *ids) {
      const Stretch stretch(storages.begin[row(id)], graph.tensors.spec[row(id)]);
      visit(row(storages.of[row(id)]), Use{node.member, stretch, ids == &node.outputs});
    }
  }
}

}  // namespace

Storages assign_storages(const Graph& graph, bool in_place) {
  Groups groups(graph.tensors.size());
  join_views(graph, groups);
  for (const Node& node : graph.nodes) {
    for (int i = 0; i < node.op->updates; ++i)
      groups.join(graph, node.outputs[row(i)], node.inputs[row(i)], 0);
  }
  Storages storages = storages_of(graph, groups);
  note_uses(graph, storages);
  if (in_place) InPlace(graph, storages).run();
  return storages;
}

std::vector<int> phases(const Graph& graph, const Storages& storages) {
  std::vector<std::vector<Use>> uses(storages.all.size());  // in the phase that goes on
  std::vector<int> result;
  int phase = 0;
  for (const Node& node : graph.nodes) {
    bool meets = false;
    each_use(graph, storages, node, [&](std::size_t storage, const Use& use) {
      meets = meets || std::ranges::any_of(uses[storage],
                                           [&](const Use& other) { return use.conflicts(other); });
    });
    if (meets) {
      ++phase;
      for (auto& list : uses) list.clear();
    }
    each_use(graph, storages, node,
             [&](std::size_t storage, const Use& use) { uses[storage].push_back(use); });
    result.push_back(phase);
  }
  return result;
}

std::vector<std::vector<int>> predecessors(const Graph& graph) {
  Groups values(graph.tensors.size());  // tensors that show the same value: views, but not updates
  join_views(graph, values);
  struct Reader {
    int node;
    Stretch stretch;
  };
  const auto place = [&](int id, int node) {
    const auto [root, at] = values.find(id);
    return std::pair{root, Reader{node, Stretch(at, graph.tensors.spec[row(id)])}};
  };
  std::vector<int> producer(row(graph.tensors.size()), -1);
  std::vector<std::vector<Reader>> readers(row(graph.tensors.size()));
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[row(i)];
    for (const int id : node.outputs) producer[row(id)] = i;
    if (node.op->view != nullptr) continue;
    for (const int id : node.inputs) {
      const auto [root, reader] = place(id, i);
      readers[row(root)].push_back(reader);
    }
  }
  std::vector<std::vector<int>> before(graph.nodes.size());
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    const Node& node = graph.nodes[row(i)];
    for (const int id : node.inputs) {
      if (producer[row(id)] >= 0) before[row(i)].push_back(producer[row(id)]);
    }
    for (int k = 0; k < node.op->updates; ++k) {
      const auto [root, mine] = place(node.inputs[row(k)], i);
      for (const Reader& other : readers[row(root)]) {
        if (other.node != i && other.stretch.meets(mine.stretch))
          before[row(i)].push_back(other.node);
      }
    }
  }
  return before;
}

std::string check_order(const Graph& graph) {
  const auto before = predecessors(graph);
  for (int i = 0; i < static_cast<int>(graph.nodes.size()); ++i) {
    for (const int other : before[row(i)]) {
      if (other < i) continue;
      const Node &late = graph.nodes[row(other)], &update = graph.nodes[row(i)];
      return text(late.op->name, ": reads ", graph.describe(update.inputs[0]), " after ",
                  update.op->name, " changed it; read what ", update.op->name, "() returned");
    }
  }
  return "";
}

}  // namespace poolgrad
