// Products read and make halves, and what follows them goes on with halves. f32 stay: parameters
// with their gradients and moments, whatever else has bytes of its own, and what OpDef::precise ops
// make with what follows them. Of single ops this pass knows that differentiate() adds up with
// kAdd.
#include <algorithm>
#include <map>
#include <utility>

#include "engine/ops.h"
#include "engine/passes/passes.h"
#include "engine/passes/runs.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

bool is_product(const Node& node) { return node.op->flops != nullptr; }

class Precision {
 public:
  Precision(Graph& graph, DType half)
      : graph_(graph),
        half_(half),
        wide_(row(graph.tensors.size())),
        is_half_(row(graph.tensors.size())) {
    for (int id = 0; id < graph.tensors.size(); ++id)
      is_half_[row(id)] = is_half(dtype(id)) || graph.tensors.column[row(id)] == "inputs";
  }

  void run() {
    note_wide();
    for (Node& node : std::exchange(graph_.nodes, {})) place(std::move(node));
  }

 private:
  [[nodiscard]] DType dtype(int id) const { return graph_.tensors.spec[row(id)].dtype; }

  /// What updates read, also by way of views and sums: gradients of parameters.
  void note_wide() {
    for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
      const bool passes_on = node->op->view != nullptr || node->op == &kAdd;
      if (node->op->updates == 0 && !(passes_on && wide_[row(node->outputs[0])])) continue;
      for (const int id : node->inputs) wide_[row(id)] = true;
    }
  }

  void place(Node node) {
    if (node.op->updates > 0) {
      for (int& id : node.inputs) id = as_float(id);
      graph_.nodes.push_back(std::move(node));
    } else if (node.op->view != nullptr || node.op->any_dtype) {
      place_mover(std::move(node));
    } else {
      place_maker(std::move(node));
    }
  }

  /// Its outputs are as its inputs, which are made alike.
  void place_mover(Node node) {
    const bool wide = std::ranges::any_of(node.outputs, [&](int id) { return wide_[row(id)]; });
    const std::span moved(node.inputs.data(), moved_inputs(node));
    const auto kept_as_half = [&](int id) { return is_half(dtype(as_kept(id))); };
    const bool mixed = !wide && std::ranges::any_of(moved, kept_as_half);
    for (int& id : moved) id = wide ? as_float(id) : mixed ? as_half(id) : id;
    const auto inputs = graph_.specs(node.inputs);
    const std::vector<Spec> made = infer(*node.op, {inputs, {}, node.attributes});
    const bool half = std::ranges::any_of(moved, [&](int id) { return is_half_[row(id)]; });
    for (const int id : node.outputs) is_half_[row(id)] = half;
    store(std::move(node), [&](std::size_t k) { return made[k].dtype; });
  }
  [[nodiscard]] std::size_t moved_inputs(const Node& node) const {
    if (node.op->view == nullptr) return node.inputs.size();
    const auto inputs = graph_.specs(node.inputs), outputs = graph_.specs(node.outputs);
    return node.op->view({inputs, outputs, node.attributes}).size();
  }

  void place_maker(Node node) {
    const std::vector<bool> streams = streams_of(node);
    const bool wanted_wide =
        std::ranges::any_of(node.outputs, [&](int id) { return wide_[row(id)]; });
    bool halves = false, floats = false;  // among what streams through
    for (std::size_t k = 0; k < streams.size(); ++k) {
      const int id = node.inputs[k];
      if (!streams[k] || (dtype(id) != DType::f32 && !is_half(dtype(id)))) continue;
      (is_half_[row(id)] ? halves : floats) = true;
    }
    const bool sums = node.op == &kAdd && wanted_wide;
    const bool reads_halves = is_product(node) || (halves && !node.op->precise && !sums);
    for (std::size_t k = 0; k < streams.size(); ++k) {
      int& id = node.inputs[k];
      if (sums) {
        id = as_float(id);
      } else if (is_product(node) || (streams[k] && reads_halves)) {
        id = as_half(id);
      }
    }
    const bool wide = is_product(node) ? wanted_wide : !reads_halves && (floats || halves || sums);
    const bool makes_floats =
        std::ranges::any_of(node.outputs, [&](int id) { return dtype(id) == DType::f32; });
    if (makes_floats) node.floats = wide || node.op->precise ? DType::f32 : half_;
    const DType kept = node.floats.value_or(DType::f32);
    store(std::move(node), [&](std::size_t) { return kept; });
  }
  /// Which inputs have rows of their own for each row of the batch: not what is one for all of
  /// them, as a channel's mean is. Where an op can only be done whole, all count.
  [[nodiscard]] std::vector<bool> streams_of(const Node& node) const {
    std::vector<bool> result(node.inputs.size(), true);
    const auto cuts = cuts_of(graph_, node);
    for (std::size_t k = 0; !cuts.empty() && k < result.size(); ++k)
      result[k] = cuts[0].input(k) == Share::rows || cuts[0].input(k) == Share::columns;
    return result;
  }

  /// Appends the node, whose f32 results are `kept(k)`. Where another node or the caller needs f32,
  /// these stand beside.
  template <typename F>
  void store(Node node, const F& kept) {
    std::vector<std::pair<int, int>> back;  // made as halves, and what it must become
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      int& id = node.outputs[k];
      if (dtype(id) != DType::f32 || !is_half(kept(k))) continue;
      if (graph_.tensors.persistent(id) || wide_[row(id)]) {
        const int fresh = like(id, half_);
        halves_[id] = fresh;
        is_half_[row(id)] = true;
        back.emplace_back(fresh, id);
        id = fresh;
      } else {
        graph_.tensors.spec[row(id)].dtype = kept(k);
        is_half_[row(id)] = true;
      }
    }
    graph_.nodes.push_back(std::move(node));
    for (const auto& [from, to] : back) cast_into(from, to, DType::f32);
  }

  // ---- one value, twice

  /// As what it was made, where f32 stand beside.
  [[nodiscard]] int as_kept(int id) const {
    const auto found = halves_.find(id);
    return found == halves_.end() ? id : found->second;
  }
  int as_half(int id) {
    if (dtype(id) != DType::f32) return id;
    const auto found = halves_.find(id);
    if (found != halves_.end()) return found->second;
    const int fresh = like(id, half_);
    cast_into(id, fresh, half_);
    return halves_[id] = fresh;
  }
  int as_float(int id) {
    if (!is_half(dtype(id))) return id;
    const auto found = floats_.find(id);
    if (found != floats_.end()) return found->second;
    const int fresh = like(id, DType::f32);
    cast_into(id, fresh, DType::f32);
    return floats_[id] = fresh;
  }
  void cast_into(int from, int to, DType dtype) {
    (void)cast(graph_.handle(from), dtype);
    graph_.nodes.back().outputs[0] = to;
    grow();
  }
  int like(int id, DType dtype) {
    TensorTable& tensors = graph_.tensors;
    Spec spec = tensors.spec[row(id)];
    spec.dtype = dtype;
    const int fresh = tensors.add(spec);
    tensors.name[row(fresh)] = tensors.name[row(id)];
    tensors.layer[row(fresh)] = tensors.layer[row(id)];
    tensors.backward[row(fresh)] = tensors.backward[row(id)];
    grow();
    is_half_[row(fresh)] = is_half(dtype);
    return fresh;
  }
  /// One row per tensor in the tables here too.
  void grow() {
    wide_.resize(row(graph_.tensors.size()));
    is_half_.resize(row(graph_.tensors.size()));
  }

  Graph& graph_;
  DType half_;
  std::vector<bool> wide_;     // tensor -> f32, since an update reads it
  std::vector<bool> is_half_;  // tensor -> its values are those of halves, or are fed
  std::map<int, int> halves_;  // f32 -> the same values as halves
  std::map<int, int> floats_;  // halves -> the same values as f32
};

}  // namespace

void precision(Graph& graph, DType half) { Precision(graph, half).run(); }

}  // namespace poolgrad::passes
