// A walk over the runs in order. Whoever needs what is not there has it made just before, from what
// is kept or from what is made again in turn.
#include "engine/passes/recompute_walk.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

}  // namespace

Walk::Walk(const Graph& graph, const std::vector<Run>& found)
    : nodes(graph.nodes), runs(found), graph_(graph) {
  usual.assign(nodes.size(), Saved::kept);
  for (const Node& node : nodes)
    backward_.push_back(!node.outputs.empty() &&
                        graph_.tensors.backward[row(node.outputs[0])] != 0);
  take_back();
  note_places();
  note_droppable();
}

/// A node of the backward pass that is equal to one of the forward pass was made by recompute().
void Walk::take_back() {
  std::vector<int> stands_for(row(graph_.tensors.size()), -1);
  std::vector<bool> gone(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (int& id : nodes[i].inputs) {
      if (stands_for[row(id)] >= 0) id = stands_for[row(id)];
    }
    if (!nodes[i].op->recompute || !backward_[i]) continue;
    std::size_t first = 0;
    while (first < i && (nodes[first].op != nodes[i].op || backward_[first] ||
                         nodes[first].inputs != nodes[i].inputs ||
                         !(nodes[first].attributes == nodes[i].attributes)))
      ++first;
    if (first == i) continue;
    for (std::size_t k = 0; k < nodes[i].outputs.size(); ++k)
      stands_for[row(nodes[i].outputs[k])] = nodes[first].outputs[k];
    usual[first] = Saved::once;
    gone[i] = true;
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (gone[i]) nodes[i].inputs.clear(), nodes[i].outputs.clear();
  }
  for (Run& run : runs)
    std::erase_if(run.nodes, [&](const CutNode& cut) { return gone[row(cut.node)]; });
  std::erase_if(runs, [](const Run& run) { return run.nodes.empty(); });
}

void Walk::note_places() {
  Graph now = graph_.copy();
  now.nodes = nodes;
  storages = assign_storages(now, false);
  run_of.assign(nodes.size(), -1);
  cut_of.resize(nodes.size());
  everywhere.resize(nodes.size());
  producer.assign(row(graph_.tensors.size()), -1);
  maker.assign(storages.all.size(), -1);
  last_forward_.assign(storages.all.size(), -1);
  updated_.resize(storages.all.size());
  first_backward_ = static_cast<int>(runs.size());
  std::vector<bool> several(storages.all.size());
  int place = -1;
  for (int r = 0; r < static_cast<int>(runs.size()); ++r) {
    for (const CutNode& cut : runs[row(r)].nodes) {
      const Node& node = nodes[row(cut.node)];
      ++place;
      run_of[row(cut.node)] = r;
      cut_of[row(cut.node)] = cut.cut;
      everywhere[row(cut.node)] = cut.everywhere;
      if (backward(cut.node)) first_backward_ = std::min(first_backward_, r);
      for (const int id : node.outputs) {
        const std::size_t s = row(storages.of[row(id)]);
        producer[row(id)] = cut.node;
        if (node.op->view != nullptr) continue;
        several[s] = several[s] || (maker[s] >= 0 && maker[s] != cut.node);
        maker[s] = cut.node;
        last_forward_[s] = place;
      }
      for (int k = 0; k < node.op->updates; ++k)
        updated_[row(storages.of[row(node.inputs[row(k)])])].push_back(r);
      if (backward(cut.node) || node.op->view != nullptr) continue;
      for (const int id : node.inputs) last_forward_[row(storages.of[row(id)])] = place;
    }
  }
  for (std::size_t s = 0; s < maker.size(); ++s) {
    if (several[s] || storages.all[s].persistent >= 0) maker[s] = -1;
  }
}

void Walk::note_droppable() {
  droppable.assign(nodes.size(), false);
  for (int i = 0; i < static_cast<int>(nodes.size()); ++i) droppable[row(i)] = can_be_made_again(i);
  std::vector<bool> read(storages.all.size());  // by the backward pass
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!backward_[i] || nodes[i].op->view != nullptr) continue;
    for (const int id : nodes[i].inputs) read[row(storages.of[row(id)])] = true;
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const bool is_read = std::ranges::any_of(
        nodes[i].outputs, [&](int id) { return read[row(storages.of[row(id)])]; });
    // What nobody kept is better made again from what is kept than kept for making another again.
    if (droppable[i] && !is_read) usual[i] = Saved::each;
    if (!droppable[i]) usual[i] = Saved::kept;
  }
  reads_.resize(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const int id : nodes[i].inputs) {
      const std::size_t s = row(storages.of[row(id)]);
      if (maker[s] >= 0 && droppable[row(maker[s])])
        reads_[i].push_back({id, producer[row(id)], maker[s], last_forward_[s]});
    }
  }
}

