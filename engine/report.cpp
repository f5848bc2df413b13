// Reads a blueprint's tables into rows and sums. How they are printed is in report_text.cpp.
#include "engine/report.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

Role role_of_column(const std::string& column) {
  if (column == "parameters") return Role::parameter;
  if (column == "gradients") return Role::gradient;
  if (column == "inputs") return Role::input;
  if (column == "kept" || column == "settings" || column == "counters" || column == "statistics" ||
      column == "scaler")
    return Role::other;
  return Role::moment;
}

/// The steps [first, end) in which a storage is alive: its own, or where several members touch it,
/// whole phases.
std::pair<int, int> steps_of(const Entry& entry, std::size_t storage) {
  const memory::Request& request = entry.requests[storage];
  const bool by_phase = request.member == memory::kSeveral;
  int first = static_cast<int>(entry.steps.size()), end = 0;
  for (int i = 0; i < static_cast<int>(entry.steps.size()); ++i) {
    const Step& step = entry.steps[row(i)];
    const bool inside = by_phase
                            ? step.phase >= request.first_phase && step.phase < request.end_phase
                            : step.node >= request.first && step.node < request.end;
    if (!inside) continue;
    first = std::min(first, i);
    end = i + 1;
  }
  return {first, end};
}

/// Names planned storages after the tensor that is first in them.
struct Makers {
  std::vector<int> tensor, node;  // by storage; -1: nobody (a workspace)

  explicit Makers(const Entry& entry)
      : tensor(entry.storages.all.size(), -1), node(entry.storages.all.size(), -1) {
    const std::vector<Node>& nodes = entry.graph->nodes;
    for (int i = 0; i < static_cast<int>(nodes.size()); ++i) {
      if (nodes[row(i)].op->view != nullptr) continue;
      for (const int id : nodes[row(i)].outputs) {
        const std::size_t storage = row(entry.storages.of[row(id)]);
        if (node[storage] >= 0) continue;
        tensor[storage] = id;
        node[storage] = i;
      }
    }
  }
};

std::vector<ReportRow> persistent_rows(const Blueprint& blueprint, const Entry& entry) {
  std::vector<ReportRow> rows;
  const TensorTable& tensors = blueprint.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    if (blueprint.offset[row(id)] < 0) continue;
    rows.push_back({.name = tensors.name[row(id)],
                    .layer = tensors.layer[row(id)],
                    .role = role_of_column(tensors.column[row(id)]),
                    .persistent = true,
                    .bytes = memory::aligned(tensors.spec[row(id)].bytes()),
                    .offset = static_cast<std::size_t>(blueprint.offset[row(id)]),
                    .first = 0,
                    .end = static_cast<int>(entry.steps.size())});
  }
  std::ranges::sort(rows, {}, &ReportRow::offset);
  return rows;
}

ReportRow planned_row(const Blueprint& blueprint, const Entry& entry, const Makers& makers,
                      std::size_t storage) {
  ReportRow result;
  result.storage = static_cast<int>(storage);
  result.bytes = memory::aligned(entry.requests[storage].bytes);
  if (!entry.plan.offsets.empty())
    result.offset = blueprint.persistent_bytes + entry.plan.offsets[storage];
  std::tie(result.first, result.end) = steps_of(entry, storage);
  int node = makers.node[storage];
  if (node >= 0) {
    const int id = makers.tensor[storage];
    result.layer = entry.graph->tensors.layer[row(id)];
    result.role = entry.graph->tensors.backward[row(id)] != 0 ? Role::gradient : Role::activation;
  } else {
    node = entry.storages.all[storage].first;
    result.role = Role::workspace;
    const std::vector<int>& outputs = entry.graph->nodes[row(node)].outputs;
    if (!outputs.empty()) result.layer = entry.graph->tensors.layer[row(outputs[0])];
  }
  result.name = entry.graph->nodes[row(node)].op->name;
  return result;
}

/// Planned storages that take part in the entry.
std::vector<ReportRow> planned_rows(const Blueprint& blueprint, const Entry& entry) {
  const Makers makers(entry);
  std::vector<ReportRow> rows;
  for (std::size_t storage = 0; storage < entry.requests.size(); ++storage) {
    if (memory::alive(entry.requests[storage]))
      rows.push_back(planned_row(blueprint, entry, makers, storage));
  }
  return rows;
}

}  // namespace

std::string to_string(Role role) {
  constexpr std::array<const char*, kRoles> kNames{"parameter",  "moment",    "input", "gradient",
                                                   "activation", "workspace", "other"};
  return kNames[static_cast<std::size_t>(role)];
}

std::vector<ReportRow> report(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  std::vector<ReportRow> rows = persistent_rows(blueprint, entry);
  std::vector<ReportRow> planned = planned_rows(blueprint, entry);
  std::ranges::stable_sort(planned, {}, &ReportRow::first);
  rows.insert(rows.end(), planned.begin(), planned.end());
  return rows;
}

std::vector<ReportSum> sums_by_layer(const std::vector<ReportRow>& rows) {
  std::map<std::tuple<bool, std::string, Role>, ReportSum> sums;
  for (const ReportRow& row : rows) {
    ReportSum& sum = sums[{row.persistent, row.layer, row.role}];
    sum.layer = row.layer;
    sum.role = row.role;
    sum.persistent = row.persistent;
    sum.bytes += row.bytes;
    ++sum.slots;
  }
  std::vector<ReportSum> result;
  for (const auto& [key, sum] : sums) result.push_back(sum);
  std::ranges::stable_sort(result, std::ranges::greater{}, &ReportSum::bytes);
  return result;
}

std::vector<ReportRow> alive_at_peak(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  const std::vector<std::size_t> alive = memory::alive_at(entry.requests, entry.plan.witness);
  const Makers makers(entry);
  std::vector<ReportRow> rows;
  for (const std::size_t storage : alive)
    rows.push_back(planned_row(blueprint, entry, makers, storage));
  std::ranges::stable_sort(rows, std::ranges::greater{}, &ReportRow::bytes);
  return rows;
}

}  // namespace poolgrad
