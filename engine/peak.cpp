// Reads the witness of the lower bound: which nodes run at that moment, and what each slot that is
// alive waits for.
#include "engine/peak.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// The nodes with work that touch each storage, in order; a node that writes is told apart.
struct Touch {
  int node = 0;
  bool writes = false;
};

std::vector<std::vector<Touch>> touches(const Entry& entry) {
  std::vector<std::vector<Touch>> result(entry.storages.all.size());
  for (const Step& step : entry.steps) {
    const Node& node = entry.graph->nodes[row(step.node)];
    const auto note = [&](int storage, bool writes) {
      auto& list = result[row(storage)];
      if (list.empty() || list.back().node != step.node) list.push_back({step.node, false});
      list.back().writes = list.back().writes || writes;
    };
    for (const int id : node.inputs) note(entry.storages.of[row(id)], false);
    for (const int id : node.outputs) note(entry.storages.of[row(id)], true);
    if (step.workspace >= 0) note(step.workspace, true);
  }
  return result;
}

/// The op that a part adds for goes by the op's own name: parts of one tensor are alike.
std::string whole(std::string_view op) {
  constexpr std::string_view kTwin = "_add";
  if (op.ends_with(kTwin)) op.remove_suffix(kTwin.size());
  return std::string(op);
}

/// Names nodes, and says where the moment is on the clock of each storage.
class Moment {
 public:
  explicit Moment(const Entry& entry) : entry_(entry), step_of_(entry.graph->nodes.size(), -1) {
    for (std::size_t i = 0; i < entry.steps.size(); ++i)
      step_of_[row(entry.steps[i].node)] = static_cast<int>(i);
  }

  [[nodiscard]] StepName name(int node) const {
    const Graph& graph = *entry_.graph;
    StepName result{step_of_[row(node)], whole(graph.nodes[row(node)].op->name), ""};
    for (const int id : graph.nodes[row(node)].outputs) {
      if (result.layer.empty()) result.layer = graph.tensors.layer[row(id)];
    }
    for (const int id : graph.nodes[row(node)].inputs) {  // an update's weight knows its layer
      if (result.layer.empty()) result.layer = graph.tensors.layer[row(id)];
    }
    return result;
  }
  /// The node at which `member` stands; nothing for a member without bytes of its own.
  [[nodiscard]] std::optional<int> node_of(int member) const {
    for (const memory::Witness::Step& step : entry_.plan.witness.steps) {
      if (step.member == member) return step.step;
    }
    return {};
  }
  [[nodiscard]] int phase_of(int node) const {
    return entry_.steps[row(step_of_[row(node)])].phase;
  }
  [[nodiscard]] int phase() const { return entry_.plan.witness.phase; }

 private:
  const Entry& entry_;
  std::vector<int> step_of_;  // node -> its step, or -1
};

struct Reason {
  Why why = Why::needed;
  int holder = -1, next = -1;  // nodes
};

/// Of bytes that one member alone touches: what comes next on that member's clock.
Reason reason(const std::vector<Touch>& touches, int now) {
  Reason result{.holder = touches.front().node};
  for (const Touch& touch : touches) {
    if (touch.writes && touch.node <= now) result.holder = touch.node;
    if (touch.node >= now && result.next < 0) {
      result.next = touch.node;
      if (touch.node == now) result.why = touch.writes ? Why::made : Why::read;
    }
  }
  if (result.why == Why::read && touches.back().node > now) {
    result.why = Why::needed;  // read now and again later
    result.next = std::ranges::find_if(touches, [&](const Touch& t) { return t.node > now; })->node;
  }
  return result;
}

/// Of bytes that several members touch: within a phase there is no order.
Reason reason(const std::vector<Touch>& touches, const Moment& moment) {
  Reason result{.holder = touches.front().node};
  for (const Touch& touch : touches) {
    const int phase = moment.phase_of(touch.node);
    if (touch.writes && phase <= moment.phase()) result.holder = touch.node;
    if (phase == moment.phase()) result.why = Why::phase;
    if (phase >= moment.phase() && result.next < 0) result.next = touch.node;
  }
  return result;
}

}  // namespace

std::size_t LayerBytes::sum() const {
  return std::accumulate(by.begin(), by.end(), std::size_t{0});
}

std::string to_string(Why why) {
  constexpr std::array<const char*, 4> kNames{"made", "read", "needed", "phase"};
  return kNames[static_cast<std::size_t>(why)];
}

std::vector<LayerBytes> bytes_at_peak(const Blueprint& blueprint, std::string_view name) {
  std::vector<LayerBytes> result;
  const auto add = [&](const ReportRow& slot) {
    auto layer = std::ranges::find(result, slot.layer, &LayerBytes::layer);
    if (layer == result.end()) {
      result.push_back({slot.layer, {}});
      layer = result.end() - 1;
    }
    layer->by[static_cast<std::size_t>(slot.role)] += slot.bytes;
  };
  for (const ReportRow& slot : report(blueprint, name)) {
    if (slot.persistent) add(slot);
  }
  for (const ReportRow& slot : alive_at_peak(blueprint, name)) add(slot);

  std::map<std::string, std::size_t> order;  // by first appearance
  for (const std::string& layer : blueprint.entry(name).graph->tensors.layer)
    order.emplace(layer, order.size());
  std::ranges::stable_sort(result, {}, [&](const LayerBytes& layer) { return order[layer.layer]; });
  return result;
}

std::vector<AliveGroup> alive_groups(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  const Moment moment(entry);
  const auto touched = touches(entry);
  std::map<std::tuple<Role, std::string, std::string, Why, std::string, std::string>, AliveGroup>
      groups;
  for (const ReportRow& slot : alive_at_peak(blueprint, name)) {
    const std::vector<Touch>& list = touched[row(slot.storage)];
    const std::optional<int> now = moment.node_of(entry.requests[row(slot.storage)].member);
    const Reason why = now ? reason(list, *now) : reason(list, moment);
    const StepName holder = moment.name(why.holder), next = moment.name(why.next);
    AliveGroup& group = groups[{slot.role, holder.op, slot.layer, why.why, next.op, next.layer}];
    if (group.slots == 0)
      group = {
          .role = slot.role, .op = holder.op, .layer = slot.layer, .why = why.why, .next = next};
    group.next.step = std::min(group.next.step, next.step);
    ++group.slots;
    group.bytes += slot.bytes;
  }
  std::vector<AliveGroup> result;
  for (auto& [key, group] : groups) result.push_back(std::move(group));
  std::ranges::stable_sort(result, std::ranges::greater{}, &AliveGroup::bytes);
  return result;
}

std::vector<StepName> fullest_steps(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  const Moment moment(entry);
  std::vector<StepName> result;
  for (const memory::Witness::Step& step : entry.plan.witness.steps)
    result.push_back(moment.name(step.step));
  return result;
}

const Entry& largest_entry(const Blueprint& blueprint) {
  return *std::ranges::max_element(blueprint.entries, {},
                                   [](const Entry& entry) { return entry.plan.arena_bytes; });
}

}  // namespace poolgrad