bool Walk::can_be_made_again(int i) const {
  const Node& node = nodes[row(i)];
  if (run_of[row(i)] < 0 || everywhere[row(i)] || backward(i) || node.op->view != nullptr ||
      node.op->updates > 0)
    return false;
  const auto updated_early = [&](int id) {
    return std::ranges::any_of(updated_[row(storages.of[row(id)])],
                               [&](int r) { return r < first_backward_; });
  };
  const bool cut = runs[row(run_of[row(i)])].parts > 1;
  for (std::size_t k = 0; k < node.outputs.size(); ++k) {
    if (maker[row(storages.of[row(node.outputs[k])])] != i ||
        (cut && cut_of[row(i)].output(k) != Share::rows))
      return false;
  }
  return std::ranges::none_of(node.inputs, updated_early);
}

bool Walk::original(int id, int place, const std::vector<Saved>& saved) const {
  const int s = storages.of[row(id)];
  const int made_by = maker[row(s)];
  return made_by < 0 ||
         original({id, producer[row(id)], made_by, last_forward_[row(s)]}, place, saved);
}

/// Whether what `node` makes can be made part by part in run `r`.
bool Walk::cut_alike(int node, int r) const {
  const Run &there = runs[row(run_of[row(node)])], &here = runs[row(r)];
  if (here.parts == 1 || there.parts != here.parts || there.length != here.length) return false;
  for (const int id : nodes[row(node)].inputs) {
    if (std::ranges::count(updated_[row(storages.of[row(id)])], r) > 0) return false;
  }
  return true;
}

/// What is needed before the run, or whole within it, is made before the run.
void Walk::put_before(Turns& turns, int r) const {
  const std::size_t begin = row(turns.begins_.back());
  for (std::size_t t = turns.turns_.size(); t-- > begin;) {
    Turn& turn = turns.turns_[t];
    const Node& node = nodes[row(turn.node)];
    const Cut& cut = cut_of[row(turn.node)];
    if (turn.again) turn.before = turns.wanted_[row(turn.node)] == r || !cut_alike(turn.node, r);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const int from = producer[row(node.inputs[k])];
      if (from >= 0 && (turn.before || cut.input(k) != Share::rows)) turns.wanted_[row(from)] = r;
    }
  }
  std::stable_partition(turns.turns_.begin() + turns.begins_.back(), turns.turns_.end(),
                        [](const Turn& turn) { return turn.before; });
}

/// Whether what was made again before will do.
bool Walk::is_there(const Turns& turns, const Choosing& choice, int r, int place, int node) const {
  const int made = turns.made_[row(node)];
  const bool view = nodes[row(node)].op->view != nullptr;
  if (view || choice.saved[row(node)] == Saved::each) return made == r;
  if (choice.saved[row(node)] == Saved::once || made < 0) return made >= 0;
  const std::vector<int>& times = choice.times[row(node)];
  const auto later = std::ranges::upper_bound(times, place);
  return later == times.begin() || made >= *std::prev(later);
}

void Walk::make_again(Turns& turns, const Choosing& choice, int r, int place, int node) const {
  if (is_there(turns, choice, r, place, node)) return;
  const bool timed =
      nodes[row(node)].op->view == nullptr && choice.saved[row(node)] == Saved::timed;
  turns.made_[row(node)] = timed ? place : r;
  for (const Read& read : reads_[row(node)]) {
    if (!original(read, place, choice.saved)) make_again(turns, choice, r, place, read.producer);
  }
  turns.turns_.push_back({node, place, true});
}

void Walk::turns(const std::vector<Saved>& saved, const Times& times, Turns& result) const {
  const Choosing choice{saved, times};
  result.turns_.clear();
  result.begins_.assign(1, 0);
  result.made_.assign(nodes.size(), -1);
  result.wanted_.assign(nodes.size(), -1);
  int place = 0;
  for (int r = 0; r < static_cast<int>(runs.size()); ++r) {
    for (const CutNode& cut : runs[row(r)].nodes) {
      if (backward(cut.node)) {
        for (const Read& read : reads_[row(cut.node)]) {
          if (!original(read, place, saved)) make_again(result, choice, r, place, read.producer);
        }
      }
      result.turns_.push_back({cut.node, place++});
    }
    const std::size_t made = result.turns_.size() - row(result.begins_.back());
    if (made > runs[row(r)].nodes.size()) put_before(result, r);
    result.begins_.push_back(static_cast<int>(result.turns_.size()));
  }
}

}  // namespace poolgrad::passes
